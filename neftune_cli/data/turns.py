"""Turns of a conversation: role, text, tool calls and weight, in the spellings of common chat formats."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.examples import Message
from neftune_cli.data.json_text import DuplicateKeyError, duplicate_key_in_column, parse_cell, start_of
from neftune_cli.data.rows import (
    RowValues,
    checked_text,
    column_in_words,
    described,
    has_content,
    is_blank,
    text_of,
    value_in,
)
from neftune_cli.data.spellings import (
    ASSISTANT,
    CONTENT_KEYS,
    FUNCTION_KEYS,
    MASK_KEYS,
    MEDIA,
    REASONING_KEYS,
    ROLE_KEYS,
    ROLE_OF,
    TOOL_CALL_KEYS,
    TOOL_CALL_ROLES,
    TOOL_TURN_KEYS,
    TURN_KEYS,
    WEIGHT_KEYS,
    is_conversation,
    known_key,
)
from neftune_cli.data.tool_calls import calls_in, other_objects

WRITE_TURN = 'Write {"role": "user", "content": "..."}.'
WRITE_TURNS = 'Write [{"role": "user", "content": "..."}, ...].'
WEIGHTS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
"""Weights by their text in lower case."""
_QUOTE = "['\"]"
_KNOWN_ROLE = rf"{_QUOTE}(?:{'|'.join(ROLE_KEYS)}){_QUOTE}\s*:\s*{_QUOTE}(?:{'|'.join(ROLE_OF)}){_QUOTE}"
_ROLE = re.compile(_KNOWN_ROLE, re.IGNORECASE)
_OBJECT_IN_LIST = re.compile(r"\s*\[\s*\{")
_ROLE_BEFORE_BRACE = re.compile(rf"[^}}]*{_KNOWN_ROLE}", re.IGNORECASE)
_TEXT_OR_BRACE = re.compile(r"""("|')(?:(?!\1)[^\\]|\\.)*+(?:\1|\\?\Z)|[{}]""", re.DOTALL)
"""A text in quotes, up to the end if its quote is not closed, or a brace outside of texts."""


@dataclass(frozen=True)
class Remark:
    """A property of a row that a user must know about. Rows with the same remark are counted."""

    what: str
    """A clause without a full stop. The number of rows is appended."""
    fix: str = ""


@dataclass(frozen=True)
class Turns:
    """Turns of one column, with remarks on keys that are not read."""

    messages: tuple[Message, ...]
    remarks: tuple[Remark, ...] = ()
    place: str = ""
    """Name of the column in messages; empty if its text is the content of one turn."""

    @property
    def roles(self) -> str:
        """Return the roles of the turns, separated by commas, for a message."""
        return ", ".join(turn["role"] for turn in self.messages) or "none"


def turns_in(row: RowValues, column: str, place: str = "") -> Turns:
    """Return the turns in a column, a list or its JSON text, without empty system turns.

    Args:
        row: the row.
        column: the column.
        place: name of the column in messages; `column '...'` by default.

    Raises:
        RowError: the value is not a list of turns, or a turn has an unknown role, no text, parts that are not text, or
            a key that occurs twice.
    """
    name, value = column_in_words(row, column), value_in(row, column)
    turns = list_in_text(value, name) if isinstance(value, str) else listed_turns(value)
    place = place or name
    if not isinstance(turns, list | tuple):
        raise RowError(f"{place} contains {described(value)}, not a list of turns.", WRITE_TURNS)
    read = [_turn(turn, f"{place}, turn {number}") for number, turn in enumerate(turns, start=1)]
    kept = tuple(message for message, _ in read if message["content"] or message["role"] != "system")
    return Turns(kept, tuple(remark for _, remarks in read for remark in remarks), place)


def list_in_text(text: str, place: str) -> list[object] | None:
    """Return the list that a text contains as JSON or as Python writes it; None for other texts, also for one object.

    Raises:
        RowError: an object in the text has the same key twice.
    """
    try:
        return _list_in(text)
    except DuplicateKeyError as error:
        raise duplicate_key_in_column(error, place) from None


