"""Locate the texts of a conversation in its rendered text: the conversation is rendered again with marks around each.

A search for the texts would find equal text of the template instead, for example an end-of-turn token in a question.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, cast

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import Chat, ChatTemplate, Span
from neftune_cli.data.examples import Message

REASONING_TAG = re.compile(r"</?(?:think|thinking|reasoning)>")
OPENED_REASONING = re.compile(r"<(?:think|thinking|reasoning)>\s*\Z")
TOOLS = -1
"""Turn of the texts of tool definitions."""

Kind = Literal["text", "reasoning", "call", "argument", "other"]
"""Kind of a text: of a turn, its reasoning, the name of a tool that it calls, a text in the arguments, any other."""


@dataclass(frozen=True)
class Piece:
    """A text of the data, and its places in a rendered text."""

    turn: int
    kind: Kind
    text: str
    """The text without surrounding white space, which templates may remove."""
    spans: tuple[Span, ...] = ()
    """Places where the text is rendered unchanged, or escaped as in JSON."""


@dataclass(frozen=True)
class LocatedTexts:
    """The texts of a conversation, in the order of the data."""

    pieces: tuple[Piece, ...]
    is_exact: bool
    """Whether the marks gave the places. Otherwise equal text of the template may have been found."""

    def of_turn(self, turn: int) -> list[Piece]:
        """Return the texts of a turn."""
        return [piece for piece in self.pieces if piece.turn == turn]

    def spans_of(self, turn: int) -> list[Span]:
        """Return the first place of each text of a turn. Some templates repeat the name of a tool with its result."""
        return [piece.spans[0] for piece in self.of_turn(turn) if piece.spans]

    def is_complete(self, turn: int) -> bool:
        """Return whether the turn's text, reasoning and tool calls are there and unchanged."""
        return all(piece.spans for piece in self.of_turn(turn) if piece.kind != "other")

    @property
    def spans(self) -> Iterator[Span]:
        """Yield the places of all texts."""
        return (span for piece in self.pieces for span in piece.spans)


def locate(
    template: ChatTemplate,
    chat: Chat,
    text: str,
    *,
    special: re.Pattern[str] | None,
    add_generation_prompt: bool = False,
    last_turn: int = 0,
) -> LocatedTexts:
    """Locate the texts of a conversation.

    If a template renders the marked conversation differently, because it depends on how a text starts, the texts are
    searched in order.

    Args:
        template: the template.
        chat: the conversation.
        text: the rendered conversation.
        special: special tokens. Texts of any kind that contain one are located, also ids and tool definitions.
        add_generation_prompt: whether the text ends with the generation prompt.
        last_turn: where the last turn starts in the text at the earliest.
    """
    marks = _Marks(_unused_word(text), special)
    marked = marks.chat(chat)
    try:
        rendered = template.text(marked, add_generation_prompt=add_generation_prompt)
    except RowError:
        rendered = ""
    plain, places = _without_marks(rendered, marks.word)
    if plain == text:
        pieces = (_unchanged(piece, places.get(number, ()), text) for number, piece in enumerate(marks.pieces))
        return LocatedTexts(tuple(pieces), is_exact=True)
    return LocatedTexts(tuple(_searched(marks.pieces, chat, text, last_turn)), is_exact=False)


