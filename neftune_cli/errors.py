"""Errors: the root error, problems with their fixes, suggestions for mistyped names, and exit codes."""

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")
Location = tuple[str | int, ...]
"""Names of a field and of those that contain it, and indices of list items, for example ("arms", 1, "alpha")."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk: no space is left, or the user's quota is used up."""
FREE_SPACE = "Free disk space, and run the same command again."
"""Fix of a full disk."""


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOTHING_TO_COMPARE = 3
    INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One fault with its place (file, row, option), and its fix."""

    what: str
    fix: str
    field: Location = ()
    """Field of the experiment whose file, line or option goes before `what`; empty if `what` names its place."""


class NeftuneError(Exception):
    """Base class of all errors that this package raises deliberately. The text is a message to the user."""

    exit_code = ExitCode.FAILED


class UsageError(NeftuneError):
    """The request is not valid. Contains all problems, not only the first."""

    exit_code = ExitCode.USAGE

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{problem.what} {problem.fix}" for problem in problems))


class NothingToCompareError(NeftuneError):
    """There are no results: no sweep, no run of another tool, or no finished trial to compare."""

    exit_code = ExitCode.NOTHING_TO_COMPARE


class TrialError(NeftuneError):
    """One trial cannot continue. Other trials are not affected."""


class TrialStopped(NeftuneError):  # noqa: N818
    """A trial stopped on request. It resumes from its checkpoint, or starts again if there is none yet."""

    exit_code = ExitCode.INTERRUPTED


class LeaseLost(NeftuneError):  # noqa: N818
    """Loss of the lease of a trial: it expired, or its file was removed. The process must not write to the trial."""


class Problems:
    """Collector for the problems of several independent checks, so that all are reported at once."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    @property
    def found(self) -> tuple[Problem, ...]:
        """Return the problems so far."""
        return tuple(self._found)

    def attempt(self, check: Callable[[], T]) -> T | None:
        """Return the result of a check. If it raises `UsageError`, keep its problems and return None."""
        try:
            return check()
        except UsageError as error:
            self.add(error.problems)
            return None

    def add(self, problems: Iterable[Problem]) -> None:
        """Add problems that are not in the collection yet."""
        self._found = list(dict.fromkeys((*self._found, *problems)))

    def raise_any(self) -> None:
        """Raise one `UsageError` with all problems, if there are any."""
        if self._found:
            raise UsageError(*self._found)


_MIN_SIMILARITY = 0.75
"""Least similarity of a suggested name, as a ratio of `difflib`."""
_MAX_SUGGESTIONS = 3


def install_extra(extra: str, *, upgrade: bool = False) -> str:
    """Return the advice to install the packages of an extra of this package."""
    return f"Run `pip install {'-U ' if upgrade else ''}'.[{extra}]'` in the clone of neftune."


def did_you_mean(name: str, known: Iterable[str], *, compared: Callable[[str], str] = str, quoted: bool = True) -> str:
    """Return the question `Did you mean 'x'?` with the known names that are close to a mistyped one, else "".

    Args:
        name: as typed.
        known: names to suggest, of which at most three are suggested, the closest first.
        compared: returns the part of a name that is compared, for example a path without its folder.
        quoted: whether the names are printed in quotes.
    """
    from difflib import SequenceMatcher  # late, so that `neftune --help` starts fast

    ratios = {one: SequenceMatcher(None, compared(name), compared(one)).ratio() for one in known}
    close = [one for one in ratios if ratios[one] >= _MIN_SIMILARITY]
    close = sorted(close, key=lambda one: -ratios[one])[:_MAX_SUGGESTIONS]
    return f"Did you mean {alternatives(repr(one) if quoted else one for one in close)}?" if close else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the question of `did_you_mean` without quotes, followed by a space, to precede other advice; else ""."""
    question = did_you_mean(name, known, quoted=False)
    return f"{question} " if question else ""


def closest_choice(value: str, choices: Iterable[str]) -> str:
    """Return the question for the choices that are close to a value or start with it, else ""."""
    choices = tuple(choices)
    longer = [one for one in choices if value and one.startswith(value.lower())]
    return f"Did you mean {alternatives(map(repr, longer))}?" if longer else did_you_mean(value, choices)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without a full stop; the name of its type if there is no message."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def with_type(error: BaseException) -> str:
    """Return the type and the message of an error of foreign code, for example "ValueError: no rows"."""
    try:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except Exception:  # foreign code may fail here as well
        return type(error).__name__


def one_line(message: BaseException | str, characters: int = 300) -> str:
    """Return a message in one line, with an ellipsis at its end if it is too long.

    The message of an error without text is the name of its type.
    """
    text = " ".join(str(message).split())
    if not text and isinstance(message, BaseException):
        return type(message).__name__
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def alternatives(names: Iterable[str]) -> str:
    """Return names as `a`, `a or b`, or `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
