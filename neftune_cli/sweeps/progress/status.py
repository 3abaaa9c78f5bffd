"""Status of a sweep, read repeatedly from its folder, with estimates of the time left for each trial and the sweep."""

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from statistics import fmean

from neftune_cli.errors import Problems
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.following import FollowedTrial, TrialSnapshot
from neftune_cli.store.manifest import Manifest, PlannedTrial
from neftune_cli.sweeps.durations import ExpectedDurations, PaceTracker, ProgressSample, TrialDuration, makespan
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