def is_text_of_turns(text: str, place: str) -> bool:
    """Return whether a text is a list of turns, as JSON or as Python writes it. Keys may occur twice.

    Raises:
        RowError: the text starts as such a list and cannot be read. Lists that numpy writes have no commas.
    """
    if not _may_be_list(text):
        return False
    found = _list_in(text, may_repeat=True)
    if found is None and _starts_as_turns(text):
        what = f"{place} starts as a list of turns, but is neither JSON nor a list as Python writes it."
        raise RowError(what, "Write the list as JSON, or use --raw to read it as text.")
    return is_conversation(found or []) and any(map(_is_turn, found or []))


def _is_turn(item: Any) -> bool:
    """Return whether an object with a key for a role is a turn, and not another object such as {"from": "Paris"}."""
    keys = {known_key(key): value for key, value in item.items()}
    roles = (str(keys[key]).strip().lower() for key in ROLE_KEYS if key in keys)
    return any(key in keys for key in CONTENT_KEYS) or any(role in ROLE_OF for role in roles)


def _starts_as_turns(text: str) -> bool:
    """Return whether a text is the start of a list whose first object has a known role. The time is linear."""
    start = _OBJECT_IN_LIST.match(text)
    if start is None:
        return False
    if _ROLE_BEFORE_BRACE.match(text, start.end()):  # also if the quotes in a text are not escaped
        return True
    depth = 1
    for found in _TEXT_OR_BRACE.finditer(text, start.end()):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0 or (depth == 1 and _ROLE.match(text, found.start())):
            return depth == 1
    return False


def _list_in(text: str, *, may_repeat: bool = False) -> list[object] | None:
    if not _may_be_list(text):
        return None
    try:
        found = parse_cell(text, may_repeat=may_repeat)
    except DuplicateKeyError:
        raise
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _may_be_list(text: str) -> bool:
    return text.lstrip().startswith("[")  # the text of one object can be data that has to be learned as it is


def listed_turns(value: Any) -> Any:
    """Return one turn, or an object with `messages` and no other key, as a list of turns; other values unchanged."""
    if not isinstance(value, Mapping):
        return value
    keys = {known_key(key): item for key, item in value.items() if not is_blank(item)}
    if set(keys) in ({"messages"}, {"conversations"}):
        (turns,) = keys.values()
        return turns if isinstance(turns, list | tuple) and is_conversation(list(turns)) else value
    has_text = any(key in keys for key in (*CONTENT_KEYS, *TOOL_CALL_KEYS))
    return [value] if has_text and set(keys) <= TURN_KEYS and role_of(value) else value


def role_of(turn: Any) -> str:
    """Return the role of a turn that chat templates know; empty if there is none."""
    keys = {known_key(key): item for key, item in turn.items()} if isinstance(turn, Mapping) else {}
    return ROLE_OF.get(str(_first(keys, ROLE_KEYS)).strip().lower(), "")


def _turn(turn: object, place: str) -> tuple[Message, tuple[Remark, ...]]:
    if not isinstance(turn, Mapping):
        raise RowError(f"{place} is {described(turn)}, not an object.", WRITE_TURN)
    keys = _known_keys(turn, place)
    _refuse_media(keys, place)
    _refuse_functions(keys, place)
    role = _role(keys, place)
    message = Message(role=role, content="")
    if role == ASSISTANT:
        message.update(_answer(keys, place))
    if role == "tool":
        message.update(_tool_turn(keys, place))
    content = None if _is_tool_call(keys) else _first(keys, CONTENT_KEYS)
    if content is not None or not (role in ("system", "tool") or "tool_calls" in message):
        _refuse_other_text(content, keys, role, place)
        message["content"] = _content(content, role, place)
    return message, (*_remarks(keys, role), *_part_remarks(content, role), *_call_remarks(message))


