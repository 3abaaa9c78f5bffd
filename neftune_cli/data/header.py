"""Column names of a table, and the values of a row under them: for files that name the columns once."""

from collections.abc import Sequence

from neftune_cli.data.rows import RowError, RowValues
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

OTHER_NUMBER = "another number of values than of columns"
"""Cause of rows that have more or fewer values than the table has columns."""


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
        raise RowError(f"{sizes_in_words(names, values)}.", fix, OTHER_NUMBER)
    return dict(zip(names, values, strict=True))


def sizes_in_words(names: Sequence[str], values: Sequence[object]) -> str:
    """Return `3 values for 2 columns (prompt, completion)`."""
    return f"{counted(len(values), 'value')} for {counted(len(names), 'column')} ({', '.join(names)})"
