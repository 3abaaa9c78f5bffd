"""Check that a rendered conversation contains each turn, tool call and tool definition once and in order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import CHANGE_TURNS, Chat, ChatTemplate
from neftune_cli.data.examples import Message
from neftune_cli.data.located_text import LocatedTexts, Piece

CHANGE_TOOLS = "Use a model whose template supports tools, or remove the tools from the data."
MOVE_REASONING = (
    "Write it into the text of the turn as <think>...</think>, remove it, or use a model whose template renders it."
)
Places = dict[str, list[int]]
"""Places of each word in a text."""
NO_CALLS = "the model's chat template does not render tool calls."
NO_REASONING = "the model's chat template does not render the reasoning of the last turn."


class StructureCheck:
    """Renders each structure of conversations once, with a word that occurs nowhere else in place of each text.

    Two conversations have the same structure if they differ in their texts and in the values of arguments only. So
    arguments without text, such as numbers, are checked too.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._checked: set[object] = set()

    def check(self, chat: Chat) -> None:
        """Check a conversation, unless one with the same structure was checked.

        Raises:
            RowError: the template drops, repeats or reorders a part of the conversation, or fails.
        """
        structure = _structure(chat)
        if structure in self._checked:
            return
        words = _Words()
        places = _places(self._template.text(words.chat(chat)))
        _check_tools(words, places)
        _check_turns(chat, words, places)
        _check_calls(chat, words, places)
        if words.reasoning and words.reasoning not in places:
            raise RowError(NO_REASONING, MOVE_REASONING)
        self._checked.add(structure)


def check_texts(chat: Chat, located: LocatedTexts, *, last_turn: int) -> None:
    """Check that a rendered conversation contains each text once, unchanged, and in the order of the turns.

    Templates may drop the reasoning of turns before the last. Some repeat the name of a tool with its result.

    Args:
        chat: the conversation, or its prompt.
        located: places of its texts.
        last_turn: index of the last turn of the conversation.

    Raises:
        RowError: a text is missing, changed, repeated, or before the text of an earlier turn.
    """
    position = 0
    for index, turn in enumerate(chat.turns):
        pieces = located.of_turn(index)
        for piece in pieces:
            _check_piece(piece, chat, is_last=index == last_turn)
        starts = [piece.spans[0][0] for piece in pieces if piece.spans]
        if turn["role"] == "system" or not starts:
            continue
        if min(starts) < position:
            raise RowError("the model's chat template changes the order of the turns.", CHANGE_TURNS)
        position = max(piece.spans[0][1] for piece in pieces if piece.spans)


def _check_piece(piece: Piece, chat: Chat, *, is_last: bool) -> None:
    what = {"text": "the text", "reasoning": "the reasoning", "call": "a tool call", "argument": "a tool call"}
    if piece.kind == "other" or (piece.kind == "reasoning" and not is_last and not piece.spans):
        return
    place = f"{what[piece.kind]} of {chat.turn_name(piece.turn)}"
    if not piece.spans:
        raise RowError(f"the model's chat template changes or drops {place}.", CHANGE_TURNS)
    if len(piece.spans) > 1 and piece.kind != "call":
        raise RowError(f"the model's chat template repeats {place}.", CHANGE_TURNS)