def _known_keys(turn: Mapping[str, object], place: str) -> dict[str, object]:
    """Return the keys that have a value. Known keys are in lower case.

    Raises:
        RowError: two keys differ in upper and lower case or in spaces only.
    """
    keys: dict[str, object] = {}
    for key, value in turn.items():
        if is_blank(value):
            continue
        if known_key(key) in keys:
            what = f"{place} has the key '{known_key(key)}' in two spellings, which differ in case or in spaces only."
            raise RowError(what, "Remove one of them.")
        keys[known_key(key)] = value
    return keys


def _refuse_other_text(content: object, keys: Mapping[str, object], role: str, place: str) -> None:
    """Raise RowError for a turn whose only text is in a key that is not read, such as `refusal` or `parts`."""
    if content is not None:
        return
    if others := [key for key in _unread(keys, role) if isinstance(keys[key], str | list | dict)]:
        what = f"{place} has no text: its key '{start_of(str(others[0]))}' is not read."
        raise RowError(what, f"Write the text under the key '{CONTENT_KEYS[0]}', or remove the row.")


def _first(turn: Mapping[str, object], keys: Sequence[str]) -> object:
    return next((turn[key] for key in keys if not is_blank(turn.get(key))), None)


def _refuse_media(keys: Mapping[str, object], place: str) -> None:
    for key in keys:
        if clause := media_clause(key):
            raise RowError(f"{place} has the key '{key}': {clause}.", "Remove the row.")


def _refuse_functions(keys: Mapping[str, object], place: str) -> None:
    """Refuse definitions and calls of functions under keys that are not read: without them a turn is not complete."""
    if key := next((key for key in FUNCTION_KEYS if key in keys and has_content(keys[key])), ""):
        what = f"{place} has the key '{key}', which changes the meaning of the conversation and is not read."
        raise RowError(what, "Write definitions in a column 'tools' and calls under the key 'tool_calls'.")


def media_clause(name: str) -> str:
    """Return a clause for a message if a column or key has the name of images, audio or video; otherwise nothing."""
    return MEDIA.get(name.strip().lower().removesuffix("s"), "")


def _role(keys: Mapping[str, object], place: str) -> str:
    role = _first(keys, ROLE_KEYS)
    if role is None:
        shown = ", ".join(f"'{start_of(str(key))}'" for key in list(keys)[:5]) or "none"
        raise RowError(f"{place} has no role (keys: {shown}).", WRITE_TURN)
    name = role.strip().lower() if isinstance(role, str) else None
    if name in ROLE_OF:
        return ROLE_OF[name]
    raise RowError(f"{place} has the unknown role {role!r}.", f"Use one of {', '.join(ROLE_OF)}.")


def _content(content: object, role: str, place: str) -> str:
    if isinstance(content, list | tuple):
        content = "".join(_part(part, role, place) for part in content)
    return text_of(content, place)


