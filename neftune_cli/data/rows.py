"""Rows of a data source, each with its line or row number, their columns, and checked access to their values."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from neftune_cli.data.bad_rows import TOO_DEEP, BadRow, RowError
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

ItemT = TypeVar("ItemT")
ParsedT = TypeVar("ParsedT")

EMPTY_JSON = ("[]", "{}", "null")
"""Empty values as JSON text, which CSV files have in place of them."""


@dataclass(frozen=True)
class Located(Generic[ItemT]):
    """A value and its position in its source."""

    place: str
    """For example `line 7` or `row 7`, counted from 1."""
    value: ItemT
    file: str
    """File or split that the value comes from."""

    @property
    def position(self) -> str:
        """Return the position with the file: `mine.jsonl, line 7`."""
        return f"{self.file}, {self.place}"


class WrittenNumber(float):
    """A number with a decimal point or an exponent in JSON, with the text that it has there."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "WrittenNumber":
        """Return the number of a text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


class MissingCell(str):
    """The text of a CSV cell that pandas and datasets read as a missing value, such as `NaN`."""

    __slots__ = ()


RowValues = Mapping[str, object]
"""The values of one row by column name."""
LocatedRow = Located[RowValues]


class Columns(Protocol):
    """Values of a source that stores them by column. A column is converted when its first value is read."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the columns."""

    def value(self, column: str, index: int) -> object:
        """Return a value. Raises `RowError` if it cannot be converted."""

    def is_filled(self, column: str, index: int) -> bool:
        """Return whether a value is not blank and not `EMPTY_JSON`, without a conversion of the column."""


@dataclass(frozen=True)
class ColumnarRow(Mapping[str, object]):
    """One row of `Columns`. Columns that are never read are never converted."""

    columns: Columns
    index: int

    def __getitem__(self, column: str) -> object:
        """Return the value in a column."""
        if column not in self.columns.names:
            raise KeyError(column)
        return self.columns.value(column, self.index)

    def __contains__(self, column: object) -> bool:
        """Return whether the row has a column, without a conversion."""
        return column in self.columns.names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns."""
        return iter(self.columns.names)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.columns.names)


@dataclass(frozen=True)
class Table:
    """All rows of one source."""

    source: str
    """The files, folder or hub id, as the user wrote it."""
    rows: tuple[LocatedRow, ...]
    split_column: str | None = None
    """Column that was read to choose the rows."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return all columns that occur in any row, in the order of appearance."""
        return tuple(dict.fromkeys(column for row in self.rows for column in row.value))

    @cached_property
    def filled_columns(self) -> tuple[str, ...]:
        """Return the columns that have a value in any row. An empty list or object as JSON text is none."""
        return tuple(column for column in self.columns if any(is_filled(row.value, column) for row in self.rows))

    @property
    def filled_names(self) -> dict[str, str]:
        """Return the columns that have a value in any row, by their name in lower case without surrounding spaces."""
        return {column.strip().lower(): column for column in self.filled_columns}

    def filled(self, column: str) -> int:
        """Return the number of rows that have a value in a column. An empty list or object as JSON text is none."""
        return sum(is_filled(row.value, column) for row in self.rows)


def is_filled(row: RowValues, column: str) -> bool:
    """Return whether a row has a value in a column. An empty list or object as JSON text is none."""
    if isinstance(row, ColumnarRow):
        return column in row and row.columns.is_filled(column, row.index)
    return has_content(row.get(column))


def has_content(value: object) -> bool:
    """Return whether a value is not blank, not a missing cell, and not an empty list or object as JSON text."""
    is_empty = isinstance(value, MissingCell) or (isinstance(value, str) and value.strip() in EMPTY_JSON)
    return not is_empty and not is_blank(value)


@dataclass(frozen=True)
class Rows:
    """Rows of a file or of a split, and the rows of it that cannot be read."""

    rows: tuple[LocatedRow, ...]
    bad_rows: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes on parts of the file that are not read, one sentence each."""

    @property
    def count(self) -> int:
        """Return the number of all rows."""
        return len(self.rows) + len(self.bad_rows)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, in order."""
    return Rows(
        tuple(row for part in parts for row in part.rows),
        tuple(row for part in parts for row in part.bad_rows),
        tuple(note for part in parts for note in part.notes),
    )


def sift(
    items: Iterable[Located[ItemT]], read: Callable[[ItemT], ParsedT]
) -> tuple[tuple[Located[ParsedT], ...], tuple[BadRow, ...]]:
    """Apply `read` to every item. Return the results with the positions of the items, and the items it rejects."""
    results: list[Located[ParsedT]] = []
    bad_rows: list[BadRow] = []
    for item in items:
        try:
            results.append(Located(item.place, read(item.value), item.file))
        except RowError as error:
            bad_rows.append(BadRow(item.position, error.what, error.fix, error.cause))
        except RecursionError:
            bad_rows.append(BadRow(item.position, TOO_DEEP, "Remove the row.", TOO_DEEP))
    return tuple(results), tuple(bad_rows)