@dataclass
class _Words:
    """Puts a word in place of each text of a conversation, and lists the words."""

    turns: list[str] = field(default_factory=list)
    """Word of each turn; empty for a turn with tool calls and without text."""
    tools: list[tuple[str, str]] = field(default_factory=list)
    """Name and word of each tool definition."""
    calls: list[tuple[int, str, list[str]]] = field(default_factory=list)
    """Index of the turn, name of the tool, and words of each tool call."""
    reasoning: str = ""
    """Word of the reasoning of the last turn."""
    _number: int = 0

    def chat(self, chat: Chat) -> Chat:
        tools = None if chat.tools is None else [self._tool(tool) for tool in chat.tools]
        last = len(chat.turns) - 1
        return Chat(tuple(self._turn(turn, index, index == last) for index, turn in enumerate(chat.turns)), tools)

    def _turn(self, turn: Message, index: int, is_last: bool) -> Message:
        marked: dict[str, Any] = dict(turn)
        self.turns.append(self._word("text") if turn["content"] or not turn.get("tool_calls") else "")
        marked["content"] = self.turns[-1]
        if "tool_calls" in turn:
            marked["tool_calls"] = [self._call(call, index) for call in turn["tool_calls"]]
        if "reasoning_content" in turn:
            marked["reasoning_content"] = self._word("reasoning")
            self.reasoning = marked["reasoning_content"] if is_last else ""
        return cast(Message, marked)

    def _tool(self, tool: Any) -> Any:
        function = _function_of(tool)
        if not isinstance(function.get("name"), str):
            return tool
        self.tools.append((function["name"], self._word("tool")))
        return _with_function(tool, {**function, "name": self.tools[-1][1]})

    def _call(self, call: Mapping[str, Any], index: int) -> Any:
        function = _function_of(call)
        words = [self._word("call")]
        marked = {**function, "name": words[0]}
        if "arguments" in function:
            marked["arguments"] = self._value(function["arguments"], words)
        self.calls.append((index, str(function.get("name")), words))
        return _with_function(call, marked)

    def _value(self, value: Any, words: list[str]) -> Any:
        if isinstance(value, Mapping):
            return {key: self._value(item, words) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, words) for item in value]
        words.append(self._word("value"))
        return words[-1]

    def _word(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number:06}of{self._number:06}{kind}"  # found by `_places`


def _places(text: str) -> Places:
    """Return the places of each word in a text."""
    places: Places = {}
    for word in re.finditer(r"([a-z]+)([0-9]{6})of\2\1", text):
        places.setdefault(word.group(), []).append(word.start())
    return places


def _check_tools(words: _Words, places: Places) -> None:
    for name, word in words.tools:
        if word not in places:
            raise RowError(f"the model's chat template does not render the tool '{name}'.", CHANGE_TOOLS)


def _check_turns(chat: Chat, words: _Words, places: Places) -> None:
    present = {index: word for index, word in enumerate(words.turns) if word}
    for index, word in present.items():
        if len(places.get(word, ())) != 1:
            effect = "repeats" if word in places else "drops"
            raise RowError(f"the model's chat template {effect} {chat.turn_name(index)}.", CHANGE_TURNS)
    ordered = [places[word] for index, word in present.items() if chat.turns[index]["role"] != "system"]
    if ordered != sorted(ordered):
        raise RowError("the model's chat template changes the order of the turns.", CHANGE_TURNS)


def _check_calls(chat: Chat, words: _Words, places: Places) -> None:
    """Check that each call is rendered once. Some templates repeat the name of a tool with its result."""
    for turn, name, (tool, *values) in words.calls:
        call = f"the call of '{name}' in {chat.turn_name(turn)}"
        if any(word not in places for word in (tool, *values)):
            raise RowError(f"the model's chat template does not render {call}.", CHANGE_TOOLS, NO_CALLS)
        if any(len(places[value]) > 1 for value in values):
            raise RowError(f"the model's chat template repeats {call}.", CHANGE_TURNS)
    ordered = [places[tool][0] for _, _, (tool, *_) in words.calls]
    if ordered != sorted(ordered):
        raise RowError("the model's chat template changes the order of tool calls.", CHANGE_TURNS)


def _structure(chat: Chat) -> object:
    turns = tuple(
        (
            turn["role"],
            bool(turn["content"]),
            "reasoning_content" in turn,
            tuple(_shape(_function_of(call).get("arguments")) for call in turn.get("tool_calls", ())),
        )
        for turn in chat.turns
    )
    return turns, None if chat.tools is None else len(chat.tools)


def _shape(value: Any) -> object:
    """Return a JSON value without its texts and numbers."""
    if isinstance(value, Mapping):
        return tuple((key, _shape(item)) for key, item in value.items())
    if isinstance(value, list):
        return ("list", *(_shape(item) for item in value))
    return None


def _function_of(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else {}
    return dict(function) if isinstance(function, Mapping) else {}


def _with_function(call: Mapping[str, Any], function: dict[str, Any]) -> dict[str, Any]:
    return {**call, "function": function} if "function" in call else function
