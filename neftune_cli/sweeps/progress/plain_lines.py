"""The observer for pipes and logs: one line per finished trial, and one line per minute for each running trial."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from neftune_cli.formatting import rough_duration, terminal_text
from neftune_cli.records import Phase
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Finished
from neftune_cli.sweeps.plan import missing_in_words
from neftune_cli.sweeps.progress.live import DISPLAY_ERRORS, Ticker
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import ObservedState, TrialView
from neftune_cli.training.trial import Trial

LINE_SECONDS = 60.0
"""Interval between lines about the same running trial."""


class LineObserver:
    """Print one line per finished trial, and one line per minute for each running trial.

    Args:
        write_line: receives each line. If its stream is closed, the sweep continues without lines.
        folder: results folder of the sweep.
        line_seconds: interval between lines about the same running trial.
    """

    def __init__(
        self, write_line: Callable[[str], None], folder: SweepFolder, *, line_seconds: float = LINE_SECONDS
    ) -> None:
        self._write_line, self._line_seconds = write_line, line_seconds
        self._reader = StatusReader(folder)
        self._ticker = Ticker(self._report_running, seconds=min(5.0, line_seconds / 4))
        self._lock = threading.Lock()
        self._reported: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._ticker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)

    def sweep_started(self, trials: Sequence[Trial], missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Print the notes and the number of trials."""
        with suppress(*DISPLAY_ERRORS):
            self._reader.retry(trial.id for trial in missing)
        for note in notes:
            self.note(note)
        self._print(missing_in_words(trials, missing))

    def trial_started(self, trial: Trial) -> None:
        """Start the interval until the first line about the trial."""
        self._reported[trial.id] = time.monotonic()

    def trial_ended(self, end: Finished) -> None:
        """Print the result of the trial, and the progress of the sweep."""
        self._reported.pop(end.trial.id, None)
        label, result = terminal_text(end.trial.label), result_text(end)
        self._print(f"{label}  {result}  {end.seconds:.0f} s{self._sweep_progress()}")

    def note(self, text: str) -> None:
        """Print the text."""
        self._print(terminal_text(text))

    def stopping(self) -> None:
        """Print that the sweep is stopping."""
        self._print("Stopping after the current step. All work is kept. Press Ctrl-C again to stop at once.")

    def _sweep_progress(self) -> str:
        """Return the progress of the sweep, including trials of other processes."""
        with suppress(*DISPLAY_ERRORS):
            status = self._reader.read()
            left = status.seconds_left if not status.is_over else None
            return f", {status.summary}" + ("" if left is None else f", about {rough_duration(left)} left")
        return ""

    def _report_running(self) -> None:
        now = time.monotonic()
        for trial in self._reader.read().of(ObservedState.RUNNING):
            if now - self._reported.setdefault(trial.trial, now) >= self._line_seconds:
                self._reported[trial.trial] = now
                self._print(progress_line(trial))

    def _print(self, line: str) -> None:
        with self._lock, suppress(*DISPLAY_ERRORS):
            self._write_line(line)


def result_text(end: Finished) -> str:
    """Return the held-out loss of a finished trial, or the reason of its failure."""
    if end.record is None:
        return f"failed: {terminal_text(end.failure.reason if end.failure else '')}"
    return f"held-out loss {end.record.loss.eval_loss:.4f}"


def progress_line(trial: TrialView) -> str:
    """Return the progress of a running trial.

    >>> view = TrialView("id", "alpha=5", 0, ObservedState.RUNNING, "training", 40, 120, loss=1.2342, seconds_left=170)
    >>> progress_line(view)
    'alpha=5, seed 0  step 40 of 120, loss 1.234, about 3 min left'
    """
    parts = [f"step {trial.step} of {trial.steps}" if trial.phase == Phase.TRAINING else terminal_text(trial.phase)]
    if trial.loss is not None and trial.phase == Phase.TRAINING:
        parts.append(f"loss {trial.loss:.3f}")
    if trial.seconds_left is not None:
        parts.append(f"about {rough_duration(trial.seconds_left)} left")
    return f"{terminal_text(trial.label)}  {', '.join(parts)}"
