"""Observers: the protocol by which a sweep reports its progress, and the observer that shows nothing."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from neftune_cli.sweeps.executors import Finished
from neftune_cli.training.trial import Trial


class Observer(Protocol):
    """Show the progress of a sweep. An observer is a context manager, and is called only inside its context.

    The calls report the start and the end of trials. Progress in between is in the trials' folders.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sweep_started(self, trials: Sequence[Trial], missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Report all trials of the plan, the ones that will run now, and notes for the user."""

    def trial_started(self, trial: Trial) -> None:
        """Report the start of a trial."""

    def trial_ended(self, end: Finished) -> None:
        """Report the end of a trial that runs no more: with its record or its failure."""

    def note(self, text: str) -> None:
        """Report an event, as one sentence for the user."""

    def stopping(self) -> None:
        """Report that the running trials were asked to stop."""


class NullObserver:
    """Show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sweep_started(self, trials: Sequence[Trial], missing: Sequence[Trial], notes: Sequence[str]) -> None: ...  # noqa: D102
    def trial_started(self, trial: Trial) -> None: ...  # noqa: D102
    def trial_ended(self, end: Finished) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102
    def stopping(self) -> None: ...  # noqa: D102
