"""Expected durations of trials, by finished trials, estimates and the observed pace; and the end of the last trial."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from statistics import fmean
from typing import NamedTuple

from neftune_cli.records import Phase
from neftune_cli.store.manifest import PlannedTrial


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return the end time of the last trial if each trial goes, in order, to the first free worker."""
    free = [0.0] * workers
    heapify(free)
    for one in seconds:
        heapreplace(free, free[0] + one)
    return max(free)


class TrialDuration(NamedTuple):
    """Duration of one trial from start to end, in seconds."""

    planned: PlannedTrial
    seconds: float


class ExpectedDurations:
    """Expected durations of whole trials: the mean of the same arm, else the cost estimate, else the time per step.

    Args:
        finished: durations of finished trials.
        estimate: estimated seconds by trial id. They are scaled by the ratio of actual to estimated time of finished
            trials.
    """

    def __init__(self, finished: Sequence[TrialDuration], estimate: Mapping[str, float]) -> None:
        self._finished, self._estimate = finished, estimate
        known = [one for one in finished if one.planned.seed is not None and estimate.get(one.planned.trial)]
        estimated = sum(estimate[one.planned.trial] for one in known)
        self._correction = sum(one.seconds for one in known) / estimated if estimated else 1.0

    def of(self, planned: PlannedTrial) -> float | None:
        """Return the expected duration of a trial in seconds, or None if nothing is known."""
        if same_arm := [one.seconds for one in self._finished if one.planned.arm == planned.arm]:
            return fmean(same_arm)
        if (estimated := self._estimate.get(planned.trial)) is not None:
            return estimated * (1.0 if planned.seed is None else self._correction)
        rates = [one.seconds / one.planned.steps for one in self._finished if one.planned.steps]
        return fmean(rates) * planned.steps if rates and planned.steps else None


@dataclass(frozen=True)
class ProgressSample:
    """Progress of a trial at one time."""

    attempt: int
    phase: str
    step: int
    steps: int
    seconds: float
    """Time of all attempts, without lost work."""

    @property
    def is_trained(self) -> bool:
        """Return whether training has ended, so that the trial is measured."""
        return 0 < self.steps <= self.step and self.phase != Phase.TRAINING


class PaceTracker:
    """Learn the time per step of each trial, and the share of a trial's time after training, from repeated samples."""

    def __init__(self) -> None:
        self._first: dict[str, ProgressSample] = {}
        self._last: dict[str, ProgressSample] = {}
        self._training_seconds: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def observe(self, trial_id: str, now: ProgressSample) -> None:
        """Add a sample of a running trial."""
        last = self._last.get(trial_id)
        if last is None or last.attempt != now.attempt or now.step < last.step or not last.step:
            self._first[trial_id] = now
        elif now.is_trained and not last.is_trained:
            self._training_seconds[trial_id] = now.seconds
        self._last[trial_id] = now

    def finished(self, trial_id: str, seconds: float) -> None:
        """Add the duration of a finished trial. It is used only if the end of its training was observed."""
        if (trained := self._training_seconds.pop(trial_id, None)) is not None and 0 < trained <= seconds:
            self._shares[trial_id] = 1 - trained / seconds

    def seconds_left(self, trial_id: str, expected: float | None) -> float | None:
        """Return the time left of a running trial, or None if it is unknown.

        During training this is the time of the remaining steps plus the share that other trials needed afterwards.

        Args:
            trial_id: id of the trial.
            expected: expected duration of the whole trial in seconds, or None.
        """
        now = self._last[trial_id]
        by_others = None if expected is None else max(0.0, expected - now.seconds)
        if now.is_trained or (per_step := self._seconds_per_step(trial_id)) is None:
            return by_others
        training = per_step * (now.steps - now.step)
        if self._shares:
            share = fmean(self._shares.values())
            return training + (now.seconds + training) * share / (1 - share) if share < 1 else training
        return max(training, by_others or 0.0)

    def _seconds_per_step(self, trial_id: str) -> float | None:
        """Return the mean over the observed steps. With one sample, return the mean over all steps and loading."""
        first, now = self._first[trial_id], self._last[trial_id]
        if now.step > first.step:
            return (now.seconds - first.seconds) / (now.step - first.step)
        return now.seconds / now.step if now.step else None
