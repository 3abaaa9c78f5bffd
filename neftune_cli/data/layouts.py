"""Built-in layouts: their columns with the names in data sets, and the conversion of a row to a conversation."""

import re

from neftune_cli.config.choices import ALPACA, MESSAGES, PROMPT_COMPLETION, TEXT
from neftune_cli.data.columns import ColumnSet, RowReader
from neftune_cli.data.conversations import Conversation, conversation, prompted
from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.rows import RowError, RowValues, column_in_words, described, is_blank, text_in
from neftune_cli.data.turns import ASSISTANT, Remark, Turns, list_in_text, tools_in, turns_in

CHAT_MARKER = re.compile(
    r"<\|(?:im_start|im_end|user|assistant|system|end|start_header_id|begin_of_text|eot_id|endoftext)\|>"
    r"|<\uff5c(?:User|Assistant)\uff5c>|\[/?INST\]|<start_of_turn>|### (?:Instruction|Response):"
)
RENDERED = "Prompts contain chat markers such as '{}', and the template adds its own"
USE_RAW = "Use --raw if the prompts are rendered already."


def _pair(prompt: str, completion: str) -> RowReader:
    """Return the conversion of a row with a prompt and a completion, each a text or a list of turns."""

    def read(row: RowValues) -> Conversation:
        asked, answered = _prompt(row, prompt), _completion(row, completion)
        history = _history(row)
        before = Turns((*history.messages, *asked.messages), (*history.remarks, *asked.remarks))
        places = (column_in_words(row, prompt), column_in_words(row, completion))
        return prompted(before, answered, places, system=_system(row), tools=tools_in(row, "tools"))

    return read


def _raw_pair(prompt: str, completion: str) -> RowReader:
    """Return the conversion of a row with a prompt and a completion that no template changes."""

    def read(row: RowValues) -> Example:
        asked, answered = text_in(row, prompt), text_in(row, completion)
        identity = content_id((), answered, {"raw_prompt": asked})
        return Example(id=identity, prompt=(), completion=answered, cluster=identity, raw_prompt=asked)

    return read


def _turns(row: RowValues) -> Conversation:
    place = column_in_words(row, "messages")
    return conversation(turns_in(row, "messages"), place, system=_system(row), tools=tools_in(row, "tools"))


def _text(row: RowValues) -> Example:
    text = text_in(row, "text")
    identity = content_id((), text)
    return Example(id=identity, prompt=(), completion=text, cluster=identity)


def _prompt(row: RowValues, column: str) -> Turns:
    if _has_turns(row, column):
        if not is_blank(row.get("input")):
            what = f"{column_in_words(row, 'input')} cannot be added to the turns in {column_in_words(row, column)}."
            raise RowError(what, "Move it into a turn, or name the other columns with --columns.")
        return turns_in(row, column)
    paragraphs, remarks = [text_in(row, column)], []
    if not is_blank(row.get("input")):
        paragraphs.append(text_in(row, "input"))
        if column != "instruction":
            remarks.append(Remark(f"C{column_in_words(row, 'input')[1:]} is the second paragraph of the prompt"))
    prompt = "\n\n".join(paragraphs)
    if marker := CHAT_MARKER.search(prompt):
        remarks.append(Remark(RENDERED.format(marker.group()), USE_RAW))
    return Turns((Message(role="user", content=prompt),), tuple(remarks))


def _completion(row: RowValues, column: str) -> Turns:
    if _has_turns(row, column):
        return turns_in(row, column)
    return Turns((Message(role=ASSISTANT, content=text_in(row, column)),))


def _has_turns(row: RowValues, column: str) -> bool:
    """Return whether a column has a list of turns, or the JSON text of one, and not a text."""
    value = row.get(column)
    if isinstance(value, str):
        turns = list_in_text(value)
        return bool(turns) and all(isinstance(turn, dict) and {"role", "from"} & set(turn) for turn in turns or ())
    return isinstance(value, list | tuple)


def _system(row: RowValues) -> str:
    return "" if is_blank(row.get("system")) else text_in(row, "system")


def _history(row: RowValues) -> Turns:
    """Return the turns of earlier questions and answers: a list of pairs or of turns, or its JSON text."""
    value = row.get("history")
    pairs = list_in_text(value) if isinstance(value, str) else value
    if is_blank(value) or pairs == []:
        return Turns(())
    place = column_in_words(row, "history")
    if not isinstance(pairs, list | tuple):
        raise RowError(f"{place} contains {described(value)}, not a list of pairs.", _WRITE_PAIRS)
    if all(isinstance(pair, dict) for pair in pairs):
        return turns_in(row, "history")
    turns = (turn for number, pair in enumerate(pairs, start=1) for turn in _question_and_answer(pair, place, number))
    return Turns(tuple(turns))


def _question_and_answer(pair: object, place: str, number: int) -> tuple[Message, Message]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise RowError(f"{place}: item {number} is not a pair of a question and an answer.", _WRITE_PAIRS)
    question, answer = ({"text": text} for text in pair)
    return (
        Message(role="user", content=text_in(question, "text")),
        Message(role=ASSISTANT, content=text_in(answer, "text")),
    )


_WRITE_PAIRS = 'Write [["question", "answer"], ...].'
_SYSTEM = {"system": ("system", "system_prompt", "system_message")}
_INPUT = {"input": ("input", "context")}
_PAIR_OPTIONS = ("input", "system", "history", "tools")


def _alpaca(*outputs: str) -> ColumnSet:
    return ColumnSet(
        ALPACA,
        ("instruction", "output"),
        _pair("instruction", "output"),
        _PAIR_OPTIONS,
        {"output": outputs, **_INPUT, **_SYSTEM},
        _raw_pair("instruction", "output"),
    )


def _prompt_completion(prompts: tuple[str, ...], completions: tuple[str, ...]) -> ColumnSet:
    return ColumnSet(
        PROMPT_COMPLETION,
        ("prompt", "completion"),
        _pair("prompt", "completion"),
        _PAIR_OPTIONS,
        {"prompt": prompts, "completion": completions, **_INPUT, **_SYSTEM},
        _raw_pair("prompt", "completion"),
    )


def _messages(*names: str) -> ColumnSet:
    return ColumnSet(MESSAGES, ("messages",), _turns, ("system", "tools"), {"messages": names, **_SYSTEM})


BUILT_IN = (
    _alpaca("output", "response"),
    _prompt_completion(("prompt",), ("completion",)),
    _messages("messages", "conversations"),
    ColumnSet(TEXT, ("text",), _text, read_raw=_text),
    _alpaca("output", "response", "answer", "completion"),
    _prompt_completion(("prompt", "question", "query", "input"), ("completion", "response", "answer", "output")),
    _messages("messages", "conversations", "conversation", "dialog", "dialogue"),
)
"""Built-in column sets in order of preference. `text` comes after the most common sets, beside which data sets have it.
The sets after it accept more names, and never change the reading of a data set that an earlier set fits."""