class NamedRow(Mapping[str, object]):
    """A row under the column names of a layout, whatever the columns are called in the data."""

    def __init__(self, values: RowValues, names: Mapping[str, str]) -> None:
        """Keep the values and, for each column of the layout, its name in the data."""
        self._values = values
        self._names = {name: actual for name, actual in names.items() if actual in values}
        self.names = names

    def __getitem__(self, name: str) -> object:
        """Return the value of a column of the layout."""
        return self._values[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the columns of the layout that the row has."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of columns of the layout that the row has."""
        return len(self._names)


def check_names(place: str, names: Sequence[str]) -> None:
    """Check that no column name occurs twice.

    Args:
        place: file, or file and line, for messages.
        names: column names in the order of the columns.

    Raises:
        UsageError: names occur several times.
    """
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names, start=1):
        numbers.setdefault(name, []).append(number)
    problems = [
        Problem(
            f"{place}: the column name '{name}' occurs {len(found)} times (columns {', '.join(map(str, found))}).",
            "Rename or remove the others.",
        )
        for name, found in numbers.items()
        if len(found) > 1
    ]
    if problems:
        raise UsageError(*problems)


def under_names(names: Sequence[str], values: Sequence[object], fix: str) -> RowValues:
    """Return the values by column name.

    Raises:
        RowError: there are more or fewer values than columns. It has the given fix.
    """
    if len(values) != len(names):
        raise RowError(f"{sizes_in_words(names, values)}.", fix)
    return dict(zip(names, values, strict=True))


def sizes_in_words(names: Sequence[str], values: Sequence[object]) -> str:
    """Return `3 values for 2 columns (prompt, completion)`."""
    return f"{counted(len(values), 'value')} for {counted(len(names), 'column')} ({', '.join(names)})"


def column_in_words(row: RowValues, column: str) -> str:
    """Return `column '...'` with the name of the column in the data, for a message."""
    return f"column '{name_in_data(row, column)}'"


def name_in_data(row: RowValues, column: str) -> str:
    """Return the name of a column in the data."""
    return row.names.get(column, column) if isinstance(row, NamedRow) else column


def text_in(row: RowValues, column: str) -> str:
    """Return the text of a column. A number is its text, in JSON as it is written there.

    Raises:
        RowError: the value is missing, empty, or neither text nor a finite number.
    """
    return text_of(value_in(row, column), column_in_words(row, column))


def text_of(value: object, place: str) -> str:
    """Return the text of a value at a place. A number is its text, in JSON as it is written there.

    Raises:
        RowError: the value is empty, or neither text nor a finite number.
    """
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and not is_blank(value):
        if value in (math.inf, -math.inf):
            raise RowError(f"{place} contains a number that is not finite.", "Write it as text, or remove the row.")
        return value.text if isinstance(value, WrittenNumber) else str(value)
    return checked_text(value, place)


def value_in(row: RowValues, column: str) -> object:
    """Return the value of a column.

    Raises:
        RowError: the row does not have the column.
    """
    if column not in row:
        raise RowError(f"{column_in_words(row, column)} is missing.", "Add it, or remove the row.")
    return row[column]


def is_blank(value: object) -> bool:
    """Return whether a value is missing, NaN, an empty list, or text of white space only.

    An object is blank if it is empty or all values in it are null: Parquet files have such objects in place of null.
    """
    if isinstance(value, str):
        return not value.strip()
    is_nan = isinstance(value, float) and math.isnan(value)
    is_empty = isinstance(value, list | tuple | dict) and not value
    return value is None or is_nan or is_empty or (isinstance(value, dict) and _has_only_nulls(value))


def _has_only_nulls(values: dict[str, object]) -> bool:
    return bool(values) and all(
        value is None or (isinstance(value, dict) and _has_only_nulls(value)) for value in values.values()
    )


def checked_text(value: object, place: str) -> str:
    """Return a value that is text.

    Raises:
        RowError: the value is blank, not text, or not valid Unicode.
    """
    if is_blank(value):
        raise RowError(f"{place} is empty.", "Fill it in, or remove the row.")
    if not isinstance(value, str):
        raise RowError(f"{place} contains {described(value)}, not text.", "Write it as text, or remove the row.")
    if not _is_encodable(value):
        what = f"{place} contains a lone surrogate, which is not valid Unicode."
        raise RowError(what, "Delete that character, or remove the row.")
    return str(value)  # also of a missing cell


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def described(value: object) -> str:
    """Return the type of a value in words."""
    if value is None:
        return "null"
    names = {str: "text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    other = f"a value of type {type(value).__name__}"
    return next((name for kind, name in names.items() if isinstance(value, kind)), other)
