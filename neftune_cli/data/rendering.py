"""Render conversations with a chat template, and check that the text contains each turn once and in order."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from neftune_cli.data.examples import Example, Message
from neftune_cli.data.rows import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Start and end index of a part of a text."""

REASONING_TAG = re.compile(r"</?(?:think|thinking|reasoning)>")
OPEN_REASONING = re.compile(r"<(think|thinking|reasoning)>(?!.*</\1>)", re.DOTALL)
CLOCK = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)""")
CHANGE_TURNS = "Change its turns, or use a model whose template accepts them."
CHANGE_TEMPLATE = "Use a model with another chat template, or remove the row."


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. Generation starts after the prompt."""

    prompt: str
    completion: str
    """The completion up to its end-of-turn token, which is missing if the template writes none."""
    earlier: tuple[Span, ...] = ()
    """Parts of the prompt with loss: earlier assistant turns with their end-of-turn tokens."""
    contents: tuple[Span, ...] = ()
    """Parts of prompt and completion that come from the data, not from the template."""
    opened: str = ""
    """Start of a reasoning block that the template's generation prompt opens and `prompt` leaves out."""


class ChatRenderer:
    """The chat template of a tokenizer, with a fixed clock."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, all_turns: bool = False, time: str | None = None
    ) -> None:
        """Find out how the template takes its input.

        Args:
            tokenizer: a tokenizer with a chat template.
            all_turns: whether earlier assistant turns carry loss. A template that TRL replaces for this purpose is
                replaced by the same one.
            time: time for templates that write a date, in ISO 8601; the current time if None.
        """
        self._tokenizer = tokenizer
        self._training_template = _training_template(tokenizer) if all_turns else None
        self._all_turns = all_turns
        self._eos = str(tokenizer.eos_token)
        self._clock = datetime.fromisoformat(time) if time else datetime.now()
        self._as_parts = self._wants_parts()
        self._checked: set[object] = set()

    def render(self, example: Example) -> Rendered:
        """Render a conversation.

        Raises:
            RowError: the template rejects the conversation, or drops, repeats or reorders a part of it.
        """
        self._check_structure(example)
        whole = self._text(example, example.turns)
        prompt = self._text(example, example.prompt, add_generation_prompt=True)
        rendered = self._divided(example, whole, prompt)
        located = _located(example, rendered)
        earlier = tuple(self._earlier(example, rendered.prompt)) if self._all_turns or _has_more(example) else ()
        return Rendered(rendered.prompt, rendered.completion, earlier, located, rendered.opened)

    def _divided(self, example: Example, whole: str, prompt: str) -> Rendered:
        """Divide the whole text into prompt and completion.

        Some templates drop the reasoning of the last turn, or render its start differently in a generation prompt. The
        completion of the data is then written after the generation prompt, as a model would generate it.
        """
        if whole.startswith(prompt) and _contains(whole[len(prompt) :], example.completion):
            return Rendered(prompt, self._to_end_of_turn(whole[len(prompt) :], example.completion))
        shared = _shared_start(prompt, whole)
        opened, completion = prompt[len(shared) :], example.completion.lstrip()
        if example.final_turn and example.final_turn.get("tool_calls"):
            if not whole.startswith(prompt):
                raise RowError(
                    "the chat template renders the tool calls of the last turn differently.", CHANGE_TEMPLATE
                )
            return Rendered(prompt, self._to_end_of_turn(whole[len(prompt) :], example.completion))
        if opened.strip() and completion.startswith(opened.strip()):
            return Rendered(prompt, completion.removeprefix(opened.strip()).removeprefix("\n" * opened.endswith("\n")))
        if OPEN_REASONING.search(opened) and not REASONING_TAG.search(completion):
            return Rendered(
                shared, self._to_end_of_turn(whole[len(shared) :], example.completion), opened=opened.strip()
            )
        return Rendered(prompt, example.completion)

    def _to_end_of_turn(self, text: str, content: str) -> str:
        """Remove everything after the first end-of-sequence token that follows the content."""
        content = _without_reasoning(content)
        end = text.find(self._eos, text.rfind(content) + len(content) if content else 0)
        return text if end < 0 else text[: end + len(self._eos)]

    def _earlier(self, example: Example, prompt: str) -> Iterator[Span]:
        """Yield the assistant turns of the prompt that carry loss, each with its end-of-turn token.

        A template with generation markers says where they are. Otherwise a turn starts where the rendered turns before
        it end, and ends after its text and an end-of-sequence token.
        """
        learned = _learned_turns(example, all_turns=self._all_turns)
        if not learned:
            return
        marked = self._marked(example)
        assistants = [index for index, turn in enumerate(example.turns) if turn["role"] == "assistant"]
        for index in learned:
            if marked and len(marked) == len(assistants):
                start, end = marked[assistants.index(index)]
            else:
                start, end = self._between_prefixes(example, index, prompt)
            if end > len(prompt):
                raise RowError(f"{_turn_name(example, index)} is not rendered before the completion.", CHANGE_TEMPLATE)
            yield start, end

    def _marked(self, example: Example) -> list[Span]:
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self._template(example)
        if not re.search(r"\{%-?\s*generation\s*-?%\}", template):
            return []
        render: Any = render_jinja_template  # annotated as returning a text
        _, spans = render(
            conversations=[self._messages(example.turns)],
            tools=_tools(example),
            chat_template=template,
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
        )
        return [(start, end) for start, end in spans[0]]

    def _between_prefixes(self, example: Example, index: int, prompt: str) -> Span:
        generation_prompt = self._text(example, example.turns[:index], add_generation_prompt=True)
        start = len(_shared_start(generation_prompt, prompt))
        content = _without_reasoning(example.turns[index]["content"])
        place = prompt.find(content, start)
        if place < 0 or prompt[start:place].strip():
            what = f"{_turn_name(example, index)} is rendered differently when other turns follow"
            fix = "Use --loss last, or a chat template with generation markers."
            raise RowError(f"{what}, and the chat template has no generation markers.", fix)
        end = place + len(content)
        if prompt[end:].lstrip().startswith(self._eos):
            end = prompt.index(self._eos, end) + len(self._eos)
        return start, end

    def _text(self, example: Example, turns: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(
                self._messages(turns),
                tools=_tools(example),
                chat_template=self._template(example),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise RowError(f"the model's chat template rejects a conversation ({error}).", CHANGE_TURNS) from error
        return str(text)

    def _template(self, example: Example) -> str:
        """Return the template with the fixed time in place of the clock.

        transformers passes only data to a template, so the clock cannot be passed as a function.
        """
        template = self._training_template or self._tokenizer.get_chat_template(tools=_tools(example))
        return CLOCK.sub(lambda call: json.dumps(self._clock.strftime(call["format"]), ensure_ascii=False), template)

    def _messages(self, turns: Sequence[Message]) -> list[dict[str, Any]]:
        messages = [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
        if self._as_parts:
            for message in messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
        return messages

    def _wants_parts(self) -> bool:
        """Return whether the template reads content as a list of parts only."""
        probe = Example("", (Message(role="user", content=_mark(0)),), _mark(1), "")
        for as_parts in (False, True):
            self._as_parts = as_parts
            try:
                text = self._text(probe, probe.turns)
            except RowError:
                continue
            if text.count(_mark(0)) == text.count(_mark(1)) == 1 and "'type'" not in text:
                return as_parts
        return False

    def _check_structure(self, example: Example) -> None:
        """Raise RowError if the template drops, repeats or reorders turns. Checks each sequence of roles once."""
        shape = (*((turn["role"], bool(turn.get("tool_calls"))) for turn in example.turns), bool(example.tools))
        if shape in self._checked:
            return
        marked = [_marked_turn(turn, index) for index, turn in enumerate(example.turns)]
        text = self._text(example, marked)
        places = [text.find(_mark(index)) for index in range(len(marked))]
        for index, place in enumerate(places):
            is_optional = bool(marked[index].get("tool_calls"))  # some templates write calls in place of the text
            is_dropped = place < 0 and not (is_optional and not example.turns[index]["content"])
            if is_dropped or text.count(_mark(index)) > 1:
                effect = "drops" if place < 0 else "repeats"
                raise RowError(f"the model's chat template {effect} {_turn_name(example, index)}.", CHANGE_TURNS)
        ordered = [place for place, turn in zip(places, marked, strict=True) if place >= 0 and turn["role"] != "system"]
        if ordered != sorted(ordered):
            raise RowError("the model's chat template changes the order of the turns.", CHANGE_TURNS)
        self._check_tools(example)
        self._checked.add(shape)

    def _check_tools(self, example: Example) -> None:
        """Raise RowError if the template leaves out tool definitions or tool calls."""
        text = self._text(example, example.turns)
        for name in _tool_names(example):
            if name not in text:
                what = f"the model's chat template does not render the tool '{name}'."
                raise RowError(what, "Use a model whose template supports tools, or remove the tools from the data.")


def _training_template(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return TRL's variant of the template with generation markers, or None if it has none or none is needed."""
    from trl.chat_template_utils import get_training_chat_template

    try:
        template: str | None = get_training_chat_template(tokenizer)
    except ValueError:  # TRL has no variant of this template
        return None
    return template


