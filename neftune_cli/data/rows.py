"""Rows as a source gives them, each with the place where its reader finds it again when something is wrong."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from neftune_cli.errors import Problem, UsageError

Value = TypeVar("Value")
Result = TypeVar("Result")

SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class Located(Generic[Value]):
    """A value and where it stands in its source."""

    place: str
    """Such as `line 7` or `row 7`, counted from 1."""
    value: Value


Row = Located[Mapping[str, object]]
"""One row: its values by column."""


@dataclass(frozen=True)
class Table:
    """All rows of one source."""

    source: str
    """What the user typed for it: a file, a folder or a hub id."""
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return every column that some row has, in the order of appearance."""
        return tuple(dict.fromkeys(column for row in self.rows for column in row.value))


class RowError(Exception):
    """One row can't be used; whoever knows the source and the place turns it into a problem for the user."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


def read_each(
    source: str, items: Iterable[Located[Value]], read: Callable[[Value], Result]
) -> tuple[Located[Result], ...]:
    """Apply `read` to every item and return the results where the items stood.

    Raises:
        UsageError: `read` raised RowError; the first 5 are told in full, the others counted.
    """
    results: list[Located[Result]] = []
    problems: list[Problem] = []
    for item in items:
        try:
            results.append(Located(item.place, read(item.value)))
        except RowError as error:
            problems.append(Problem(f"{source}, {item.place}: {error.what}", error.fix))
    if problems:
        raise UsageError(*_first(problems, source))
    return tuple(results)


def _first(problems: Sequence[Problem], source: str) -> Sequence[Problem]:
    left = len(problems) - SHOWN_PROBLEMS
    if left <= 0:
        return problems
    more = Problem(f"{source}: and {left} more.", "Mend or remove all of them, then run the command again.")
    return [*problems[:SHOWN_PROBLEMS], more]
