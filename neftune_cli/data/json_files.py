"""Rows of JSON and JSON lines files."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from neftune_cli.data.encoding import Text, text_of, whole_text_of
from neftune_cli.data.json_text import (
    DuplicateKeyError,
    checked_object,
    duplicate_key,
    lines_of,
    object_of_line,
    parse,
    parse_at,
    reason,
    start_of,
)
from neftune_cli.data.rows import TOO_DEEP, Located, Rows, RowValues, sift
from neftune_cli.data.spellings import is_conversation
from neftune_cli.data.splits import UNNAMED, is_split_name
from neftune_cli.errors import Problem, UsageError

JSON_LINES_FIX = "Write one JSON object per line. A list of objects belongs in a .json file."
WRITE_OBJECTS = "Write each example as an object with one key per column."
WRITE_LIST = 'Write [{"instruction": "...", "output": "..."}, ...].'
CORRECT = "Correct it, or write one object per line in a .jsonl file."


def read_json_lines(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a file with one JSON object per line. Empty lines do not count.

    Raises:
        UsageError: the file is not text.
    """
    return {UNNAMED: _rows_of_lines(source, text_of(source, content))}


def read_json(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a JSON document by split, or of JSON lines, which many tools write to .json files.

    A document is a list of objects, an object with such a list under the key `data`, an object of splits, or an object
    with a list or an object of values for each column.

    Raises:
        UsageError: the file is not text, not valid JSON, or has another structure.
    """
    text = whole_text_of(source, content)
    try:
        document = parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith(("{", "[")):
            return {UNNAMED: _rows_of_lines(source, Text(text))}
        raise UsageError(_invalid(source, text, error)) from error
    except DuplicateKeyError as error:
        found = duplicate_key(error.key, lines_of(error.key, text), "lines")
        raise UsageError(Problem(f"{source}: {found.what}", found.fix)) from error
    except RecursionError as error:
        raise UsageError(_too_deep(source, text)) from error
    return {name: _rows_of_items(source, name, items) for name, items in _splits(source, document).items()}


def _rows_of_lines(source: str, text: Text) -> Rows:
    # Not splitlines: JSON strings may contain the other line separators of Unicode unescaped.
    numbered = enumerate(text.value.split("\n"), start=1)
    lines = (Located(f"line {number}", line, source) for number, line in numbered if line.strip())
    return Rows(*sift(source, lines, _line_reader(text)))


def _line_reader(text: Text) -> Callable[[str], RowValues]:
    def read(line: str) -> RowValues:
        text.check(line)
        return object_of_line(line.removeprefix("\ufeff"), JSON_LINES_FIX)  # joined files have marks inside

    return read


def _rows_of_items(source: str, split: str, items: Iterable[object]) -> Rows:
    of_split = f"{split} row" if split else "row"
    located = (Located(f"{of_split} {number}", item, source) for number, item in enumerate(items, start=1))
    return Rows(*sift(source, located, lambda item: checked_object(item, WRITE_OBJECTS)))


def _invalid(source: str, text: str, error: json.JSONDecodeError) -> Problem:
    line = text.split("\n")[error.lineno - 1]
    what = f"{source}, line {error.lineno}: invalid JSON at column {error.colno} ({reason(error)})."
    return Problem(f"{what} The line starts with: {start_of(line)}", CORRECT)


def _too_deep(source: str, text: str) -> Problem:
    """Find the item of a list that is nested too deeply."""
    position = text.find("[") + 1
    while position:
        position = len(text) - len(text[position:].lstrip(" \t\r\n,"))
        try:
            _, position = parse_at(text, position)
        except (RecursionError, ValueError):
            break
    line = text.count("\n", 0, position) + 1
    return Problem(f"{source}, line {line}: {TOO_DEEP}", "Remove the row.")


def _splits(source: str, document: object) -> Mapping[str, Iterable[object]]:
    if isinstance(document, list):
        return {UNNAMED: document}
    items = document.get("data") if isinstance(document, dict) else None
    if isinstance(items, list) and isinstance(document, dict):
        return {UNNAMED: _from_pandas(document["columns"], items) if _is_pandas_split(document) else items}
    if isinstance(document, dict) and document:
        if splits := _named_splits(source, document):
            return splits
        if _is_table(document):
            return {UNNAMED: list(_rows_of_columns(source, document))}
        if all(key.isdecimal() and isinstance(value, dict) for key, value in document.items()):
            return {UNNAMED: list(document.values())}
    what = f"{source} contains neither a list of objects nor an object with such a list under the key 'data'."
    raise UsageError(Problem(what, WRITE_LIST))


def _is_pandas_split(document: Mapping[str, Any]) -> bool:
    """Return whether the document is what `DataFrame.to_json(orient="split")` writes."""
    return isinstance(document.get("columns"), list) and all(isinstance(values, list) for values in document["data"])


def _from_pandas(columns: Sequence[object], values: Iterable[Sequence[object]]) -> list[object]:
    return [dict(zip(map(str, columns), row, strict=False)) for row in values]


def _named_splits(source: str, document: Mapping[str, Any]) -> dict[str, list[object]]:
    """Return the rows of each key that is the name of a split; nothing unless all keys with rows are."""
    splits = {key: _rows_of_value(source, value) for key, value in document.items() if is_split_name(key)}
    found = {key: rows for key, rows in splits.items() if rows is not None}
    others = [key for key in document if key not in found]
    return {} if any(isinstance(document[key], list) for key in others) else found


def _rows_of_value(source: str, value: object) -> list[object] | None:
    if isinstance(value, list):
        return value if all(isinstance(item, dict | list) for item in value) else None
    return list(_rows_of_columns(source, value)) if isinstance(value, dict) and _is_table(value) else None


def _is_table(document: Mapping[str, Any]) -> bool:
    """Return whether each value is a column: a list, or an object with the row names that pandas writes."""
    values = list(document.values())
    if any(isinstance(value, list) and is_conversation(value) for value in values):
        return False
    is_object = all(isinstance(value, dict) for value in values) and not all(key.isdecimal() for key in document)
    return bool(values) and (all(isinstance(value, list) for value in values) or is_object)


def _rows_of_columns(source: str, columns: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    named = {name: values if isinstance(values, dict) else dict(enumerate(values)) for name, values in columns.items()}
    keys = list(next(iter(named.values())))
    if any(list(values) != keys for values in named.values()):
        lengths = ", ".join(f"{name}: {len(values):,}" for name, values in named.items())
        raise UsageError(Problem(f"{source}: the columns have different rows ({lengths}).", WRITE_LIST))
    return ({name: values[key] for name, values in named.items()} for key in keys)