def _learned_turns(example: Example, *, all_turns: bool) -> list[int]:
    """Return the assistant turns before the last one that carry loss."""
    first = 0 if all_turns else len(example.turns) - example.completion_turns
    return [
        index
        for index, turn in enumerate(example.prompt)
        if index >= first and turn["role"] == "assistant" and turn.get("weight") != 0
    ]


def _has_more(example: Example) -> bool:
    return example.completion_turns > 1


def _located(example: Example, rendered: Rendered) -> tuple[Span, ...]:
    """Return the places of the turns' texts in prompt and completion.

    Raises:
        RowError: a text is missing, or comes before the text of an earlier turn.
    """
    text, spans, position = rendered.prompt + rendered.completion, [], 0
    for index, turn in enumerate(example.turns):
        is_last = index == len(example.prompt)
        start = len(rendered.prompt) if is_last else 0 if turn["role"] == "system" else position
        for piece in _pieces(turn["content"], is_last=is_last, assistant=turn["role"] == "assistant"):
            place, form = _find(text, piece, start)
            if place < 0:
                what = f"the model's chat template changes or drops the text of {_turn_name(example, index)}."
                raise RowError(what, CHANGE_TURNS)
            start = place + len(form)
            spans.append((place, start))
        position = max(position, start) if turn["role"] != "system" else position
    return tuple(sorted(spans))


