"""Structure of a JSON document: where its rows are, and the keys that are not read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from neftune_cli.data.header import check_names, under_names
from neftune_cli.data.json_text import checked_object
from neftune_cli.data.rows import RowValues, described, is_blank
from neftune_cli.data.spellings import is_conversation
from neftune_cli.data.splits import UNNAMED, is_split_name
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import listed

WRITE_OBJECTS = "Write each example as an object with one key per column."
WRITE_LIST = 'Write [{"instruction": "...", "output": "..."}, ...].'
WRITE_VALUES = "Write one value for each column."
WRITE_SPLITS = 'Use the names of splits for all lists, such as {"train": [...], "test": [...]}, or remove the others.'
WRITE_SPLIT = "Write a list of objects, or remove the key."
DATA = "data"
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
        if _is_table(document):
            return Document({UNNAMED: list(_rows_of_columns(source, document))})
        if all(key.isdecimal() and isinstance(value, dict) for key, value in document.items()):
            return Document({UNNAMED: list(document.values())})
    what = f"{source} contains neither a list of objects nor an object with such a list under the key '{DATA}'."
    raise UsageError(Problem(what, WRITE_LIST))


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
        raise UsageError(Problem(f"{source}: the columns have different rows ({lengths}).", WRITE_LIST))
    return ({name: values[key] for name, values in named.items()} for key in keys)