def _part(part: object, role: str, place: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        _check_keys_of_part(_known_keys(part, place), role, f"{place}: a part")
    kind = (part.get("type") or "text") if isinstance(part, Mapping) else None
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind in ("text", "input_text", "output_text"):
        if isinstance(text, str):
            return text
        what = f"the text of a part is {described(text)}"
    else:
        name = str(kind).removeprefix("input_").removesuffix("_url")
        what = media_clause(name) or f"a part has the type {kind!r}, which is not text"
    raise RowError(f"{place}: {what}.", 'Remove the row, or write the part as {"type": "text", "text": "..."}.')


def _check_keys_of_part(keys: Mapping[str, object], role: str, place: str) -> None:
    """Refuse a part with media or, in an assistant turn, without loss: a turn is learned as a whole."""
    _refuse_media(keys, place)
    if role != ASSISTANT:
        return
    _refuse_masks(keys, place)
    if not _has_weight(keys, place):
        what = f"{place} has the weight 0, but a turn is learned as a whole."
        raise RowError(what, 'Write "weight": 0 in the turn, or remove the part.')


def _is_tool_call(keys: Mapping[str, object]) -> bool:
    return str(_first(keys, ROLE_KEYS)).strip().lower() in TOOL_CALL_ROLES


def _answer(keys: Mapping[str, object], place: str) -> Message:
    """Return tool calls, reasoning and weight of an assistant turn."""
    _refuse_masks(keys, place)
    message = Message(role=ASSISTANT, content="")
    calls = _first(keys, CONTENT_KEYS if _is_tool_call(keys) else TOOL_CALL_KEYS)
    if calls is not None:
        message["tool_calls"] = calls_in(calls, place)
    if (reasoning := _first(keys, REASONING_KEYS)) is not None:
        message["reasoning_content"] = checked_text(reasoning, f"{place}: the reasoning")
    if not _has_weight(keys, place):
        message["weight"] = 0
    return message


def _has_weight(keys: Mapping[str, object], place: str) -> bool:
    """Return whether the turn carries loss."""
    for key in WEIGHT_KEYS:
        given = keys.get(key, 1)
        value = WEIGHTS.get(given.strip().lower()) if isinstance(given, str) else given
        if value not in (0, 1):
            what = f"{place} has the {key} {given!r}: weights other than 0 and 1 are not supported."
            raise RowError(what, "Use 0 or 1, or remove the row.")
        if not value:
            return False
    return True


def _refuse_masks(keys: Mapping[str, object], place: str) -> None:
    for key in MASK_KEYS:
        if keys.get(key) not in (None, False, 0, "false", "0"):
            what = f"{place} has the key '{key}', which changes the loss of the turn and is not read."
            raise RowError(what, 'Write "weight": 0 in turns without loss, or remove the key.')


def _tool_turn(keys: Mapping[str, object], place: str) -> Message:
    found = {key: checked_text(keys[key], f"{place}: the {key}") for key in TOOL_TURN_KEYS if key in keys}
    message = Message(role="tool", content="")
    message.update(cast(Message, found))
    return message


def _part_remarks(content: object, role: str) -> Iterator[Remark]:
    """Yield a remark for each key of the parts of a turn that is not read."""
    for part in content if isinstance(content, list | tuple) else ():
        keys = _known_keys(part, "") if isinstance(part, Mapping) else {}
        for key in keys:
            is_weight = key in WEIGHT_KEYS and (role == ASSISTANT or keys[key] == 0)
            if key not in ("type", "text") and not is_weight:
                yield Remark(f"Key '{start_of(str(key))}' of the parts of {role} turns is not read")


def _call_remarks(message: Message) -> Iterator[Remark]:
    """Yield a remark for each key of the tool calls of a turn that has an object beside the arguments."""
    for call in message.get("tool_calls", ()):
        for key in other_objects(call):
            yield Remark(f"Key '{start_of(key)}' of tool calls has an object, which is not read as arguments")


def _remarks(keys: Mapping[str, object], role: str) -> Iterator[Remark]:
    """Yield a remark for each key that is not read."""
    for key in _unread(keys, role):
        yield Remark(f"Key '{start_of(str(key))}' of {role} turns is not read")


def _unread(keys: Mapping[str, object], role: str) -> Iterator[str]:
    used = {next((key for key in names if key in keys), "") for names in (ROLE_KEYS, CONTENT_KEYS)}
    if role == ASSISTANT:
        used |= {next((key for key in names if key in keys), "") for names in (TOOL_CALL_KEYS, REASONING_KEYS)}
    used |= {ASSISTANT: set(WEIGHT_KEYS), "tool": set(TOOL_TURN_KEYS)}.get(role, set())
    for key in keys:
        # only assistant turns are learned, so a weight of 0 changes nothing in others
        if key in used or (key in WEIGHT_KEYS and keys[key] == 0):
            continue
        yield key