def _find(text: str, piece: str, start: int) -> tuple[int, str]:
    """Return the place and the form of a text: as it is, or escaped as in JSON, as templates write tool results."""
    for form in (piece, json.dumps(piece, ensure_ascii=False)[1:-1]):
        if (place := text.find(form, start)) >= 0:
            return place, form
    return -1, piece


def _pieces(content: str, *, is_last: bool, assistant: bool) -> list[str]:
    """Return the parts of a text around reasoning tags. Templates may drop the reasoning of earlier turns."""
    if assistant and not is_last:
        content = _without_reasoning(content)
    pieces = REASONING_TAG.split(content) if assistant else [content]
    return [piece.strip() for piece in pieces if piece.strip()]


def _without_reasoning(content: str) -> str:
    return REASONING_TAG.split(content)[-1].strip() if REASONING_TAG.search(content) else content.strip()


def _contains(text: str, completion: str) -> bool:
    position = 0
    for piece in _pieces(completion, is_last=True, assistant=True):
        position = text.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return True


def _shared_start(first: str, second: str) -> str:
    length = next((index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    return first[: min(len(first), len(second)) if length is None else length]


def _tools(example: Example) -> Any:
    return json.loads(example.tools) if example.tools else None


def _tool_names(example: Example) -> Iterator[str]:
    calls = (call for turn in example.turns for call in turn.get("tool_calls", ()))
    for tool in (*(_tools(example) or ()), *calls):
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        if isinstance(function, dict) and isinstance(name := function.get("name"), str):
            yield name


def _turn_name(example: Example, index: int) -> str:
    return f"turn {index + 1} ({example.turns[index]['role']})"


def _marked_turn(turn: Message, index: int) -> Message:
    """Return a turn with a text that occurs nowhere else."""
    marked: Message = {**turn, "content": _mark(index)}
    if "reasoning_content" in marked:
        marked["reasoning_content"] = ""
    return marked


def _mark(index: int) -> str:
    return f"text{index:04}of{index:04}turn"
