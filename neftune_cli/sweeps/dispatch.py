"""Gives the trials of a plan to workers, and decides what follows from how each one ends."""

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

LOOK_AGAIN_SECONDS = 2.0
"""Until a trial that another process has is asked for again."""
_WAIT_SECONDS = 0.5


@dataclass
class Dispatched:
    """What came of it so far."""

    ended: set[str] = field(default_factory=set)
    """Ids of the trials that ended here, with a record or failed."""
    halted: Failure | None = None
    """Why nothing could go on, whatever the trial; None if nothing was in the way."""
    stopped: bool = False
    """Whether trials were asked to stop before they were done."""
    shared: bool = field(default=False, repr=False)


class Dispatcher:
    """Runs trials in their order, each once, until all have ended or something wants them to stop.

    Args:
        folder: where they go.
        executor: who runs them.
        observer: who is told.
        settings: how each is run.
        settled: is called after each that ended here.
        fail_fast: whether the first failure stops the others.
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
        self._look_again: dict[str, float] = {}
        self._failed_before: dict[str, str] = {}
        self._interrupted: Callable[[], bool] = lambda: False
        self.result = Dispatched()

    def run(self, trials: Iterable[Trial], interrupted: Callable[[], bool]) -> Dispatched:
        """Run the trials; as soon as `interrupted` says so, ask those that run to keep what they have and end."""
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
            if self._look_again.get(job.trial.id, 0.0) > time.monotonic():
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
                self._try_again(self._running.pop(trial.id), event)
            case WorkerDied():
                self._observer.note(f"A worker {event.why}; another takes its place.")

    def _share(self, trial: Trial) -> None:
        self._ask_later(self._running.pop(trial.id))
        if not self.result.shared:
            self.result.shared = True
            self._observer.note("Another process works on this folder too: the trials are shared.")

    def _ask_later(self, job: Job) -> None:
        self._look_again[job.trial.id] = time.monotonic() + LOOK_AGAIN_SECONDS
        self._waiting.append(job)

    def _end(self, job: Job, record: TrialRecord | None, why: Failure | None, seconds: float) -> None:
        if why is None:
            self._tell(Result(job.trial, record, "", seconds))
        elif why.kind == "claim-lost":
            self._observer.note(f"{job.trial.label}: {why.reason}")
            self._waiting.append(job)
        elif why.kind in DISK_KINDS:
            self._halt(why)
        elif why.kind == "stopped":
            if not (self.result.stopped or self._interrupted()):  # somebody has asked its worker alone
                self._try_again(job, WorkerDied(job.trial, "was told to end"))
        else:
            self._tell(Result(job.trial, None, why.reason, seconds))
            if self._fail_fast:
                self._observer.note("--fail-fast: the other trials stop, too.")
                self._stop()

    def _try_again(self, job: Job, death: WorkerDied) -> None:
        """Try the trial of a worker that is gone once more, from its checkpoint; then record it as failed."""
        trial = job.trial
        if self.result.stopped:
            return
        if again := job.again(lacked_memory=death.lacked_memory):
            how = " with half the batch" if again.halvings > job.halvings else ""
            self._observer.note(f"{trial.label}: its worker {death.why}; it is tried again{how}.")
            self._waiting.insert(0, again)
            return
        reason = f"Its worker {death.why}, for the {_ORDINALS.get(job.attempt, f'{job.attempt}th')} time."
        if death.last_words:
            reason += f" The end of its log: {death.last_words}"
        claimed = self._place(trial).claim(lease_seconds=self._settings.lease_seconds)
        if claimed is None:  # another process has it by now, or the dead one's claim still looks alive
            self._ask_later(job)
            return
        with claimed:
            claimed.end(TrialState.FAILED, reason)
        self._end(job, None, Failure("failed", reason), 0.0)

    def _tell(self, result: Result) -> None:
        self.result.ended.add(result.trial.id)
        try:
            self._settled()
        except OSError as error:
            self._halt(failure(error, self._folder.path))
        self._observer.trial_ended(result)

    def _halt(self, why: Failure) -> None:
        """Stop, as nothing can be written, whatever the trial."""
        self.result.halted = self.result.halted or why
        self._stop()

    def _stop(self) -> None:
        self.result.stopped = True
        self._executor.stop()

    def _ended_elsewhere(self, trial: Trial) -> bool:
        """Return whether another process has finished the trial, or seen it fail, since this one began."""
        place = self._place(trial)
        return place.record() is not None or _failed_at(place) not in ("", self._failed_before[trial.id])

    def _place(self, trial: Trial) -> TrialFolder:
        return place_of(self._folder, trial)


_ORDINALS = {2: "second", 3: "third"}


def _failed_at(place: TrialFolder) -> str:
    """Return when a trial failed, empty if it has not."""
    status = place.status()
    return status.updated if status and status.state is TrialState.FAILED else ""
