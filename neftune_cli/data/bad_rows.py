"""Rows and examples that cannot be used: counted, limited by `--max-bad-share`, and reported by cause."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from neftune_cli.config.spec import InputSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted, listed

TOO_DEEP = "the row is nested too deeply."
SHOWN_PROBLEMS = 20
SHOWN_PLACES = 3
_SKIP = "--skip-bad-rows leaves out bad rows."
_ROUNDING = 1e-9
"""Rounding error of a share that is computed from those of several steps."""
_NUMBER = re.compile(r"\b(turn|item) \d+")


class RowError(Exception):
    """One row cannot be used. The caller adds the source and the position of the row.

    Rows with the same cause are reported as one problem. By default the cause is `what`.
    """

    def __init__(self, what: str, fix: str, cause: str = "") -> None:
        self.what = what
        self.fix = fix
        self.cause = cause or _NUMBER.sub(_without_number, what)
        super().__init__(what)


def _without_number(numbered: re.Match[str]) -> str:
    return {"turn": "a turn", "item": "an item"}[numbered[1]]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, with the fault and its fix."""

    place: str
    """File and line or row: `mine.jsonl, line 7`."""
    what: str
    fix: str
    cause: str
    """Cause, which rows with the same fault share."""


@dataclass(frozen=True)
class BadRowCount:
    """Numbers of the rows of a data set, or of the examples that they became, and of those that cannot be used."""

    fault: str
    """Fault of these rows or examples, as a clause: `cannot be read`."""
    noun: str
    """`row` or `example`."""
    total: int = 0
    """Number of all."""
    bad: int = 0
    """Number of those that cannot be used."""
    bad_rows: tuple[BadRow, ...] = ()
    """The rows or examples that cannot be used. An example in several parts of the data set is listed once."""

    @property
    def share(self) -> float:
        """Return the share that cannot be used."""
        return self.bad / self.total if self.total else 0.0

    @property
    def in_words(self) -> str:
        """Return the numbers with the fault."""
        return f"{self.bad:,} of {counted(self.total, self.noun)} {self.fault}"


NO_BAD_ROWS = BadRowCount("cannot be read", "row")


def check_bad_rows(inputs: InputSpec, *steps: BadRowCount) -> None:
    """Check that no row is bad, or few enough of them if bad rows are dropped.

    `--max-bad-share` limits the share of the rows that are lost in all steps together.

    Args:
        inputs: the data sets, and the treatment of bad rows.
        steps: the steps from rows to examples. Each applies to what the step before it left.

    Raises:
        UsageError: there are bad rows, or too many of them. Lists those of all steps.
    """
    lost = 1 - math.prod(1 - step.share for step in steps)
    bad_rows = sorted((row for step in steps for row in step.bad_rows), key=lambda row: place_sort_key(row.place))
    are_few = lost <= inputs.max_bad_share + _ROUNDING
    if not bad_rows or (inputs.skip_bad_rows and are_few):
        return
    problems = problems_of(bad_rows)
    if inputs.skip_bad_rows:
        problems.insert(0, _over_limit(inputs, lost, steps))
    elif are_few:
        problems[-1] = replace(problems[-1], fix=f"{problems[-1].fix} {_SKIP}")
    raise UsageError(*problems)


def _over_limit(inputs: InputSpec, lost: float, steps: Sequence[BadRowCount]) -> Problem:
    names = listed(list(dict.fromkeys(name for name in (inputs.dataset, inputs.eval_dataset) if name)))
    faults = " and ".join(step.in_words for step in steps if step.bad)
    what = f"{names}: {lost:.1%} of the rows cannot be used ({faults})."
    return Problem(
        what, f"Correct them, or raise --max-bad-share: --skip-bad-rows drops at most {inputs.max_bad_share:.1%}."
    )


def problems_of(bad_rows: Sequence[BadRow]) -> list[Problem]:
    """Return one problem for each cause, with the places of the first rows and the number of the others."""
    causes: dict[tuple[str, str], list[BadRow]] = {}
    for row in bad_rows:
        causes.setdefault((row.cause, row.fix), []).append(row)
    problems = [Problem(f"{_places(rows)}: {_faults(rows)}", rows[0].fix) for rows in causes.values()]
    left = sum(len(rows) for rows in list(causes.values())[SHOWN_PROBLEMS:])
    if not left:
        return problems
    rows_left = "1 more row has another problem" if left == 1 else f"{left:,} more rows have other problems"
    return [
        *problems[:SHOWN_PROBLEMS],
        Problem(f"{rows_left}.", "Fix the problems above first, then run the command again."),
    ]


def _faults(rows: Sequence[BadRow]) -> str:
    """Return the fault of rows with one cause: if it differs in details, the cause and the fault of the first row."""
    is_same = len({row.what for row in rows}) == 1
    return rows[0].what if is_same else f"{rows[0].cause.rstrip('.')}. First row: {rows[0].what}"


def place_sort_key(place: str) -> list[tuple[int, str]]:
    """Return the key that sorts line 9 before line 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", place)]


def _places(rows: Sequence[BadRow]) -> str:
    first, *others = (row.place for row in rows)
    file = first.rpartition(", ")[0]
    shown = [place.removeprefix(f"{file}, ") for place in others[: SHOWN_PLACES - 1]]
    left = len(others) - len(shown)
    more = f" and {counted(left, 'more row')}" if left else ""
    return ", ".join([first, *shown]) + more
