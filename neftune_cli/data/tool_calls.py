"""Tool calls of assistant turns, and definitions of tools: lists of objects, or text that contains them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.json_text import DuplicateKeyError, duplicate_key_in_column, parse_cell, start_of
from neftune_cli.data.rows import RowValues, checked_text, column_in_words, described, is_blank

_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
"""Keys of the arguments of a call: those of OpenAI, of Llama, of LangChain and Gemini, and of Anthropic."""
_OTHER_TYPES = ("tool_call", "tool_use")
"""Values of `type` of LangChain and Anthropic that mean `function`."""
_WRITE_TOOLS = 'Write [{"type": "function", "function": {"name": "...", "parameters": {...}}}, ...].'
_CALL_FORM = '{"type": "function", "function": {"name": "...", "arguments": {...}}}'
KEY_ORDER = (
    *("type", "id", "function", "name", "enum", "description", "parameters", "arguments"),
    *("properties", "items", "required"),
)
"""First keys of objects in tool calls and tool definitions, in the order in which chat models know them."""


def tools_in(row: RowValues, column: str) -> str:
    """Return the tool definitions in a column, a list or its JSON text, as JSON text; empty if there are none.

    Raises:
        RowError: the value is not a list of objects, or an object has the same key twice.
    """
    place, value = column_in_words(row, column), row.get(column)
    tools = _parsed(value, place) if isinstance(value, str) and not is_blank(value) else value
    if is_blank(tools):
        return ""
    tools = [tools] if isinstance(tools, dict) else tools
    tools = [_parsed(tool, place) if isinstance(tool, str) else tool for tool in _as_list(tools, place)]
    if not all(isinstance(tool, dict) for tool in tools):
        raise RowError(f"{place} is not a list of tool definitions.", _WRITE_TOOLS)
    for number, tool in enumerate(tools, start=1):
        _check_name(tool, f"{place}, item {number}")
    return _json_text(without_nulls(tools), place)


def _check_name(tool: Any, place: str) -> None:
    """Check that a definition has the name of a function, without which it cannot be found in the rendered text."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name.strip():
        raise RowError(f"{place}: the tool definition has no function name.", _WRITE_TOOLS)


def calls_in(calls: object, place: str) -> list[dict[str, Any]]:
    """Return the tool calls of a turn in OpenAI's form: one call, a list of calls, or the JSON text of either.

    Raises:
        RowError: a call has no function name, or its arguments are not an object.
    """
    return [_call(call, place) for call in _listed(calls, place)]


def without_nulls(value: Any) -> Any:
    """Return a JSON value without the keys whose value is null. Parquet files have a null for each absent key."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def in_key_order(value: Any) -> Any:
    """Return a JSON value with the keys of each object in one order: KEY_ORDER, then alphabetical.

    Parquet files do not keep the order of keys, and templates render it. Equal contents must have equal tokens.
    """
    if isinstance(value, Mapping):
        return {key: in_key_order(value[key]) for key in sorted(value, key=_place_of_key)}
    if isinstance(value, list | tuple):
        return [in_key_order(item) for item in value]
    return value


def _place_of_key(key: str) -> tuple[int, str]:
    return (KEY_ORDER.index(key) if key in KEY_ORDER else len(KEY_ORDER), key)


def _listed(calls: object, place: str) -> list[object]:
    calls = _parsed(calls, place) if isinstance(calls, str) else calls
    return [calls] if isinstance(calls, Mapping) else _as_list(calls, place)


def _as_list(value: object, place: str) -> list[object]:
    if not isinstance(value, list | tuple):
        raise RowError(f"{place}: {described(value)} in place of a list.", "Write a list, or its JSON text.")
    return list(value)


def _call(call: object, place: str) -> dict[str, Any]:
    """Return a tool call in OpenAI's form, with the arguments as an object."""
    call = without_nulls(_parsed(call, place) if isinstance(call, str) else call)
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        raise RowError(f"{place}: a tool call has no function name.", f"Write it as {_CALL_FORM}.")
    arguments = _arguments_of(call, function, place)
    # keys beside `function`, and keys within it; of a flat call, only `id` and `type` are outside
    outer = (
        ("id", "type") if function is call else tuple(key for key in call if key not in ("function", *_ARGUMENT_KEYS))
    )
    inner = {key: value for key, value in function.items() if key == "name" or key not in (*_ARGUMENT_KEYS, *outer)}
    others = _chosen(call, outer)
    if others.get("type") in _OTHER_TYPES:
        del others["type"]
    checked = {"type": "function", **others, "function": {**inner, "arguments": arguments or {}}}
    if arguments is None:
        _refuse_other_objects(checked, place)
    _json_text(checked, place)
    return checked


