"""Everything that can go wrong in words: one root error, each problem with its fix, and the exit codes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")


class ExitCode(IntEnum):
    """What the process says when it ends."""

    DONE = 0
    TRIAL_FAILED = 1
    USAGE = 2
    NOTHING_TO_COMPARE = 3
    INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, with where (file, row, option), and what to do instead."""

    what: str
    fix: str


class NeftuneError(Exception):
    """The root of every error this package raises on purpose; its text is meant for the user."""

    exit_code = ExitCode.TRIAL_FAILED


class UsageError(NeftuneError):
    """The user asked for something impossible: holds every problem found, not only the first."""

    exit_code = ExitCode.USAGE

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{problem.what} {problem.fix}" for problem in problems))


class NothingToCompareError(NeftuneError):
    """There is no finished trial where one was looked for."""

    exit_code = ExitCode.NOTHING_TO_COMPARE


class TrialError(NeftuneError):
    """One trial can't go on; the others can."""


class TrialStopped(NeftuneError):  # noqa: N818
    """A trial was asked to stop and has: everything that is needed to go on is on the disk."""

    exit_code = ExitCode.INTERRUPTED


class LeaseLost(NeftuneError):  # noqa: N818
    """Another process took a trial over, as this one had given no sign of life for too long: it must not write."""


class Problems:
    """Gathers the problems of several independent checks, so that all are reported at once."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    @property
    def found(self) -> tuple[Problem, ...]:
        """Return what was found so far."""
        return tuple(self._found)

    def attempt(self, check: Callable[[], T]) -> T | None:
        """Return what a check returns; None, and its problems kept, if it raises `UsageError`."""
        try:
            return check()
        except UsageError as error:
            self.add(error.problems)
            return None

    def add(self, problems: Iterable[Problem]) -> None:
        """Keep these problems too, each once."""
        self._found += [problem for problem in problems if problem not in self._found]

    def raise_any(self) -> None:
        """Raise one `UsageError` with all problems, if there are any."""
        if self._found:
            raise UsageError(*self._found)
