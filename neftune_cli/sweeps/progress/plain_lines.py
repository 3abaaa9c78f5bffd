"""The observer for pipes and logs: a line for each trial that ends, and now and then one for each that runs."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from neftune_cli.formatting import printable, rough_duration
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.progress import Planned, Result
from neftune_cli.sweeps.progress.live import HARMLESS, Ticker
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import State, TrialView
from neftune_cli.training.trial import Trial

LINE_SECONDS = 60.0
"""From one line about a running trial to the next."""


class PlainLines:
    """One line for each trial that ends, and one a minute for each that runs for long: for pipes and logs.

    Args:
        write_line: takes each line. Where they go may be closed meanwhile; the sweep goes on without them.
        folder: the sweep.
        line_seconds: from one line about a running trial to the next.
    """

    def __init__(
        self, write_line: Callable[[str], None], folder: SweepFolder, *, line_seconds: float = LINE_SECONDS
    ) -> None:
        self._write_line, self._line_seconds = write_line, line_seconds
        self._reader = StatusReader(folder)
        self._ticker = Ticker(self._tell_of_running, seconds=min(5.0, line_seconds / 4))
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._ticker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)

    def sweep_started(self, plan: Planned, missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Say how much there is to do."""
        with suppress(*HARMLESS):
            self._reader.retry(trial.id for trial in missing)
        for note in notes:
            self.note(note)
        self._say(f"{len(plan.trials)} trials, {len(missing)} to run")

    def trial_started(self, trial: Trial) -> None:
        """Begin to count the time until a line about it."""
        self._told[trial.id] = time.monotonic()

    def trial_ended(self, result: Result) -> None:
        """Say how it ended and how long the others will take."""
        self._told.pop(result.trial.id, None)
        label, how = printable(result.trial.label), outcome(result)
        self._say(f"{label}  {how}  {result.seconds:.0f} s{self._rest()}")

    def note(self, text: str) -> None:
        """Say it."""
        self._say(printable(text))

    def stopping(self) -> None:
        """Say it, and what to do if that takes too long."""
        self._say("Stopping after this step, everything is kept; Ctrl-C again stops at once.")

    def _rest(self) -> str:
        """Return how far the sweep is, whoever runs its trials."""
        with suppress(*HARMLESS):
            status = self._reader.read()
            left = status.seconds_left if not status.is_over else None
            return f", {status.summary}" + ("" if left is None else f", about {rough_duration(left)} left")
        return ""

    def _tell_of_running(self) -> None:
        now = time.monotonic()
        for trial in self._reader.read().of(State.RUNNING):
            if now - self._told.setdefault(trial.trial, now) >= self._line_seconds:
                self._told[trial.trial] = now
                self._say(progress_line(trial))

    def _say(self, line: str) -> None:
        with self._lock, suppress(*HARMLESS):
            self._write_line(line)


def outcome(result: Result) -> str:
    """Return the one figure that tells how a trial ended, or why it failed."""
    if result.record is None:
        return f"failed: {printable(result.reason)}"
    return f"held-out loss {result.record.loss.eval_loss:.4f}"


def progress_line(trial: TrialView) -> str:
    """Return how far a running trial is.

    >>> progress_line(TrialView("id", "alpha=5", 0, State.RUNNING, "training", 40, 120, loss=1.2342, seconds_left=170))
    'alpha=5, seed 0  step 40 of 120, loss 1.234, about 3 min left'
    """
    parts = [f"step {trial.step} of {trial.steps}" if trial.phase == "training" else printable(trial.phase)]
    if trial.loss is not None and trial.phase == "training":
        parts.append(f"loss {trial.loss:.3f}")
    if trial.seconds_left is not None:
        parts.append(f"about {rough_duration(trial.seconds_left)} left")
    return f"{printable(trial.label)}  {', '.join(parts)}"
