"""Dispatch the trials of a plan to an executor, and react to each way a trial or a worker can end."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.errors import UsageError
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Event, Executor, Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.failures import Failure, failure_of
from neftune_cli.sweeps.plan import trial_folder
from neftune_cli.sweeps.progress import Observer
from neftune_cli.training.trial import Trial

LEASE_POLL_SECONDS = 2.0
"""Interval between attempts to run a trial that another process has leased."""
_WAIT_SECONDS = 0.5


@dataclass
class DispatchResult:
    """Ends of the trials of a dispatcher, updated while it runs."""

    ended: set[str] = field(default_factory=set)
    """Ids of the trials that ended under this dispatcher, with a record or a failure."""
    halted: Failure | None = None
    """The failure after which no trial is run, or None.

    It is one of `DISK_KINDS`, or an error while files of the sweep were read or written.
    """
    stopped: bool = False
    """Whether the remaining trials were asked to stop."""
    submitted: set[str] = field(default_factory=set)
    """Ids of the trials that go on after the end of this process."""


class Dispatcher:
    """Run trials in order until all have ended or the sweep stops.

    Args:
        folder: the sweep's folder.
        executor: runs the trials.
        observer: displays the progress.
        settings: settings of each trial.
        after_trial: called after each trial that ended under this dispatcher.
        fail_fast: whether the first failure stops the remaining trials.
    """

    def __init__(
        self,
        folder: SweepFolder,
        executor: Executor,
        observer: Observer,
        settings: TrialSettings,
        *,
        after_trial: Callable[[], None],
        fail_fast: bool,
    ) -> None:
        self._folder, self._executor, self._observer = folder, executor, observer
        self._settings, self._after_trial, self._fail_fast = settings, after_trial, fail_fast
        self._waiting: list[Job] = []
        self._running: dict[str, Job] = {}
        self._not_before: dict[str, float] = {}
        self._failure_times: dict[str, str] = {}
        self._interrupted: Callable[[], bool] = lambda: False
        self._is_shared = False
        self.result = DispatchResult()

    def run(self, trials: Iterable[Trial], interrupted: Callable[[], bool], *, detach: bool = False) -> DispatchResult:
        """Run the trials. When `interrupted` returns True, ask the running ones to write a checkpoint and end.

        With `detach`, only submit them, and return at once.
        """
        self._waiting = [Job(trial, self._settings) for trial in trials]
        self._failure_times = {job.trial.id: _failure_time(self._trial_folder(job.trial)) for job in self._waiting}
        self._interrupted = interrupted
        if detach:
            return self._submit_all()
        while self._running or (self._waiting and not self.result.stopped):
            if interrupted() and not self.result.stopped:
                self._stop()
                self._observer.stopping()
            if not self.result.stopped:
                self._submit()
            for event in self._executor.wait(_WAIT_SECONDS):
                self._handle(event)
        return self.result

    def _submit_all(self) -> DispatchResult:
        self._submit()
        for event in self._executor.wait(0):
            self._handle(event)
        self.result.submitted = set(self._running)
        return self.result

    def _submit(self) -> None:
        for job in list(self._waiting):
            if not self._executor.capacity():
                return
            if self._not_before.get(job.trial.id, 0.0) > time.monotonic():
                continue
            self._waiting.remove(job)
            try:
                ended_elsewhere = self._ended_elsewhere(job.trial)
            except UsageError as error:  # for example because a network drive was lost
                self._halt(failure_of(error, self._folder.path))
                return
            if not ended_elsewhere:
                self._running[job.trial.id] = job
                self._executor.submit(job, self._folder)

    def _handle(self, event: Event) -> None:
        match event:
            case Started(trial):
                self._observer.trial_started(trial)
            case LeasedElsewhere(trial):
                self._wait_for_lease(self._running.pop(trial.id))
            case Finished(trial):
                self._end(self._running.pop(trial.id), event)
            case WorkerDied(trial) if trial is not None:
                self._retry(self._running.pop(trial.id), event)
            case WorkerDied():
                self._observer.note(f"A worker {event.reason}. A new worker replaces it.")
            case _:
                assert_never(event)

    def _wait_for_lease(self, job: Job) -> None:
        """Try the trial again later. Its other process may die before the trial has ended."""
        self._submit_later(job)
        if not self._is_shared:
            self._is_shared = True
            self._observer.note("Another process is running trials of this sweep. The processes share the trials.")

    def _submit_later(self, job: Job) -> None:
        self._not_before[job.trial.id] = time.monotonic() + LEASE_POLL_SECONDS
        self._waiting.append(job)

    def _end(self, job: Job, end: Finished) -> None:
        why = end.failure
        if why is None:
            self._report(end)
            return
        match why.kind:
            case "lease-lost":
                self._observer.note(f"{job.trial.label}: {why.reason}")
                self._waiting.append(job)
            case "disk-full" | "folder-gone" | "read-only":
                self._halt(why)
            case "stopped":
                if not (self.result.stopped or self._interrupted()):  # a signal was sent to the worker alone
                    self._retry(job, WorkerDied(job.trial, "was asked to stop"))
            case "out-of-memory" | "failed":
                self._report(end)
                if self._fail_fast:
                    self._observer.note("--fail-fast: the remaining trials are stopped.")
                    self._stop()
            case kind:
                assert_never(kind)

    def _retry(self, job: Job, death: WorkerDied) -> None:
        """Retry the trial of a dead worker from its checkpoint, or record its failure if the retries are used up."""
        trial = job.trial
        if self.result.stopped:
            return
        if retry := job.retry(out_of_memory=death.out_of_memory, machine_lost=death.machine_lost):
            halved = " with half the batch size" if retry.halvings > job.halvings else ""
            self._observer.note(f"{trial.label}: the worker {death.reason}. Retrying{halved}.")
            self._waiting.insert(0, retry)
            return
        tried = f" The trial was tried {job.tries} times." if job.tries > 1 else ""
        reason = f"The worker {death.reason}.{tried}"
        if death.last_log_line:
            reason += f" Last log line: {death.last_log_line}"
        leased = self._trial_folder(trial).acquire_lease(lease_seconds=self._settings.lease_seconds)
        if leased is None:  # held by another process, or by a child process of the dead worker
            self._submit_later(job)
            return
        with leased:
            leased.end(TrialState.FAILED, reason)
        self._end(job, Finished(trial, None, Failure("failed", reason), 0.0))

    def _report(self, end: Finished) -> None:
        self.result.ended.add(end.trial.id)
        try:
            self._after_trial()
        except (OSError, UsageError) as error:
            self._halt(failure_of(error, self._folder.path))
        self._observer.trial_ended(end)

    def _halt(self, why: Failure) -> None:
        """Stop the sweep after a failure of its folder."""
        self.result.halted = self.result.halted or why
        self._stop()

    def _stop(self) -> None:
        self.result.stopped = True
        self._executor.stop()

    def _ended_elsewhere(self, trial: Trial) -> bool:
        """Return whether another process has finished the trial, or recorded its failure, since this one started."""
        folder = self._trial_folder(trial)
        return folder.record() is not None or _failure_time(folder) not in ("", self._failure_times[trial.id])

    def _trial_folder(self, trial: Trial) -> TrialFolder:
        return trial_folder(self._folder, trial)


def _failure_time(folder: TrialFolder) -> str:
    """Return the ISO time at which a trial failed, or an empty string if it has not failed."""
    status = folder.status()
    return status.updated if status and status.state is TrialState.FAILED else ""
