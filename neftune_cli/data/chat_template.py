"""The chat template of a tokenizer, with a fixed clock, applied to turns and tool definitions."""

import json
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.examples import Example, Message
from neftune_cli.errors import Problem, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Start and end index of a part of a text."""

CHANGE_TURNS = "Change its turns, or use a model whose template accepts them."
CHANGE_TEMPLATE = "Use a model with another chat template, or remove the row."
CLOCK = re.compile(
    r"""\bstrftime_now\s*\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>(?:(?!(?P=quote)).)*)(?P=quote)\s*\)"""
)
OTHER_CLOCK = re.compile(r"\bstrftime_now\b(?!\s+is\b)[^%}\n]*")
CHANCE = re.compile(r"\|\s*random\b|\blipsum\s*\(")
COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
END_TOKEN = re.compile(r'\{% set eos_token = "(?:[^"\\]|\\.)*" %\}\n')
"""Start of a template that writes an end token other than the tokenizer's."""
GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
SAMPLE_TEXTS = ("probe of the question", "probe of the answer")
SAMPLE_TOOL = "probe_tool"
SAMPLE_ARGUMENTS = {"probe": "probe of the argument"}
SAMPLE_ID = "probecall"
"""Id of a tool call. Some templates require nine letters or digits."""


@dataclass(frozen=True)
class Chat:
    """Input of a template: turns and tool definitions."""

    turns: tuple[Message, ...]
    tools: list[Any] | None = None

    @classmethod
    def of(cls, example: Example) -> "Chat":
        """Return the whole conversation of an example."""
        return cls(example.turns, json.loads(example.tools) if example.tools else None)

    def start(self, turns: int) -> "Chat":
        """Return the first turns."""
        return replace(self, turns=self.turns[:turns])

    def turn_name(self, index: int) -> str:
        """Return the number and the role of a turn, for messages."""
        return f"turn {index + 1} ({self.turns[index]['role']})"


