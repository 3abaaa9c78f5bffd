"""How long trials and sweeps will still take, from what has been seen of them: pure arithmetic on seconds."""

import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.following import FollowedTrial, TrialSnapshot
from neftune_cli.sweeps.progress.views import State, SweepStatus, TrialView, seconds_since, seen


@dataclass(frozen=True)
class PlannedTrial:
    """One line of a plan."""

    trial: str
    arm: str
    seed: int | None
    steps: int = 0


class TrialDuration(NamedTuple):
    """How long one trial took from beginning to end."""

    planned: PlannedTrial
    seconds: float


class WholeTimes:
    """Expects how long whole trials take: like others of the same arm, else as estimated, else by their steps.

    Args:
        taken: trials that have finished.
        estimate: seconds that were estimated before, by trial; they are corrected by what finished trials took.
    """

    def __init__(self, taken: Sequence[TrialDuration], estimate: Mapping[str, float]) -> None:
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


_MEMORY_SECONDS = 15.0
"""For so long a worker counts that is between two trials."""


class StatusReader:
    """Reads a sweep again and again, from any thread: what is finished is read once, and its own looks teach it times.

    Args:
        folder: the sweep, which need not be there yet.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._followed: dict[Path, FollowedTrial] = {}
        self._pace = Pace()
        self._running_lately: deque[tuple[float, int]] = deque()
        self._failed_before: dict[str, TrialStatus | None] = {}
        self._lock = threading.Lock()

    def retry(self, trials: Iterable[str]) -> None:
        """Take trials that have failed for waiting ones, until they have begun anew."""
        with self._lock:
            places = self._places()
            self._failed_before = {trial: places[trial].status() for trial in trials if trial in places}

    def read(self) -> SweepStatus:
        """Return how the sweep stands.

        Raises:
            UsageError: a newer version of this program wrote the manifest.
        """
        with self._lock:
            return self._read()

    def _read(self) -> SweepStatus:
        manifest = self._folder.manifest()
        places = self._places()
        planned = _planned(manifest) or [_planned_by_name(trial, place) for trial, place in places.items()]
        views = [self._view(one, places.get(one.trial)) for one in planned]
        status = SweepStatus(
            self._folder.name,
            self._folder.path,
            tuple(views),
            self._workers(sum(view.state is State.RUNNING for view in views), manifest),
            started=str(manifest.get("started") or ""),
            command=self._command(manifest),
            directory=str(manifest.get("directory") or ""),
        )
        return self._with_times_left(status, planned, _estimate(manifest))

    def _command(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what was typed last to run the sweep, nothing if that was where the folder is no more."""
        was_at = manifest.get("folder")
        is_there = was_at is None or Path(was_at).resolve() == self._folder.path.resolve()
        return tuple(map(str, manifest.get("command") or ())) if is_there else ()

    def _places(self) -> dict[str, TrialFolder]:
        return {place.path.name.rpartition("-")[2]: place for place in self._folder.trials()}

    def _view(self, planned: PlannedTrial, place: TrialFolder | None) -> TrialView:
        view = TrialView(planned.trial, planned.arm, planned.seed, steps=planned.steps)
        if place is None:
            return view
        look = self._followed.setdefault(place.path, FollowedTrial(place)).look()
        if look.damage:
            return replace(view, state=State.FAILED, reason=look.damage)
        if look.record is None and look.holder is None and self._is_retried(planned.trial, look):
            return view
        return seen(view, look)

    def _is_retried(self, trial: str, look: TrialSnapshot) -> bool:
        failed = look.status is not None and look.status.state is TrialState.FAILED
        return failed and self._failed_before.get(trial) == look.status

    def _workers(self, running: int, manifest: Mapping[str, Any]) -> int:
        """Return how many trials run at a time: for a moment, one that has just ended leaves its worker without any."""
        now = time.monotonic()
        self._running_lately.append((now, running))
        while self._running_lately[0][0] < now - _MEMORY_SECONDS:
            self._running_lately.popleft()
        lately = max(number for _, number in self._running_lately)
        return max(lately, (manifest.get("workers") or {}).get("number", 0)) if lately else 0

    def _with_times_left(
        self, status: SweepStatus, planned: Sequence[PlannedTrial], estimate: Mapping[str, float]
    ) -> SweepStatus:
        rows = list(zip(planned, status.trials, strict=True))
        taken = [TrialDuration(one, view.seconds) for one, view in rows if view.state is State.DONE and view.seconds]
        for one in taken:
            self._pace.ended(one.planned.trial, one.seconds)
        whole = WholeTimes(taken, estimate)
        views = [self._with_time_left(view, whole.of(one)) for one, view in rows]
        rows = list(zip(planned, views, strict=True))
        # of arms that none has finished of, the first ones on their way tell what to expect
        begun = [TrialDuration(one, seconds) for one, view in rows if (seconds := _in_all(view)) is not None]
        as_begun = WholeTimes(begun, {})
        views = [view if view.seconds_left is not None else _rest(view, as_begun.of(one)) for one, view in rows]
        running = [view.seconds_left for view in views if view.state is State.RUNNING]
        others = [view.seconds_left for view in views if view.is_open and view.state is not State.RUNNING]
        left, work = _sums(running, others, status.workers)
        return replace(status, trials=tuple(views), seconds_left=left, work_left=work)

    def _with_time_left(self, view: TrialView, whole: float | None) -> TrialView:
        if view.state is not State.RUNNING:
            return _rest(view, whole) if view.is_open else view
        if view.seconds is None:
            return replace(view, seconds_left=whole)
        self._pace.saw(view.trial, Moment(view.attempts, view.phase, view.step, view.steps, view.seconds))
        left = self._pace.seconds_left(view.trial, whole)
        age = _silent_for(view)
        left = None if left is None else max(0.0, left - age)
        return replace(view, seconds=view.seconds + age, seconds_left=left)


