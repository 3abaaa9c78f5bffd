"""Status of a sweep, read repeatedly from its folder, with estimates of the time left for each trial and the sweep."""

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace
from itertools import starmap
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from neftune_cli.errors import Problems
from neftune_cli.records import Phase, TrialState, TrialStatus
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.following import FollowedTrial, TrialSnapshot
from neftune_cli.store.manifest import Manifest, PlannedTrial
from neftune_cli.sweeps.progress.views import ObservedState, SweepStatus, TrialView, seconds_since, updated_view

_RECENT_SECONDS = 15.0
"""Time for which a worker between two trials still counts as active."""


class StatusReader:
    """Read the status of a sweep repeatedly, from any thread. Finished trials are read once.

    Estimates of the time left improve with each read.

    Args:
        folder: the sweep, which may not exist yet.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._followed: dict[Path, FollowedTrial] = {}
        self._pace = PaceTracker()
        self._recently_running: deque[tuple[float, int]] = deque()
        self._failed_before: dict[str, TrialStatus | None] = {}
        self._lock = threading.Lock()

    def retry(self, trials: Iterable[str]) -> None:
        """Show these trials, by id, as waiting instead of failed until they start again."""
        with self._lock:
            folders = self._trial_folders()
            self._failed_before = {trial: folders[trial].status() for trial in trials if trial in folders}

    def read(self) -> SweepStatus:
        """Return the current status, with the trials that have a folder if the manifest cannot be used."""
        with self._lock:
            return self._read()

    def _read(self) -> SweepStatus:
        found = Problems()
        manifest = found.attempt(self._folder.whole_manifest) or Manifest()
        folders = self._trial_folders()
        named = starmap(_planned_by_name, folders.items())
        planned = manifest.plan or sorted(named, key=lambda one: one.seed is not None)
        views = [self._view(one, folders.get(one.trial)) for one in planned]
        status = SweepStatus(
            self._folder.name,
            self._folder.path,
            tuple(views),
            self._workers(sum(view.state is ObservedState.RUNNING for view in views), manifest.workers.number),
            started=manifest.started,
            command=self._command(manifest),
            directory=manifest.directory,
            problems=found.found,
        )
        return self._with_times_left(status, planned, manifest.estimated_seconds)

    def _command(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the last command of the sweep, or nothing if the folder has been moved since."""
        is_unmoved = not manifest.folder or Path(manifest.folder).resolve() == self._folder.path.resolve()
        return manifest.command if is_unmoved else ()

    def _trial_folders(self) -> dict[str, TrialFolder]:
        return {folder.id: folder for folder in self._folder.trials()}

    def _view(self, planned: PlannedTrial, folder: TrialFolder | None) -> TrialView:
        view = TrialView(planned.trial, planned.arm, planned.seed, steps=planned.steps)
        if folder is None:
            return view
        snapshot = self._followed.setdefault(folder.path, FollowedTrial(folder)).read()
        if snapshot.damage:
            return replace(view, state=ObservedState.FAILED, reason=snapshot.damage)
        if snapshot.record is None and snapshot.holder is None and self._is_retried(planned.trial, snapshot):
            return view
        return updated_view(view, snapshot)

    def _is_retried(self, trial_id: str, snapshot: TrialSnapshot) -> bool:
        failed = snapshot.status is not None and snapshot.status.state is TrialState.FAILED
        return failed and self._failed_before.get(trial_id) == snapshot.status

    def _workers(self, running: int, allocated: int) -> int:
        """Return the number of trials that run in parallel. A worker between two trials counts for a short time."""
        now = time.monotonic()
        self._recently_running.append((now, running))
        while self._recently_running[0][0] < now - _RECENT_SECONDS:
            self._recently_running.popleft()
        recently = max(number for _, number in self._recently_running)
        return max(recently, allocated) if recently else 0

    def _with_times_left(
        self, status: SweepStatus, planned: Sequence[PlannedTrial], estimate: Mapping[str, float]
    ) -> SweepStatus:
        views = _by_running_trials(planned, self._by_finished_trials(planned, status.trials, estimate))
        running = [view.seconds_left for view in views if view.state is ObservedState.RUNNING]
        others = [view.seconds_left for view in views if view.is_open and view.state is not ObservedState.RUNNING]
        left, work = _totals(running, others, status.workers)
        return replace(status, trials=tuple(views), seconds_left=left, work_left=work)

    def _by_finished_trials(
        self, planned: Sequence[PlannedTrial], views: Sequence[TrialView], estimate: Mapping[str, float]
    ) -> list[TrialView]:
        """Add the times left by the durations of finished trials, the cost estimate and the observed pace."""
        rows = list(zip(planned, views, strict=True))
        finished = [
            TrialDuration(one, view.seconds) for one, view in rows if view.state is ObservedState.DONE and view.seconds
        ]
        for one in finished:
            self._pace.finished(one.planned.trial, one.seconds)
        expected = ExpectedDurations(finished, estimate)
        return [self._with_time_left(view, expected.of(one)) for one, view in rows]

    def _with_time_left(self, view: TrialView, expected: float | None) -> TrialView:
        if view.state is not ObservedState.RUNNING:
            return _with_remainder(view, expected) if view.is_open else view
        if view.seconds is None:
            return replace(view, seconds_left=expected)
        self._pace.observe(view.trial, ProgressSample(view.attempts, view.phase, view.step, view.steps, view.seconds))
        left = self._pace.seconds_left(view.trial, expected)
        age = _seconds_since_report(view)
        left = None if left is None else max(0.0, left - age)
        return replace(view, seconds=view.seconds + age, seconds_left=left)


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
        """Return whether training has ended and responses are being generated."""
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


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return the end time of the last trial if each trial goes, in order, to the first free worker."""
    free = [0.0] * workers
    heapify(free)
    for one in seconds:
        heapreplace(free, free[0] + one)
    return max(free)


def _expected_total(view: TrialView) -> float | None:
    """Return the expected total duration of a running trial, or None."""
    if view.state is not ObservedState.RUNNING or view.seconds is None or view.seconds_left is None:
        return None
    return view.seconds + view.seconds_left


def _by_running_trials(planned: Sequence[PlannedTrial], views: Sequence[TrialView]) -> list[TrialView]:
    """Add the times left, where they are unknown, by the expected total durations of running trials."""
    rows = list(zip(planned, views, strict=True))
    running = [TrialDuration(one, seconds) for one, view in rows if (seconds := _expected_total(view)) is not None]
    expected = ExpectedDurations(running, {})
    return [view if view.seconds_left is not None else _with_remainder(view, expected.of(one)) for one, view in rows]


def _with_remainder(view: TrialView, expected: float | None) -> TrialView:
    """Return an open trial with its time left: the expected duration minus the time already spent."""
    if expected is None or not view.is_open:
        return view
    spent = 0.0 if view.state is ObservedState.WAITING else view.seconds or 0.0
    return replace(view, seconds_left=max(0.0, expected - spent))


def _totals(
    running: Sequence[float | None], others: Sequence[float | None], workers: int
) -> tuple[float | None, float | None]:
    """Return the time until all trials are done, and the total work. Unknown trials count as the mean of the others.

    Both are None if nothing is known, and the time is None without workers.
    """
    known = [seconds for seconds in (*running, *others) if seconds is not None]
    if not known:
        return None, None
    mean = fmean(known)
    run, wait = ([mean if seconds is None else seconds for seconds in group] for group in (running, others))
    return makespan([*run, *wait], workers) if workers else None, sum(run) + sum(wait)


def _planned_by_name(trial_id: str, folder: TrialFolder) -> PlannedTrial:
    """Return the trial that a folder's name describes, for a manifest that is damaged or has no plan."""
    found = re.fullmatch(r"(.+),seed=([0-9]+)", folder.folder_label)
    arm, seed = (found[1], int(found[2])) if found else (folder.folder_label or trial_id, None)
    return PlannedTrial(trial=trial_id, arm=arm, seed=seed)


def _seconds_since_report(view: TrialView) -> float:
    """Return the seconds since the last report of a trial on this machine; 0 on others, whose clocks may differ."""
    age = seconds_since(view.updated)
    return max(0.0, age) if age is not None and view.host == socket.gethostname() else 0.0
