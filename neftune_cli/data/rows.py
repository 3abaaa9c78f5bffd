"""Rows as a source gives them, each with the place where its reader finds it again when something is wrong."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from neftune_cli.data.examples import Message
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


Values = Mapping[str, object]


def text_in(row: Values, column: str) -> str:
    """Return the text of a column.

    Raises:
        RowError: it is missing, empty, or not text.
    """
    return _text(_present(row, column), f"column '{column}'")


def turns_in(row: Values, column: str) -> list[Message]:
    """Return the conversation of a column, empty system turns left out.

    Raises:
        RowError: it is not a list of turns, or one of them has an unknown role or no text.
    """
    turns = _present(row, column)
    if not isinstance(turns, list):
        what = f"column '{column}' holds {_described(turns)} where a list of turns is expected."
        raise RowError(what, 'Write [{"role": "user", "content": "..."}, ...].')
    messages = [_turn(turn, f"column '{column}', turn {number}") for number, turn in enumerate(turns, start=1)]
    return [message for message in messages if message["content"]]


def roles_of(turns: Sequence[Message]) -> str:
    """Return the turns' roles as a message lists them."""
    return ", ".join(turn["role"] for turn in turns) or "none"


def is_blank(value: object) -> bool:
    """Tell whether a value says nothing: absent, or white space alone."""
    return value is None or (isinstance(value, str) and not value.strip())


def _present(row: Values, column: str) -> object:
    if column not in row:
        raise RowError(f"there is no '{column}'.", "Add it, or remove the row.")
    return row[column]


def _turn(turn: object, place: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"{place} is {_described(turn)}, not an object.", 'Write {"role": "user", "content": "..."}.')
    role = _role(turn.get("role", turn.get("from")), place)
    content = turn.get("content", turn.get("value"))
    if role == "system" and is_blank(content):
        return Message(role=role, content="")  # how some data sets write that there is no system prompt
    return Message(role=role, content=_text(content, place))


def _role(role: object, place: str) -> str:
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError(f"{place} has the role {role!r}.", f"Use one of {', '.join(_ROLES)}.")
    return _ROLES[role]


def _text(value: object, place: str) -> str:
    if is_blank(value):
        raise RowError(f"{place} is empty.", "Fill it in, or remove the row.")
    if not isinstance(value, str):
        raise RowError(f"{place} holds {_described(value)}, not text.", "Write it as text, in quotes.")
    if not _is_encodable(value):
        raise RowError(f"{place} holds half a character (a lone surrogate).", "Remove it, or the row.")
    return value


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
"""Roles as data sets write them (ShareGPT's last), and as chat templates take them."""
