"""How long trials and sweeps will still take, from what has been seen of them: pure arithmetic on seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple


@dataclass(frozen=True)
class PlannedTrial:
    """One line of a plan."""

    trial: str
    arm: str
    seed: int | None
    steps: int = 0


class Taken(NamedTuple):
    """How long one trial took from beginning to end."""

    planned: PlannedTrial
    seconds: float


class WholeTimes:
    """Expects how long whole trials take: like others of the same arm, else as estimated, else by their steps.

    Args:
        taken: trials that have finished.
        estimate: seconds that were estimated before, by trial; they are corrected by what finished trials took.
    """

    def __init__(self, taken: Sequence[Taken], estimate: Mapping[str, float]) -> None:
        self._taken, self._estimate = taken, estimate
        known = [one for one in taken if one.planned.steps and estimate.get(one.planned.trial)]
        estimated = sum(estimate[one.planned.trial] for one in known)
        self._correction = sum(one.seconds for one in known) / estimated if estimated else 1.0

    def of(self, planned: PlannedTrial) -> float | None:
        """Return the seconds that a trial will take in all, None if nothing is known of such trials."""
        if like := [one.seconds for one in self._taken if one.planned.arm == planned.arm]:
            return fmean(like)
        if (estimated := self._estimate.get(planned.trial)) is not None:
            return estimated * (self._correction if planned.steps else 1.0)
        rates = [one.seconds / one.planned.steps for one in self._taken if one.planned.steps]
        return fmean(rates) * planned.steps if rates and planned.steps else None


@dataclass(frozen=True)
class Moment:
    """How far a trial was when it was looked at."""

    attempt: int
    phase: str
    step: int
    steps: int
    seconds: float
    """Time spent on it, in all attempts."""

    @property
    def is_trained(self) -> bool:
        """Return whether the last step is done and answers are being generated."""
        return 0 < self.steps <= self.step and self.phase != "training"


class Pace:
    """Learns, from looking again and again, a trial's time for a step and which share of a trial follows training."""

    def __init__(self) -> None:
        self._first: dict[str, Moment] = {}
        self._last: dict[str, Moment] = {}
        self._trained_after: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def saw(self, trial: str, now: Moment) -> None:
        """Take note of a running trial."""
        last = self._last.get(trial)
        if last is None or last.attempt != now.attempt or now.step < last.step or not last.step:
            self._first[trial] = now
        elif now.is_trained and not last.is_trained:
            self._trained_after[trial] = now.seconds
        self._last[trial] = now

    def ended(self, trial: str, seconds: float) -> None:
        """Take note of how long a trial took in all, if the end of its training was seen."""
        if (trained := self._trained_after.pop(trial, None)) is not None and 0 < trained <= seconds:
            self._shares[trial] = 1 - trained / seconds

    def seconds_left(self, trial: str, whole: float | None) -> float | None:
        """Return the time left of a running trial that may be expected to take `whole` seconds in all, None if unknown.

        While it trains, that is the time of its own steps to come and, after them, the share that others needed.
        """
        now = self._last[trial]
        by_others = None if whole is None else max(0.0, whole - now.seconds)
        if now.is_trained or (a_step := self._seconds_per_step(trial)) is None:
            return by_others
        training = a_step * (now.steps - now.step)
        if self._shares:
            share = fmean(self._shares.values())
            return training + (now.seconds + training) * share / (1 - share) if share < 1 else training
        return max(training, by_others or 0.0)

    def _seconds_per_step(self, trial: str) -> float | None:
        """Return the mean over the steps that were seen; over all steps, loading included, until two looks differ."""
        first, now = self._first[trial], self._last[trial]
        if now.step > first.step:
            return (now.seconds - first.seconds) / (now.step - first.step)
        return now.seconds / now.step if now.step else None


def sweep_seconds(running: Sequence[float], waiting: Sequence[float], workers: int) -> float | None:
    """Return the time until all is done when so many workers share it; None if nobody works.

    Args:
        running: seconds left of each running trial.
        waiting: seconds that each of the others will take.
        workers: how many trials run at a time.
    """
    if not workers:
        return None
    shared = (sum(running) + sum(waiting)) / workers
    return max(shared, *running, *waiting, 0.0)
