"""Rows of a data source, each with its line or row number, and checked access to the values in their columns."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from neftune_cli.data.examples import Message
from neftune_cli.errors import Problem, UsageError

ItemT = TypeVar("ItemT")
ParsedT = TypeVar("ParsedT")

SHOWN_PROBLEMS = 5
SHOWN_PLACES = 3
_TURN_NUMBER = re.compile(r"\bturn \d+")


@dataclass(frozen=True)
class Located(Generic[ItemT]):
    """A value and its position in its source."""

    place: str
    """For example `line 7` or `row 7`, counted from 1."""
    value: ItemT


RowValues = Mapping[str, object]
"""The values of one row by column name."""
LocatedRow = Located[RowValues]


@dataclass(frozen=True)
class Table:
    """All rows of one source."""

    source: str
    """The file, folder or hub id, as the user wrote it."""
    rows: tuple[LocatedRow, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return all columns that occur in any row, in the order of appearance."""
        return tuple(dict.fromkeys(column for row in self.rows for column in row.value))


class RowError(Exception):
    """One row cannot be used. The caller adds the source and the position of the row."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, with the fault and its fix."""

    place: str
    """File and line or row: `mine.jsonl, line 7`."""
    what: str
    fix: str


def sift(
    source: str, items: Iterable[Located[ItemT]], read: Callable[[ItemT], ParsedT]
) -> tuple[tuple[Located[ParsedT], ...], tuple[BadRow, ...]]:
    """Apply `read` to every item. Return the results with the positions of the items, and the items it rejects."""
    results: list[Located[ParsedT]] = []
    bad_rows: list[BadRow] = []
    for item in items:
        try:
            results.append(Located(item.place, read(item.value)))
        except RowError as error:
            bad_rows.append(BadRow(f"{source}, {item.place}", error.what, error.fix))
        except RecursionError:
            bad_rows.append(BadRow(f"{source}, {item.place}", "the row is nested too deeply.", "Remove the row."))
    return tuple(results), tuple(bad_rows)


def read_each(
    source: str, items: Iterable[Located[ItemT]], read: Callable[[ItemT], ParsedT]
) -> tuple[Located[ParsedT], ...]:
    """Apply `read` to every item and return the results with the positions of the items.

    Raises:
        UsageError: `read` rejects items.
    """
    results, bad_rows = sift(source, items, read)
    if bad_rows:
        raise UsageError(*problems_of(bad_rows))
    return results


def problems_of(bad_rows: Sequence[BadRow]) -> list[Problem]:
    """Return one problem for each cause, with the places of the first rows and the number of the others."""
    causes: dict[tuple[str, str], list[BadRow]] = {}
    for row in bad_rows:
        causes.setdefault((_TURN_NUMBER.sub("a turn", row.what), row.fix), []).append(row)
    problems = [Problem(f"{_places(rows)}: {rows[0].what}", rows[0].fix) for rows in causes.values()]
    left = sum(len(rows) for rows in list(causes.values())[SHOWN_PROBLEMS:])
    if not left:
        return problems
    rows_left = "1 more row has another problem" if left == 1 else f"{left:,} more rows have other problems"
    return [*problems[:SHOWN_PROBLEMS], Problem(f"{rows_left}.", "Fix these first, then run the command again.")]


def _places(rows: Sequence[BadRow]) -> str:
    first, *others = (row.place for row in rows)
    shown = [place.rpartition(", ")[2] for place in others[: SHOWN_PLACES - 1]]
    left = len(others) - len(shown)
    more = f" and {left:,} more {'row' if left == 1 else 'rows'}" if left else ""
    return ", ".join([first, *shown]) + more


def text_in(row: RowValues, column: str) -> str:
    """Return the text of a column.

    Raises:
        RowError: the value is missing, empty, or not text.
    """
    return _text(_present(row, column), f"column '{column}'")


def turns_in(row: RowValues, column: str) -> list[Message]:
    """Return the conversation in a column, without empty system turns.

    Raises:
        RowError: the value is not a list of turns, or a turn has an unknown role or no text.
    """
    turns = _present(row, column)
    if not isinstance(turns, list):
        what = f"column '{column}' contains {_described(turns)}, not a list of turns."
        raise RowError(what, 'Write [{"role": "user", "content": "..."}, ...].')
    messages = [_turn(turn, f"column '{column}', turn {number}") for number, turn in enumerate(turns, start=1)]
    return [message for message in messages if message["content"]]


def roles_of(turns: Sequence[Message]) -> str:
    """Return the roles of the turns, separated by commas, for a message."""
    return ", ".join(turn["role"] for turn in turns) or "none"


def is_blank(value: object) -> bool:
    """Return whether a value is missing or consists of white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def _present(row: RowValues, column: str) -> object:
    if column not in row:
        raise RowError(f"column '{column}' is missing.", "Add it, or remove the row.")
    return row[column]


def _turn(turn: object, place: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"{place} is {_described(turn)}, not an object.", 'Write {"role": "user", "content": "..."}.')
    role = _role(turn.get("role", turn.get("from")), place)
    content = turn.get("content", turn.get("value"))
    if role == "system" and is_blank(content):
        return Message(role=role, content="")  # some data sets write an empty turn in place of no system prompt
    return Message(role=role, content=_text(content, place))


def _role(role: object, place: str) -> str:
    if isinstance(role, str) and role in _ROLES:
        return _ROLES[role]
    what = f"{place} has no role." if role is None else f"{place} has the unknown role {role!r}."
    raise RowError(what, f"Use one of {', '.join(_ROLES)}.")


def _text(value: object, place: str) -> str:
    if is_blank(value):
        raise RowError(f"{place} is empty.", "Fill it in, or remove the row.")
    if not isinstance(value, str):
        raise RowError(f"{place} contains {_described(value)}, not text.", "Write it as text, in quotes.")
    if not _is_encodable(value):
        what = f"{place} contains a lone surrogate, which is not valid Unicode."
        raise RowError(what, "Delete that character, or remove the row.")
    return value


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(value: object) -> str:
    if value is None:
        return "null"
    names = {str: "text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
"""Roles in data sets (the last two are ShareGPT's), and the roles that chat templates use."""
