"""JSON values of a data file: parsed with any numbers, and with messages on duplicate keys and wrong punctuation."""

import ast
import json
import re
from decimal import Decimal
from typing import Any

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.rows import RowValues, WrittenNumber, described
from neftune_cli.data.spellings import BARE_LIST, is_conversation

START_CHARACTERS = 60
MOST_DIGITS = 4000
"""Python does not convert integers with more than 4,300 digits."""


class DuplicateKeyError(ValueError):
    """An object has the same key twice."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


def parse(text: str, *, may_repeat: bool = False) -> Any:
    """Return a JSON value. Numbers that are not integers keep their text, and integers may have any number of digits.

    Args:
        text: JSON.
        may_repeat: whether an object may have the same key twice. The last value counts.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        DuplicateKeyError: an object has the same key twice.
        RecursionError: the value is nested too deeply.
    """
    return (_LENIENT_DECODER if may_repeat else _DECODER).decode(text)


def parse_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that starts at an index, and the index after it. Raises the errors of `parse`."""
    return _DECODER.raw_decode(text, start)


def parse_cell(text: str, *, may_repeat: bool = False) -> Any:
    """Return a value that a cell contains as JSON, or as Python prints it: `[{'role': 'user'}]`.

    Args:
        text: JSON, or a Python literal.
        may_repeat: whether an object may have the same key twice. The last value counts.

    Raises:
        ValueError: the text is neither, or the value is nested too deeply.
        DuplicateKeyError: an object has the same key twice.
    """
    for parser in (parse, _parse_python):  # pandas writes lists into CSV files as Python prints them
        try:
            return parser(text.strip(), may_repeat=may_repeat)
        except DuplicateKeyError:
            raise
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    raise ValueError("neither JSON nor a Python literal")


def _parse_python(text: str, *, may_repeat: bool) -> Any:
    """Return the value of a Python literal. Raises ValueError or another error of Python's parser if it is none."""
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            names = [key for key in keys if isinstance(key, str)]
            if len(names) < len(keys):
                raise ValueError("a key is not text")
            if not may_repeat:
                _check_keys(names)
    return ast.literal_eval(tree)


def object_of_line(line: str, fix: str) -> RowValues:
    """Return the object that a line contains.

    Raises:
        RowError: the line is not valid JSON, or not an object.
        RecursionError: the object is nested too deeply.
    """
    try:
        value = parse(line)
    except json.JSONDecodeError as error:
        what = f"invalid JSON at column {error.colno} ({reason(error)}). The line starts with: {start_of(line)}"
        raise RowError(what, fix, f"invalid JSON ({reason(error)})") from error
    except DuplicateKeyError as error:
        raise duplicate_key(error.key, _columns_of(error.key, line)) from error
    return checked_object(value, fix)


def checked_object(value: object, fix: str) -> RowValues:
    """Return a row. A list of turns is a row with the column `BARE_LIST`.

    Raises:
        RowError: the value is not an object, or has a column name that is not valid Unicode.
    """
    if isinstance(value, list) and is_conversation(value):
        return {BARE_LIST: value}
    if not isinstance(value, dict):
        shown = start_of(json.dumps(value, ensure_ascii=False, default=str))
        raise RowError(f"{shown} is not a JSON object.", fix, f"{described(value)} is not a JSON object")
    for name in value:
        if not name.isascii() and re.search("[\ud800-\udfff]", name):
            what = f"the column name {start_of(name)!a} contains a lone surrogate, which is not valid Unicode."
            raise RowError(what, "Rename the column.")
    return value


def duplicate_key(key: str, places: list[int], unit: str = "columns") -> RowError:
    """Return the error for an object that has the same key twice, with both places if they are known."""
    both = f" ({unit} {places[0]:,} and {places[1]:,})" if len(places) == 2 else ""
    return RowError(f"the key '{start_of(key)}' occurs twice in one object{both}.", "Rename or remove one of them.")


def duplicate_key_in_column(error: DuplicateKeyError, place: str) -> RowError:
    """Return the error for JSON text in a column, in which an object has the same key twice."""
    found = duplicate_key(error.key, [])
    return RowError(f"{place}: {found.what}", found.fix)


def reason(error: json.JSONDecodeError) -> str:
    """Return the fault in words. The parser has no words for the most common ones."""
    before, at = error.doc[: error.pos].rstrip(), error.doc[error.pos :]
    if at[:1] in ("}", "]") and before.endswith(","):
        return "comma before the closing bracket"
    if error.msg == "Extra data" and at.strip() == ",":
        return "comma after the object"
    if re.match(r"(None|True|False)\b", at):
        return f"{at.partition('e')[0]}e is Python, JSON has null, true and false"
    if error.msg == "Expecting value" and not at.strip():
        return "the text ends too early"
    if error.msg == "Expecting value" and not at[0].isprintable():
        return f"unexpected character U+{ord(at[0]):04X}"
    return error.msg


def start_of(text: str) -> str:
    """Return the start of a text for a message, without control characters."""
    text = text.strip(" \t\r\n")
    shown = text if len(text) <= START_CHARACTERS else f"{text[:START_CHARACTERS]}…"
    return "".join(character if character.isprintable() else "\ufffd" for character in shown)


def _columns_of(key: str, line: str) -> list[int]:
    return [match.start() + 1 for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", line)]


def lines_of(key: str, text: str) -> list[int]:
    """Return the lines in which an object key with this name occurs."""
    return [text.count("\n", 0, column) + 1 for column in _columns_of(key, text)]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _check_keys([name for name, _ in pairs])
    return found


def _check_keys(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise DuplicateKeyError(next(name for name in names if names.count(name) > 1))


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= MOST_DIGITS else Decimal(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=WrittenNumber, parse_int=_integer)
_LENIENT_DECODER = json.JSONDecoder(parse_float=WrittenNumber, parse_int=_integer)