class ChatTemplate:
    """A template that renders the same text at any time."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, all_turns: bool = False, time: str | None = None
    ) -> None:
        """Determine the form in which the template takes its input.

        Args:
            tokenizer: a tokenizer with a chat template.
            all_turns: whether earlier assistant turns carry loss. If TRL has a training variant of the template, that
                variant is used, as SFTTrainer does.
            time: time for templates that write a date, in ISO 8601; the current time if None.

        Raises:
            UsageError: the time that the template writes cannot be fixed, or it writes a random text.
        """
        self._tokenizer = tokenizer
        self._training_template = _training_template(tokenizer) if all_turns else None
        self._clock = datetime.fromisoformat(time) if time else datetime.now()
        self._fixed: dict[str, str] = {}
        self._wants_json: dict[str, bool] = {}
        self._as_parts = self._wants_parts()

    def text(self, chat: Chat, *, add_generation_prompt: bool = False) -> str:
        """Render turns.

        Raises:
            RowError: the template fails. A template is a program, which may fail in any way.
        """
        template = self._template(chat)
        return self._text(template, self._messages(chat.turns, template), chat.tools, add_generation_prompt)

    def marked(self, chat: Chat) -> list[Span]:
        """Return the parts of the rendered text between `{% generation %}` markers; none without such markers.

        Raises:
            RowError: the template fails.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self._template(chat)
        if not GENERATION_MARKER.search(template):
            return []
        render: Any = render_jinja_template  # annotated as returning a text
        try:
            _, spans = render(
                conversations=[self._messages(chat.turns, template)],
                tools=chat.tools,
                chat_template=template,
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
        except Exception as error:
            raise _rejected(error) from error
        return [(start, end) for start, end in spans[0]]

    def _template(self, chat: Chat) -> str:
        """Return the template with the fixed time in place of the clock.

        transformers passes only data to a template, so the clock cannot be passed as a function.
        """
        template = self._training_template or self._tokenizer.get_chat_template(tools=chat.tools)
        if template not in self._fixed:
            self._fixed[template] = _with_time(template, self._clock)
        return self._fixed[template]

    def _text(
        self, template: str, messages: list[dict[str, Any]], tools: list[Any] | None, add_generation_prompt: bool
    ) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=tools,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except Exception as error:
            raise _rejected(error) from error

    def _messages(self, turns: Sequence[Message], template: str) -> list[dict[str, Any]]:
        messages = [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
        if any("tool_calls" in message for message in messages) and self._wants_json_arguments(template):
            messages = [_with_json_arguments(message) for message in messages]
        return _in_parts(messages) if self._as_parts else messages

    def _wants_json_arguments(self, template: str) -> bool:
        """Return whether the template renders the arguments of tool calls only if they are JSON text.

        Some templates, such as that of DeepSeek-V3, join them with other texts. With an object they fail, or write it
        as Python does.
        """
        if template not in self._wants_json:
            sampled = [
                (as_json, self._sampled(template, chat, as_json))
                for chat in _sample_calls()
                for as_json in (False, True)
            ]
            fitting = [as_json for as_json, text in sampled if _has_call(text, as_json)]
            accepted = [as_json for as_json, text in sampled if text]
            self._wants_json[template] = next(iter([*fitting, *accepted, False]))
        return self._wants_json[template]

    def _sampled(self, template: str, sample: Chat, as_json: bool) -> str:
        """Return the text of a sample; nothing if the template fails."""
        messages: list[dict[str, Any]] = [dict(turn) for turn in sample.turns]
        if as_json:
            messages = [_with_json_arguments(message) for message in messages]
        try:
            return self._text(template, _in_parts(messages) if self._as_parts else messages, sample.tools, False)
        except RowError:
            return ""

    def _wants_parts(self) -> bool:
        """Return whether the template reads content as a list of parts only."""
        question, answer = SAMPLE_TEXTS
        chat = Chat((Message(role="user", content=question), Message(role="assistant", content=answer)))
        messages: list[dict[str, Any]] = [dict(turn) for turn in chat.turns]
        for as_parts in (False, True):
            try:
                text = self._text(self._template(chat), _in_parts(messages) if as_parts else messages, None, False)
            except RowError:
                continue
            if text.count(question) == text.count(answer) == 1 and "'type'" not in text:
                return as_parts
        return False


def _in_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with their content as a list of one part."""
    return [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]


def _sample_calls() -> Iterator[Chat]:
    """Yield conversations with a tool call: with and without its result, with and without the tool's definition."""
    function = {"name": SAMPLE_TOOL, "arguments": SAMPLE_ARGUMENTS}
    call = {"type": "function", "id": SAMPLE_ID, "function": function}
    parameters = {"type": "object", "properties": {}}
    tool = {"type": "function", "function": {"name": SAMPLE_TOOL, "description": "A probe.", "parameters": parameters}}
    question, answer = SAMPLE_TEXTS
    turns = (Message(role="user", content=question), Message(role="assistant", content="", tool_calls=[call]))
    result = Message(role="tool", content="probe of the result", name=SAMPLE_TOOL, tool_call_id=SAMPLE_ID)
    for tools in ([tool], None):
        yield Chat((*turns, result, Message(role="assistant", content=answer)), tools)
        yield Chat(turns, tools)


def _with_json_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with the arguments of its tool calls as JSON text."""
    if "tool_calls" not in message:
        return message
    functions = [dict(call["function"]) for call in message["tool_calls"]]
    for function in functions:
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    calls = zip(message["tool_calls"], functions, strict=True)
    return {**message, "tool_calls": [{**call, "function": function} for call, function in calls]}


def _has_call(text: str, as_json: bool) -> bool:
    """Return whether the text of a sample has the arguments of the call, and not as Python writes an object."""
    (value,) = SAMPLE_ARGUMENTS.values()
    return (json.dumps(SAMPLE_ARGUMENTS) if as_json else value) in text and str(SAMPLE_ARGUMENTS) not in text


def _with_time(template: str, clock: datetime) -> str:
    fixed = CLOCK.sub(lambda call: json.dumps(clock.strftime(call["format"]), ensure_ascii=False), template)
    if other := OTHER_CLOCK.search(COMMENT.sub("", fixed)):
        what = f"The model's chat template writes a time that cannot be held constant: '{other.group().strip(' -')}'."
        fix = "Write the format as a string literal in chat_template.jinja, for example strftime_now('%d %b %Y')."
        raise UsageError(Problem(what, fix))
    if chance := CHANCE.search(COMMENT.sub("", fixed)):
        what = f"The model's chat template writes a different text each time: '{chance.group().strip(' |(')}'."
        raise UsageError(Problem(what, "Replace it with a constant text in chat_template.jinja."))
    return fixed


def _rejected(error: Exception) -> RowError:
    from jinja2 import TemplateError

    reason = " ".join(str(error).split())
    if not isinstance(error, TemplateError):
        reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
    return RowError(f"the model's chat template rejects a conversation ({reason}).", CHANGE_TURNS)


def _training_template(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Return TRL's variant of a template without generation markers, or None if there is none."""
    from trl.chat_template_utils import get_training_chat_template

    template = tokenizer.get_chat_template()
    if GENERATION_MARKER.search(template):
        return None
    kept = END_TOKEN.match(template)
    opening = kept.group() if kept else ""
    original = copy(tokenizer)
    original.chat_template = template.removeprefix(opening)
    try:
        variant: str | None = get_training_chat_template(original)
    except Exception:  # TRL has no variant of this template, or the template fails on TRL's probes
        return None
    return opening + variant if variant else None


def with_end_token(template: str, token: str) -> str:
    """Return a template that writes an end token as `eos_token`, whichever one the tokenizer has."""
    # The line break after a block is not rendered, so that white space at the start of the template stays the same.
    return f"{{% set eos_token = {json.dumps(token)} %}}\n{template}" if "eos_token" in template else template