def _in_all(view: TrialView) -> float | None:
    """Return how long a running trial will have taken, None if that can't be told."""
    if view.state is not State.RUNNING or view.seconds is None or view.seconds_left is None:
        return None
    return view.seconds + view.seconds_left


def _rest(view: TrialView, whole: float | None) -> TrialView:
    """Return an open trial with the time it needs: one that has begun has some behind it."""
    if whole is None or not view.is_open:
        return view
    spent = 0.0 if view.state is State.WAITING else view.seconds or 0.0
    return replace(view, seconds_left=max(0.0, whole - spent))


def _sums(
    running: Sequence[float | None], others: Sequence[float | None], workers: int
) -> tuple[float | None, float | None]:
    """Return the time until all is done, and the work until then; an unknown trial counts like the mean of the known.

    Both are None where nothing is known.
    """
    known = [seconds for seconds in (*running, *others) if seconds is not None]
    if not known:
        return None, None
    mean = fmean(known)
    run, wait = ([mean if seconds is None else seconds for seconds in group] for group in (running, others))
    return sweep_seconds(run, wait, workers), sum(run) + sum(wait)


def _planned(manifest: Mapping[str, Any]) -> list[PlannedTrial]:
    return [PlannedTrial(one["trial"], one["arm"], one["seed"], one["steps"]) for one in manifest.get("plan") or ()]


def _planned_by_name(trial: str, place: TrialFolder) -> PlannedTrial:
    """Return what the name of a folder says, where an older version of this program wrote no plan."""
    arm, separator, seed = place.label.rpartition(",seed=")
    return PlannedTrial(trial, arm, int(seed)) if separator else PlannedTrial(trial, BASE_ARM, None)


def _estimate(manifest: Mapping[str, Any]) -> dict[str, float]:
    return (manifest.get("estimate") or {}).get("trials") or {}


def _silent_for(view: TrialView) -> float:
    """Return the seconds since a trial of this machine reported; clocks of others may go otherwise."""
    age = seconds_since(view.updated)
    return max(0.0, age) if age is not None and view.host == socket.gethostname() else 0.0