def _arguments_of(call: Mapping[str, Any], function: Mapping[str, Any], place: str) -> dict[str, Any] | None:
    """Return the arguments, which can also be beside the key `function`; None if there are none, not even `{}`.

    Raises:
        RowError: they are not an object, or two keys have different arguments.
    """
    of_function = f"{place}: the arguments of '{function['name']}'"
    sides = {"": call} if function is call else {"function.": function, "": call}
    found = [
        (f"{prefix}{key}", _arguments(side[key], of_function))
        for prefix, side in sides.items()
        for key in _ARGUMENT_KEYS
        if _is_given(side.get(key))
    ]
    found = [(key, arguments) for key, arguments in found if arguments] or found  # some programs write all of the keys
    if different := [key for key, arguments in found if arguments != found[0][1]]:
        what = f"{place}: a tool call has different arguments in '{found[0][0]}' and '{different[0]}'."
        raise RowError(what, "Remove one of them.")
    return found[0][1] if found else None


def _is_given(arguments: object) -> bool:
    return isinstance(arguments, dict) or not is_blank(arguments)


def _refuse_other_objects(call: Mapping[str, Any], place: str) -> None:
    """Refuse a call whose only object is under a key that is not read: templates would leave it out."""
    if key := next(other_objects(call), ""):
        what = f"{place}: a tool call has an object under the key '{start_of(key)}', which is not read."
        raise RowError(what, "Write the arguments under the key 'arguments', or remove the key.")


def other_objects(call: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of a call in OpenAI's form that have an object, or its JSON text, and are not its arguments."""
    for values, read in ((call, "function"), (call["function"], "arguments")):
        yield from (key for key, value in values.items() if key != read and _is_object(value))


def _is_object(value: object) -> bool:
    """Return whether a value is an object that is not empty, or its text; `{3}` and `{curly} text` are other texts."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = parse_cell(value, may_repeat=True)
        except ValueError:
            return False
    return isinstance(value, dict) and bool(value)


def _chosen(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def _arguments(given: object, place: str) -> dict[str, Any]:
    arguments = _parsed(given, place) if isinstance(given, str) else given
    if not isinstance(arguments, dict) and is_blank(arguments):
        return {}
    if not isinstance(arguments, dict):
        raise RowError(f"{place} are not a JSON object.", f"Write the call as {_CALL_FORM}.")
    cleaned: dict[str, Any] = without_nulls(arguments)
    return cleaned


def _parsed(text: str, place: str) -> Any:
    try:
        return parse_cell(text)
    except DuplicateKeyError as error:
        raise duplicate_key_in_column(error, place) from None
    except ValueError:
        raise RowError(f"{place}: the text is not valid JSON.", "Write it as JSON, or remove the row.") from None


def _json_text(value: object, place: str) -> str:
    try:
        return checked_text(json.dumps(value, ensure_ascii=False, allow_nan=False), place)
    except (TypeError, ValueError):
        what = f"{place} contains a value that JSON cannot contain."
        raise RowError(what, "Write it as text, or remove the row.") from None