class _Marks:
    """Puts a mark before and after each text, and lists the texts."""

    def __init__(self, word: str, special: re.Pattern[str] | None) -> None:
        self.word = word
        self.pieces: list[Piece] = []
        self._special = special

    def chat(self, chat: Chat) -> Chat:
        tools = None if chat.tools is None else self._value(chat.tools, TOOLS, "other")
        return Chat(tuple(self._turn(turn, index) for index, turn in enumerate(chat.turns)), tools)

    def _turn(self, turn: Message, index: int) -> Message:
        marked: dict[str, Any] = dict(turn)
        for key, value in turn.items():
            if key == "content":
                marked[key] = self._content(turn, index)
            elif key == "reasoning_content":
                marked[key] = self._text(str(value), index, "reasoning")
            elif key == "tool_calls":
                marked[key] = [self._call(call, index) for call in turn["tool_calls"]]
            elif key != "role":
                marked[key] = self._value(value, index, "other")
        return cast(Message, marked)

    def _content(self, turn: Message, index: int) -> str:
        """Mark a text. In an assistant turn the texts between reasoning tags are marked, and the tags are not."""
        if turn["role"] != "assistant":
            return self._text(turn["content"], index, "text")
        *before, (last, _) = texts_around_tags(turn["content"])
        reasoning = (self._text(text, index, "reasoning") + tag for text, tag in before)
        return "".join((*reasoning, self._text(last, index, "text")))

    def _call(self, call: Mapping[str, Any], index: int) -> dict[str, Any]:
        if "function" not in call:
            return self._function(call, index)
        marked: dict[str, Any] = {}
        for key, value in call.items():
            marked |= (
                {key: self._function(value, index)} if key == "function" else self._value({key: value}, index, "other")
            )
        return marked

    def _function(self, function: Mapping[str, Any], index: int) -> dict[str, Any]:
        marked: dict[str, Any] = {}
        for key, value in function.items():
            kind: Kind = "call" if key == "name" else "argument" if key == "arguments" else "other"
            marked |= self._value({key: value}, index, kind)
        return marked

    def _value(self, value: Any, index: int, kind: Kind) -> Any:
        """Mark the texts in a JSON value. Keys and texts of the kind `other` are marked if they have special tokens."""
        if isinstance(value, Mapping):
            return {self._value(key, index, "other"): self._value(item, index, kind) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, index, kind) for item in value]
        if not isinstance(value, str) or (kind == "other" and not self._has_special(value)):
            return value
        return self._text(value, index, kind)

    def _has_special(self, text: str) -> bool:
        return self._special is not None and bool(self._special.search(text))

    def _text(self, text: str, index: int, kind: Kind) -> str:
        piece = text.strip()
        if not piece:
            return text
        start = text.index(piece)
        number = len(self.pieces)
        self.pieces.append(Piece(index, kind, piece))
        first, last = (f"{self.word}{letter}{number}z" for letter in "ab")
        return f"{text[:start]}{first}{piece}{last}{text[start + len(piece) :]}"


def texts_around_tags(content: str) -> Iterator[tuple[str, str]]:
    """Yield the texts around reasoning tags, each with the tag that follows it; the last one has none."""
    parts = re.split(f"({REASONING_TAG.pattern})", content)
    return zip(parts[::2], [*parts[1::2], ""], strict=True)


def _unused_word(text: str) -> str:
    """Return a word of lower-case letters that the text does not contain."""
    word = "qzmark"
    while word in text:
        word += "x"
    return word


def _without_marks(rendered: str, word: str) -> tuple[str, dict[int, list[Span]]]:
    """Return the text without marks, and the places between the two marks of each number."""
    plain: list[str] = []
    starts: dict[str, int] = {}
    places: dict[int, list[Span]] = {}
    position = length = 0
    for mark in re.finditer(f"{word}([ab])([0-9]+)z", rendered):
        plain.append(rendered[position : mark.start()])
        length += mark.start() - position
        position = mark.end()
        letter, number = mark.groups()
        if letter == "a":
            starts[number] = length
        elif number in starts:
            places.setdefault(int(number), []).append((starts.pop(number), length))
    return "".join((*plain, rendered[position:])), places


def _unchanged(piece: Piece, places: Iterable[Span], text: str) -> Piece:
    """Return the piece with the places where the template has not changed it."""
    forms = _forms(piece.text)
    return replace(piece, spans=tuple((start, end) for start, end in places if text[start:end] in forms))


def _forms(text: str) -> tuple[str, ...]:
    """Return a text as it is, and as templates write the texts of tool calls and tool results in JSON or Python."""
    escaped = [json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)]
    return (text, *escaped, json.dumps(escaped[0], ensure_ascii=False)[1:-1], repr(text)[1:-1])


def _searched(pieces: Sequence[Piece], chat: Chat, text: str, last_turn: int) -> Iterator[Piece]:
    """Yield the texts with their places in the order of the turns. System turns and tools may be anywhere."""
    position = 0
    for turn, of_turn in groupby(pieces, key=lambda piece: piece.turn):
        is_free = turn == TOOLS or chat.turns[turn]["role"] == "system"
        start = 0 if is_free else max(position, last_turn * (turn == len(chat.turns) - 1))
        found = [replace(piece, spans=_first(text, piece.text, start)) for piece in of_turn]
        yield from found
        if not is_free:
            position = max([position, *(end for piece in found for _, end in piece.spans)])


def _first(text: str, piece: str, start: int) -> tuple[Span, ...]:
    for form in _forms(piece):
        if (place := text.find(form, start)) >= 0:
            return ((place, place + len(form)),)
    return ()


def shared_length(first: str, second: str) -> int:
    """Return the length of the longest common start."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def without_opened_reasoning(generation_prompt: str) -> tuple[str, str]:
    """Return a generation prompt without the reasoning block that it opens at its end, and that end."""
    match = OPENED_REASONING.search(generation_prompt)
    start = match.start() if match else len(generation_prompt)
    return generation_prompt[:start], generation_prompt[start:]
