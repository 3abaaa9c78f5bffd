"""Who is told how a sweep goes: the contract, and the observers for pipes, logs and silence."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from neftune_cli.sweeps.executors import Result
from neftune_cli.sweeps.plan import Plan
from neftune_cli.training.trial import Trial, TrialProgress


class Observer(Protocol):
    """Is told what happens, in the order it happens."""

    def sweep_started(self, plan: Plan, missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Take note of the plan, of the trials that will run now, and of what the user should know of the data."""
        ...

    def trial_started(self, trial: Trial) -> None:
        """Take note that a trial begins."""
        ...

    def trial_progressed(self, trial: Trial, progress: TrialProgress) -> None:
        """Take note of a step or of a new phase."""
        ...

    def trial_ended(self, result: Result) -> None:
        """Take note that a trial has its record, or failed."""
        ...


class Silent:
    """Says nothing."""

    def sweep_started(self, plan: Plan, missing: Sequence[Trial], notes: Sequence[str]) -> None: ...  # noqa: D102
    def trial_started(self, trial: Trial) -> None: ...  # noqa: D102
    def trial_progressed(self, trial: Trial, progress: TrialProgress) -> None: ...  # noqa: D102
    def trial_ended(self, result: Result) -> None: ...  # noqa: D102


class PlainLines:
    """One line for each trial that ends, for pipes and logs."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line
        self._clock = Clock()

    def sweep_started(self, plan: Plan, missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Say how much there is to do."""
        self._clock.start(len(missing))
        for note in notes:
            self._write_line(note)
        self._write_line(f"{len(plan.trials)} trials, {len(missing)} to run")

    def trial_started(self, trial: Trial) -> None:
        """Say nothing: the line comes when it ends."""

    def trial_progressed(self, trial: Trial, progress: TrialProgress) -> None:
        """Say nothing: the line comes when it ends."""

    def trial_ended(self, result: Result) -> None:
        """Say how it ended and how long the others will take."""
        self._clock.tick(result.trial)
        self._write_line(f"{result.trial.label}  {outcome(result)}  {result.seconds:.0f} s, {self._clock}")


class Clock:
    """Tells how many trials have ended, and the time left from how long the trained ones took."""

    def __init__(self) -> None:
        self.start(0)

    def start(self, total: int) -> None:
        """Begin to count."""
        self._total, self._ended, self._trained = total, 0, 0
        self._started = self._training_since = time.monotonic()

    def tick(self, trial: Trial) -> None:
        """Count one more trial; the base, which isn't trained, tells nothing of how long the others will take."""
        self._ended += 1
        if trial.is_base:
            self._training_since = time.monotonic()
        else:
            self._trained += 1

    @property
    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def __str__(self) -> str:
        counted = f"{self._ended} of {self._total}"
        if not self._trained or self._ended == self._total:
            return counted
        left = (self._total - self._ended) * (time.monotonic() - self._training_since) / self._trained
        return f"{counted}, about {duration(left)} left"


def outcome(result: Result) -> str:
    """Return the one figure that tells how a trial ended, or why it failed."""
    if result.record is None:
        return f"failed: {result.reason}"
    return f"held-out loss {result.record.loss.eval_loss:.4f}"


def duration(seconds: float) -> str:
    """Return a time span as people say it.

    >>> duration(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
