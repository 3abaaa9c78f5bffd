"""Rows of JSON and JSON lines files."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from neftune_cli.data.bad_rows import TOO_DEEP
from neftune_cli.data.encoding import Text, document_text, file_text
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
from neftune_cli.data.rows import Located, Rows, RowValues, check_names, described, is_blank, sift, under_names
from neftune_cli.data.spellings import is_conversation
from neftune_cli.data.split_names import UNNAMED, is_split_name
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import listed

JSON_LINES_FIX = "Write one JSON object per line. A list of objects belongs in a .json file."
CORRECT = "Correct it, or write one object per line in a .jsonl file."
_SEPARATE_DOCUMENTS = "Remove the text, or pass several JSON documents as separate files, separated by commas."
_ITEM = re.compile(r"[^ \t\r\n,]")


def read_json_lines(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a file with one JSON object per line. Empty lines do not count.

    Raises:
        UsageError: the file is not text.
    """
    return {UNNAMED: _rows_of_lines(source, file_text(source, content))}


def read_json(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a JSON document by split (`rows_of_document`), or of JSON lines in a .json file.

    Raises:
        UsageError: the file is not text, not valid JSON, has another structure, or has keys beside the rows that can be
            rows, too.
    """
    text = document_text(source, content)
    try:
        document = parse(text)
    except json.JSONDecodeError as error:
        if not text.strip() or (error.msg == "Extra data" and text.lstrip().startswith(("{", "["))):
            return {UNNAMED: _rows_of_lines(source, Text(text), is_lines=False)}
        raise UsageError(_invalid(source, text, error)) from error
    except DuplicateKeyError as error:
        found = duplicate_key(error.key, lines_of(error.key, text), "lines")
        raise UsageError(Problem(f"{source}: {found.what}", found.fix)) from error
    except RecursionError as error:
        raise UsageError(_too_deep(source, text)) from error
    rows = rows_of_document(source, document)
    notes = (f"Keys of {source} that are not read: {', '.join(rows.unread)}.",) if rows.unread else ()
    return {name: _rows_of_items(source, name, items, rows.read, notes) for name, items in rows.splits.items()}


def _refuse_several_lines(source: str, text: str, is_lines: bool) -> None:
    """Refuse JSON whose first value takes several lines: a list, or objects that a program has indented.

    Args:
        source: name of the file, for messages.
        text: its text.
        is_lines: whether the file has the suffix of JSON lines.

    Raises:
        UsageError: it does, or a file without the suffix of JSON lines has text after its list.
    """
    start = len(text) - len(text.lstrip())
    first_line = text[start:].partition("\n")[0]
    try:
        _, end = parse_at(text, start)
    except (ValueError, RecursionError):  # reported with its line
        return
    if first_line.startswith("[") and not is_lines:
        raise UsageError(Problem(f"{source} has text after the end of its JSON list.", _SEPARATE_DOCUMENTS))
    if end <= start + len(first_line):
        return
    if first_line.startswith("["):
        raise UsageError(Problem(f"{source} is a JSON list, not JSON lines.", "Rename it to .json."))
    line = text.count("\n", 0, start) + 1
    what = f"{source}, line {line}: the JSON object takes several lines."
    raise UsageError(Problem(what, f"Write one object per line, for example: jq -c . '{source}' > lines.jsonl"))


def _rows_of_lines(source: str, text: Text, is_lines: bool = True) -> Rows:
    _refuse_several_lines(source, text.value, is_lines)
    # Not splitlines: JSON strings may contain the other line separators of Unicode unescaped.
    end = "\n" if "\n" in text.value else "\r"  # of old Macs
    numbered = enumerate(text.value.split(end), start=1)
    lines = (Located(f"line {number}", line, source) for number, line in numbered if line.strip())
    return Rows(*sift(lines, _line_reader(text)))


def _line_reader(text: Text) -> Callable[[str], RowValues]:
    def read(line: str) -> RowValues:
        text.check(line)
        return object_of_line(line.removeprefix("\ufeff"), JSON_LINES_FIX)  # joined files have marks inside

    return read


def _rows_of_items(
    source: str, split: str, items: Iterable[object], read: Callable[[object], RowValues], notes: tuple[str, ...]
) -> Rows:
    of_split = f"{split} row" if split else "row"
    located = (Located(f"{of_split} {number}", item, source) for number, item in enumerate(items, start=1))
    return Rows(*sift(located, read), notes)


def _invalid(source: str, text: str, error: json.JSONDecodeError) -> Problem:
    line = text.split("\n")[error.lineno - 1]
    what = f"{source}, line {error.lineno}: invalid JSON at column {error.colno} ({reason(error)})."
    return Problem(f"{what} The line starts with: {start_of(line)}", CORRECT)


def _too_deep(source: str, text: str) -> Problem:
    """Find the item of a list that is nested too deeply."""
    position = text.find("[") + 1
    while position:
        item = _ITEM.search(text, position)
        position = item.start() if item else len(text)
        try:
            _, position = parse_at(text, position)
        except (RecursionError, ValueError):
            break
    line = text.count("\n", 0, position) + 1
    return Problem(f"{source}, line {line}: {TOO_DEEP}", "Remove the row.")


WRITE_OBJECTS = "Write each example as an object with one key per column."
WRITE_LIST = 'Write [{"instruction": "...", "output": "..."}, ...].'
WRITE_VALUES = "Write one value for each column."
WRITE_SPLITS = 'Use the names of splits for all lists, such as {"train": [...], "test": [...]}, or remove the others.'
WRITE_SPLIT = "Write a list of objects, or remove the key."
DATA = "data"
WRITE_WRAPPER = f"Rename the key to '{DATA}' or to the name of a split, such as 'train', or write the list alone."
OF_PANDAS = ("columns", "index", "schema")
"""Keys that pandas writes beside `data`."""


def _read_object(item: object) -> RowValues:
    return checked_object(item, WRITE_OBJECTS)


@dataclass(frozen=True)
class Document:
    """Rows of a document, before they are checked."""

    splits: Mapping[str, Iterable[object]]
    """Items by split, each of which is a row."""
    unread: tuple[str, ...] = ()
    """Keys with values that are not read."""
    read: Callable[[object], RowValues] = _read_object
    """Returns the row of an item, or raises `RowError`."""


def rows_of_document(source: str, document: object) -> Document:
    """Return the rows of a document by split.

    A document is a list of objects, an object with such a list under the key `data`, an object of splits, or an object
    with a list or an object of values for each column.

    Raises:
        UsageError: the document has another structure, or rows in several places that are no splits.
    """
    if isinstance(document, list):
        return Document({UNNAMED: document})
    if isinstance(document, dict) and isinstance(document.get(DATA), list) and not _is_table_with_data(document):
        return _with_data(source, document, document[DATA])
    if isinstance(document, dict) and document:
        if found := _named_splits(source, document):
            return found
        _refuse_wrapped(source, document)
        if _is_table(document):
            return Document({UNNAMED: list(_rows_of_columns(source, document))})
        if all(key.isdecimal() and isinstance(value, dict) for key, value in document.items()):
            return Document({UNNAMED: list(document.values())})
    what = f"{source} contains neither a list of objects nor an object with such a list under the key '{DATA}'."
    raise UsageError(Problem(what, WRITE_LIST))


def _refuse_wrapped(source: str, document: Mapping[str, Any]) -> None:
    """Refuse a document whose rows are under another key than `data`.

    Raises:
        UsageError: the only list in the document contains rows.
    """
    lists = {key: value for key, value in document.items() if isinstance(value, list) and value}
    key, rows = next(iter(lists.items()), ("", []))
    if len(lists) == 1 and all(isinstance(row, dict) for row in rows) and not is_conversation(rows):
        what = f"{source}: the rows are under the key '{start_of(key)}', which is not read."
        raise UsageError(Problem(what, WRITE_WRAPPER))


def _is_table_with_data(document: Mapping[str, Any]) -> bool:
    """Return whether `data` is a column: all keys have lists of the same length, and `data` has no objects."""
    lengths = {len(value) for value in document.values() if isinstance(value, list)}
    has_rows = any(isinstance(item, dict | list) for item in document[DATA])
    return len(document) > 1 and len(lengths) == 1 and not has_rows and _is_table(document)


def _with_data(source: str, document: Mapping[str, Any], items: Sequence[Any]) -> Document:
    others = [key for key, value in document.items() if key not in (DATA, *OF_PANDAS) and not is_blank(value)]
    if rows := [f"'{key}'" for key in others if _may_have_rows(key, document[key], len(items))]:
        have = f"key{'s' if len(rows) > 1 else ''} {listed(rows)} {'have' if len(rows) > 1 else 'has'}"
        raise UsageError(Problem(f"{source}: the {have} values beside the rows in '{DATA}'.", WRITE_SPLITS))
    if not _is_pandas_split(document):
        return Document({UNNAMED: items}, tuple(others))
    names = [str(name) for name in document["columns"]]
    check_names(source, names)
    return Document({UNNAMED: items}, tuple(others), partial(_under_names, names))


def _under_names(names: Sequence[str], item: object) -> RowValues:
    assert isinstance(item, list)
    return _read_object(under_names(names, item, WRITE_VALUES))


def _may_have_rows(key: str, value: object, rows: int) -> bool:
    """Return whether the value of a key beside `data` can be rows or a column."""
    if is_split_name(key):
        return isinstance(value, list | dict)
    return isinstance(value, list) and (len(value) == rows or any(isinstance(item, dict | list) for item in value))


def _is_pandas_split(document: Mapping[str, Any]) -> bool:
    """Return whether the document is what `DataFrame.to_json(orient="split")` writes."""
    return isinstance(document.get("columns"), list) and all(isinstance(values, list) for values in document[DATA])


def _named_splits(source: str, document: Mapping[str, Any]) -> Document | None:
    """Return the rows of each key that is the name of a split; None unless all lists belong to splits.

    Raises:
        UsageError: the key of a split has something else than rows.
    """
    splits = {key: _rows_of_value(source, value) for key, value in document.items() if is_split_name(key)}
    found = {key: rows for key, rows in splits.items() if rows is not None}
    others = [key for key in document if key not in found and not is_blank(document[key])]
    if not found or any(isinstance(document[key], list) for key in others):
        return None
    problems = [_no_rows(source, key, document[key]) for key in others if is_split_name(key) and "_" not in key]
    if problems:
        raise UsageError(*problems)
    return Document(found, tuple(others))


def _no_rows(source: str, key: str, value: object) -> Problem:
    what = f"{source}: the key '{key}' is the name of a split, but contains {described(value)}, not rows."
    return Problem(what, WRITE_SPLIT)


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
        raise UsageError(Problem(f"{source}: the columns have different numbers of values ({lengths}).", WRITE_LIST))
    return ({name: values[key] for name, values in named.items()} for key in keys)
