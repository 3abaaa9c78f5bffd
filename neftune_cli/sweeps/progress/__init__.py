"""Who is told how a sweep goes: the contract, what is told, and the observer that says nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from neftune_cli.records import TrialRecord
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Result:
    """How one trial ended: with a record, or with the reason why there is none."""

    trial: Trial
    record: TrialRecord | None
    reason: str
    seconds: float


class Planned(Protocol):
    """What an observer needs of a plan."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Return all trials, the finished ones too."""
        ...


class Observer(Protocol):
    """Is told what happens, in the order it happens, while it is entered as a context.

    How far the trials are it reads from their folders, as everybody else does.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sweep_started(self, plan: Planned, missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Take note of the plan, of the trials that will run now, and of what the user should know of the data."""
        ...

    def trial_started(self, trial: Trial) -> None:
        """Take note that a trial begins."""
        ...

    def trial_ended(self, result: Result) -> None:
        """Take note that a trial has its record, or failed."""
        ...

    def note(self, text: str) -> None:
        """Take note of something the user should know, in a sentence."""
        ...

    def stopping(self) -> None:
        """Take note that the trials have been asked to stop."""
        ...


class NullObserver:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sweep_started(self, plan: Planned, missing: Sequence[Trial], notes: Sequence[str]) -> None: ...  # noqa: D102
    def trial_started(self, trial: Trial) -> None: ...  # noqa: D102
    def trial_ended(self, result: Result) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102
    def stopping(self) -> None: ...  # noqa: D102
