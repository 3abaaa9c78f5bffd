"""Dispatch of trials to workers, and the reaction to the end of each trial."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from neftune_cli.config.running import RunSettings
from neftune_cli.records import TrialRecord, TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Event, Executor, Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.failures import DISK_KINDS, Failure, failure
from neftune_cli.sweeps.plan import place_of
from neftune_cli.sweeps.progress import Observer, Result
from neftune_cli.training.trial import Trial

LEASE_RETRY_SECONDS = 2.0
"""Interval until a trial that another process has leased is tried again."""
_WAIT_SECONDS = 0.5


@dataclass
class Dispatched:
    """Results of the dispatch so far."""

    ended: set[str] = field(default_factory=set)
    """Ids of trials that finished or failed in this process."""
    halted: Failure | None = None
    """Failure that stops all trials, such as a full disk."""
    stopped: bool = False
    """Whether a stop of the trials was requested."""
    shared: bool = field(default=False, repr=False)


class Dispatcher:
    """Dispatcher that runs each trial once, in order, until all have ended or a stop is requested.

    Args:
        folder: results folder.
        executor: runs the trials.
        observer: receives the progress.
        settings: settings of each trial.
        settled: called after each trial that ended here.
        fail_fast: whether the first failure stops the other trials.
    """

    def __init__(
        self,
        folder: SweepFolder,
        executor: Executor,
        observer: Observer,
        settings: RunSettings,
        *,
        settled: Callable[[], None],
        fail_fast: bool,
    ) -> None:
        self._folder, self._executor, self._observer = folder, executor, observer
        self._settings, self._settled, self._fail_fast = settings, settled, fail_fast
        self._waiting: list[Job] = []
        self._running: dict[str, Job] = {}
        self._not_before: dict[str, float] = {}
        self._failed_before: dict[str, str] = {}
        self._interrupted: Callable[[], bool] = lambda: False
        self.result = Dispatched()

    def run(self, trials: Iterable[Trial], interrupted: Callable[[], bool]) -> Dispatched:
        """Run the trials. When `interrupted` returns true, ask the running ones to write a checkpoint and stop."""
        self._waiting = [Job(trial, self._settings) for trial in trials]
        self._failed_before = {job.trial.id: _failed_at(self._place(job.trial)) for job in self._waiting}
        self._interrupted = interrupted
        while self._running or (self._waiting and not self.result.stopped):
            if interrupted() and not self.result.stopped:
                self._stop()
                self._observer.stopping()
            if not self.result.stopped:
                self._submit()
            for event in self._executor.wait(_WAIT_SECONDS):
                self._handle(event)
        return self.result

    def _submit(self) -> None:
        for job in list(self._waiting):
            if not self._executor.free():
                return
            if self._not_before.get(job.trial.id, 0.0) > time.monotonic():
                continue
            self._waiting.remove(job)
            if not self._ended_elsewhere(job.trial):
                self._running[job.trial.id] = job
                self._executor.submit(job, self._folder)

    def _handle(self, event: Event) -> None:
        match event:
            case Started(trial):
                self._observer.trial_started(trial)
            case LeasedElsewhere(trial):
                self._share(trial)
            case Finished(trial, record, why, seconds):
                job = self._running.pop(trial.id)
                self._end(job, record, why, seconds)
            case WorkerDied(trial) if trial is not None:
                self._retry(self._running.pop(trial.id), event)
            case WorkerDied():
                self._observer.note(f"A worker {event.why}. It is replaced.")

    def _share(self, trial: Trial) -> None:
        self._postpone(self._running.pop(trial.id))
        if not self.result.shared:
            self.result.shared = True
            self._observer.note("Another process works on this folder too. The trials are shared.")

    def _postpone(self, job: Job) -> None:
        self._not_before[job.trial.id] = time.monotonic() + LEASE_RETRY_SECONDS
        self._waiting.append(job)

    def _end(self, job: Job, record: TrialRecord | None, why: Failure | None, seconds: float) -> None:
        if why is None:
            self._report(Result(job.trial, record, "", seconds))
        elif why.kind == "lease-lost":
            self._observer.note(f"{job.trial.label}: {why.reason}")
            self._waiting.append(job)
        elif why.kind in DISK_KINDS:
            self._halt(why)
        elif why.kind == "stopped":
            if not (self.result.stopped or self._interrupted()):  # only its worker received a signal
                self._retry(job, WorkerDied(job.trial, "received a signal to end"))
        else:
            self._report(Result(job.trial, None, why.reason, seconds))
            if self._fail_fast:
                self._observer.note("--fail-fast: the other trials are stopped.")
                self._stop()

    def _retry(self, job: Job, death: WorkerDied) -> None:
        """Retry the trial of a dead worker once from its checkpoint; after that, record it as failed."""
        trial = job.trial
        if self.result.stopped:
            return
        if again := job.retry(lacked_memory=death.lacked_memory):
            how = " with half the batch size" if again.halvings > job.halvings else ""
            self._observer.note(f"{trial.label}: its worker {death.why}. The trial is retried{how}.")
            self._waiting.insert(0, again)
            return
        reason = f"Its worker {death.why}, for the {_ORDINALS.get(job.attempt, f'{job.attempt}th')} time."
        if death.last_log_line:
            reason += f" Last log line: {death.last_log_line}"
        claimed = self._place(trial).acquire_lease(lease_seconds=self._settings.lease_seconds)
        if claimed is None:  # another process has the lease, or the lease of the dead worker has not expired
            self._postpone(job)
            return
        with claimed:
            claimed.end(TrialState.FAILED, reason)
        self._end(job, None, Failure("failed", reason), 0.0)

    def _report(self, result: Result) -> None:
        self.result.ended.add(result.trial.id)
        try:
            self._settled()
        except OSError as error:
            self._halt(failure(error, self._folder.path))
        self._observer.trial_ended(result)

    def _halt(self, why: Failure) -> None:
        """Stop all trials, because nothing can be written."""
        self.result.halted = self.result.halted or why
        self._stop()

    def _stop(self) -> None:
        self.result.stopped = True
        self._executor.stop()

    def _ended_elsewhere(self, trial: Trial) -> bool:
        """Return whether another process has finished the trial, or recorded its failure, since this one started."""
        place = self._place(trial)
        return place.record() is not None or _failed_at(place) not in ("", self._failed_before[trial.id])

    def _place(self, trial: Trial) -> TrialFolder:
        return place_of(self._folder, trial)


_ORDINALS = {2: "second", 3: "third"}


def _failed_at(place: TrialFolder) -> str:
    """Return the time of a trial's failure, empty if it has not failed."""
    status = place.status()
    return status.updated if status and status.state is TrialState.FAILED else ""
