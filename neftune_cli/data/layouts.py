"""Layouts of instruction data: the column sets that are read, and the conversion of a table to examples."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from neftune_cli.config.choices import ALPACA, MESSAGES, PROMPT_COMPLETION, TEXT, prefer_layout
from neftune_cli.config.spec import InputSpec
from neftune_cli.config.values import columns_option
from neftune_cli.data.bad_rows import BadRow, RowError
from neftune_cli.data.columns import ChosenColumns, ColumnSet, RowReader, choose, layout_of_row
from neftune_cli.data.conversations import Conversation, conversation, example_of, prompted
from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.rows import (
    EMPTY_JSON,
    MissingCell,
    NamedRow,
    RowValues,
    Table,
    column_in_words,
    described,
    has_content,
    is_blank,
    name_in_data,
    sift,
    text_in,
    text_of,
)
from neftune_cli.data.spellings import (
    ANSWER_COLUMNS,
    ASSISTANT,
    BARE_LIST,
    END_OF_TURN,
    INPUT_COLUMNS,
    QUESTION_COLUMNS,
    SYSTEM_COLUMNS,
)
from neftune_cli.data.tool_calls import tools_in
from neftune_cli.data.turns import Remark, Turns, is_text_of_turns, list_in_text, listed_turns, media_clause, turns_in
from neftune_cli.data.unread import check_unread, unread_notes
from neftune_cli.formatting import capitalized, counted

__all__ = ["ColumnSet", "Reading", "example", "read_examples", "register_columns"]


@dataclass(frozen=True)
class Reading:
    """The examples of a table, and everything that was not read."""

    layout: str
    examples: tuple[Example, ...]
    """One example for each row that can be used, in the order of the rows. `place` names the row."""
    notes: tuple[str, ...]
    """Notes for the user on the layout, on columns and keys that are not read, and on dropped turns."""
    bad_rows: tuple[BadRow, ...]
    """Rows that cannot be used. The caller raises `problems_of(bad_rows)`, or drops and counts them."""


def read_examples(table: Table, inputs: InputSpec) -> Reading:
    """Convert every row to an example.

    Args:
        table: rows of one source.
        inputs: layout, columns and raw.

    Raises:
        UsageError: the columns match no layout, or a column that is not read changes what is trained.
    """
    chosen = choose(table, _COLUMN_SETS, inputs)
    check_unread(table, chosen)
    rows, bad_rows = sift(table.rows, lambda row: _read(row, chosen))
    examples = tuple(replace(row.value[0], place=row.position) for row in rows)
    remarks = _remark_notes(row.value[1] for row in rows)
    notes = (_layout_note(table, chosen), *unread_notes(table, chosen), *remarks)
    return Reading(chosen.column_set.layout, examples, notes, bad_rows)


def register_columns(columns: ColumnSet) -> None:
    """Add a column set in this process, with preference over the existing ones."""
    _COLUMN_SETS.insert(0, columns)
    prefer_layout(columns.layout)


def example(prompt: Sequence[Message], completion: str) -> Example:
    """Return an example that is identified by its content."""
    identity = content_id(prompt, completion)
    return Example(id=identity, prompt=tuple(prompt), completion=completion, cluster=identity)


def _read(row: RowValues, chosen: ChosenColumns) -> tuple[Example, tuple[Remark, ...]]:
    missing = _missing_cells(row, chosen)
    left_out = missing.keys() & set(chosen.column_set.optional)
    names = {column: name for column, name in chosen.names.items() if column not in left_out}
    try:
        found = chosen.column_set.read(NamedRow(row, names))
    except RowError as error:
        raise _of_another_layout(row, chosen) or error from error
    read, remarks = (example_of(found), found.remarks) if isinstance(found, Conversation) else (found, ())
    has_marker_remark = any(remark.fix == _USE_RAW for remark in remarks)
    of_turns = () if has_marker_remark else rendered_turn_remarks(read)
    return read, (*remarks, *missing.values(), *marker_remarks(read), *of_turns)


def _missing_cells(row: RowValues, chosen: ChosenColumns) -> dict[str, Remark]:
    """Return a remark for each column of which a CSV file has a cell such as `NaN`.

    The cell counts as missing if the column is optional, and as text otherwise.
    """
    if not isinstance(row, dict):  # rows of other formats have no such cells, and are not to be converted here
        return {}
    remarks = {}
    for column, name in chosen.names.items():
        cell = row.get(name)
        if isinstance(cell, MissingCell) and not (column in _JSON_COLUMNS and cell in EMPTY_JSON):
            is_optional = column in chosen.column_set.optional
            meaning = "counts as missing" if is_optional else "is text here, and missing for pandas and TRL"
            remarks[column] = Remark(f"Column '{name}' has the cell '{cell}', which {meaning}")
    return remarks


def _of_another_layout(row: RowValues, chosen: ChosenColumns) -> RowError | None:
    other = layout_of_row(row, _COLUMN_SETS, chosen)
    if other is None:
        return None
    what = f"the row has {other.in_words}, and other rows have {chosen.in_words}."
    if BARE_LIST in (*other.names.values(), *chosen.names.values()):
        return RowError(what, 'Write every row as {"messages": [...]}, or use a file for each kind of row.')
    fix = "Write all rows with the same columns, or use a file for each layout."
    if other.column_set.layout != chosen.column_set.layout:
        one = f"--format {chosen.column_set.layout} or --format {other.column_set.layout}"
        fix = f"{fix} To read one kind of rows only, use {one}, with --skip-bad-rows and --max-bad-share."
    return RowError(what, fix)


def _layout_note(table: Table, chosen: ChosenColumns) -> str:
    columns = ", ".join(chosen.names.values())
    if columns == BARE_LIST:
        return f"{table.source} has the layout {chosen.column_set.layout} (each row is a {BARE_LIST})."
    return f"{table.source} has the layout {chosen.column_set.layout} (columns: {columns})."


def _remark_notes(remarks: Iterable[Sequence[Remark]]) -> tuple[str, ...]:
    """Return a note for each remark, with the number of rows that have it."""
    counts = Counter(remark for of_row in remarks for remark in dict.fromkeys(of_row))
    return tuple(f"{remark.what}: {counted(rows, 'row')}. {remark.fix}".rstrip() for remark, rows in counts.items())


_SPECIAL = re.compile(
    r"<\|(?:im_start|im_end|user|assistant|system|end|start_header_id|begin_of_text|eot_id|endoftext)\|>"
    r"|<\uff5c(?:User|Assistant)\uff5c>|\[/?INST\]|<start_of_turn>"
)
_CHAT = re.compile(rf"{_SPECIAL.pattern}|### (?:Instruction|Response|Human|Assistant):")
"""Also the markers that are plain text for every tokenizer."""
_MEDIA = re.compile(r"<(image|audio|video)>|<\|(image|audio|video)(?:_pad)?\|>")
_RENDERED = "Prompts contain chat markers such as '{}', and the template adds its own"
_USE_RAW = "Use --raw if the prompts are rendered already."


def rendered_prompt_remarks(prompt: str) -> Iterator[Remark]:
    """Yield a remark if a prompt that the template renders contains chat markers already."""
    if marker := _CHAT.search(prompt):
        yield Remark(_RENDERED.format(marker.group()), _USE_RAW)


def rendered_turn_remarks(example: Example) -> Iterator[Remark]:
    """Yield a remark if turns contain chat markers. An end token at the end of an answer is not one of them."""
    texts = [END_OF_TURN.sub("", turn["content"]) for turn in example.turns if _CHAT.search(turn["content"])]
    if marker := next((found for text in texts if (found := _CHAT.search(text))), None):
        yield Remark(f"Turns contain chat markers such as '{marker.group()}', and the template adds its own")


def marker_remarks(example: Example) -> Iterator[Remark]:
    """Yield remarks on markers of media, which are read as plain text, and on chat markers in plain text."""
    texts = [*(turn["content"] for turn in example.turns), example.raw_prompt, example.completion]
    if marker := next((found for text in texts if (found := _MEDIA.search(text))), None):
        unread = media_clause(marker[1] or marker[2])
        yield Remark(f"Texts contain '{marker.group()}', which is read as plain text, since {unread}")
    if not example.has_prompt and (marker := _SPECIAL.search(example.completion)):
        yield Remark(f"Texts contain chat markers such as '{marker.group()}', which are special tokens of some models")


def _pair(prompt: str, completion: str) -> RowReader:
    """Return the conversion of a row with a prompt and a completion, each a text or a list of turns."""

    def read(row: RowValues) -> Conversation:
        asked, answered = _prompt(row, prompt), _completion(row, completion)
        _refuse_repeated(row, prompt, completion, asked, answered)
        history = _history(row)
        before = Turns((*history.messages, *asked.messages), (*history.remarks, *asked.remarks))
        places = (asked.place or column_in_words(row, prompt), answered.place or column_in_words(row, completion))
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
        return _turns_of_text(row, column)
    paragraphs, remarks = [text_in(row, column)], []
    if not is_blank(row.get("input")):
        paragraphs.append(text_in(row, "input"))
        if column != "instruction" or name_in_data(row, "input").strip().lower() in QUESTION_COLUMNS:
            remarks.append(
                Remark(f"{capitalized(column_in_words(row, 'input'))} is the second paragraph of the prompt")
            )
    prompt = "\n\n".join(paragraphs)
    return Turns((Message(role="user", content=prompt),), (*remarks, *rendered_prompt_remarks(prompt)))


def _completion(row: RowValues, column: str) -> Turns:
    value = row.get(column)
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        texts = counted(len(value), "text")
        what = f"{column_in_words(row, column)} has a list of {texts}, not one text or a list of turns."
        raise RowError(what, "Write one text, for example the preferred answer.")
    if _has_turns(row, column):
        return _turns_of_text(row, column)
    return Turns((Message(role=ASSISTANT, content=text_in(row, column)),))


def _refuse_repeated(row: RowValues, prompt: str, completion: str, asked: Turns, answered: Turns) -> None:
    """Refuse a completion that starts with the prompt, as the preferred conversations of preference data do."""
    questions = {turn["content"].strip() for turn in asked.messages if turn["role"] == "user"}
    before_answer = tuple(takewhile(lambda turn: turn["role"] != ASSISTANT, answered.messages))
    repeated = any(turn["role"] == "user" and turn["content"].strip() in questions for turn in before_answer)
    if repeated and before_answer != answered.messages:
        what = f"{column_in_words(row, completion)} repeats the prompt in {column_in_words(row, prompt)}."
        option = columns_option({"messages": name_in_data(row, completion)})
        raise RowError(what, f"Use {option} if it has whole conversations, or remove the prompt from it.")


def _has_turns(row: RowValues, column: str) -> bool:
    """Return whether a column has turns, or the text of turns, and not another text."""
    value = row.get(column)
    if isinstance(value, str):
        return is_text_of_turns(value, column_in_words(row, column))
    return isinstance(listed_turns(value), list | tuple)


def _turns_of_text(row: RowValues, column: str) -> Turns:
    """Return the turns of a column that can also have a text, with a remark if they are JSON text."""
    if not isinstance(row.get(column), str):
        return turns_in(row, column)
    place = column_in_words(row, column)
    turns = turns_in(row, column, f"{place} (JSON text, read as turns)")
    remark = Remark(f"JSON text in {place} is read as turns of a conversation")
    return replace(turns, remarks=(*turns.remarks, remark))


def _system(row: RowValues) -> str:
    return "" if is_blank(row.get("system")) else text_in(row, "system")


def _history(row: RowValues) -> Turns:
    """Return the turns of earlier questions and answers: a list of pairs or of turns, or its JSON text."""
    value, place = row.get("history"), column_in_words(row, "history")
    pairs = list_in_text(value, place) if isinstance(value, str) else value
    if not has_content(value) or pairs == []:
        return Turns(())
    if not isinstance(pairs, list | tuple):
        raise RowError(f"{place} contains {described(value)}, not a list of pairs.", _WRITE_PAIRS)
    if all(isinstance(pair, dict) for pair in pairs):
        return turns_in(row, "history")
    turns = (turn for number, pair in enumerate(pairs, start=1) for turn in _question_and_answer(pair, place, number))
    return Turns(tuple(turns))


def _question_and_answer(pair: object, place: str, number: int) -> tuple[Message, Message]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise RowError(f"{place}: item {number} is not a pair of a question and an answer.", _WRITE_PAIRS)
    question, answer = pair
    return (
        Message(role="user", content=text_of(question, f"{place}, item {number}: the question")),
        Message(role=ASSISTANT, content=text_of(answer, f"{place}, item {number}: the answer")),
    )


_WRITE_PAIRS = 'Write [["question", "answer"], ...].'
_SYSTEM = {"system": SYSTEM_COLUMNS}
_PARTS_OF_PROMPTS = ("choices", "options", "documents", "passage")
"""Columns with the possible answers of multiple-choice data, and with texts that a question is about."""
_JSON_COLUMNS = ("history", "tools")
"""Columns in which the JSON text `null` is read as nothing in every format."""
_PAIR_OPTIONS = ("input", "system", "history", "tools")


def _alpaca(*outputs: str) -> ColumnSet:
    return ColumnSet(
        layout=ALPACA,
        required=("instruction", "output"),
        read=_pair("instruction", "output"),
        optional=_PAIR_OPTIONS,
        names={"output": outputs, "input": (*INPUT_COLUMNS, *QUESTION_COLUMNS), **_SYSTEM},
        read_raw=_raw_pair("instruction", "output"),
        meaningful=(*QUESTION_COLUMNS, *_PARTS_OF_PROMPTS),
    )


def _prompt_completion(prompts: tuple[str, ...], completions: tuple[str, ...]) -> ColumnSet:
    return ColumnSet(
        layout=PROMPT_COMPLETION,
        required=("prompt", "completion"),
        read=_pair("prompt", "completion"),
        optional=_PAIR_OPTIONS,
        names={"prompt": prompts, "completion": completions, "input": INPUT_COLUMNS, **_SYSTEM},
        read_raw=_raw_pair("prompt", "completion"),
        meaningful=_PARTS_OF_PROMPTS,
    )


def _messages(*names: str) -> ColumnSet:
    return ColumnSet(
        layout=MESSAGES,
        required=("messages",),
        read=_turns,
        optional=("system", "tools"),
        names={"messages": names, **_SYSTEM},
    )


_COLUMN_SETS = [
    _alpaca("output", "response"),
    _prompt_completion(("prompt",), ("completion",)),
    _messages("messages", "conversations", BARE_LIST),
    ColumnSet(TEXT, ("text",), _text, read_raw=_text, meaningful=("role",)),
    _alpaca("output", "response", "answer", "completion"),
    _prompt_completion(("prompt", *QUESTION_COLUMNS, "input"), ANSWER_COLUMNS),
    _messages("messages", "conversations", "conversation", "dialog", "dialogue"),
]
"""All column sets by preference. `register_columns` adds to the start. Of the built-in ones, `text` comes after the
most common sets, because many data sets have a column `text` beside theirs. The sets after `text` accept more names,
and never change the reading of a data set that an earlier set fits."""
