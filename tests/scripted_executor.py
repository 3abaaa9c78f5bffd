"""An executor that ends each job as a script says, without training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import Inspection, LoadedSizes
from neftune_cli.training.cost import Calibration
from tests.finished_trials import trial_record, write_failed_trial, write_trial

Act = Callable[[Job, SweepFolder], Event]
"""The end of a job after it has started."""
KILLED = "was killed by the system, probably because memory ran out"


@dataclass
class ScriptedExecutor:
    """An executor with one worker, which ends each job by the next act in a list, and otherwise finishes it."""

    acts: list[Act] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    stopped: bool = False
    _events: list[Event] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def inspect(self, spec: SweepSpec) -> Inspection:
        raise NotImplementedError

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        raise NotImplementedError

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        raise NotImplementedError

    def start(self, workers: int, threads: int, gpus: int) -> None: ...

    def capacity(self) -> int:
        return 0 if self._events else 1

    def submit(self, job: Job, folder: SweepFolder) -> None:
        self.jobs.append(job)
        self._events = [Started(job.trial), (self.acts.pop(0) if self.acts else finish)(job, folder)]

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def interrupt(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True


def finish(job: Job, folder: SweepFolder) -> Event:
    done = trial_record(job.trial.id, job.trial.arm, job.trial.seed)
    write_trial(folder.trial(job.trial.id, job.trial.arm, job.trial.seed), done)
    return Finished(job.trial, done, None, 1.0)


def fail(job: Job, folder: SweepFolder) -> Event:
    write_failed_trial(folder.trial(job.trial.id, job.trial.arm, job.trial.seed), job.trial.id, "It broke.")
    return Finished(job.trial, None, Failure("failed", "It broke."), 1.0)


def die(job: Job, _: SweepFolder) -> Event:
    return WorkerDied(job.trial, "crashed (SIGSEGV)", "Fatal Python error: Segmentation fault\n  in matmul")


def be_killed(job: Job, _: SweepFolder) -> Event:
    return WorkerDied(job.trial, KILLED, out_of_memory=True)


def lose_node(job: Job, _: SweepFolder) -> Event:
    return WorkerDied(job.trial, "or its node was lost", machine_lost=True)


def meet_full_disk(job: Job, _: SweepFolder) -> Event:
    return Finished(job.trial, None, Failure("disk-full", "No space is left."), 1.0)


def be_stopped(job: Job, _: SweepFolder) -> Event:
    return Finished(job.trial, None, Failure("stopped", "The trial was asked to stop."), 1.0)


def lose_lease(job: Job, _: SweepFolder) -> Event:
    return Finished(job.trial, None, Failure("lease-lost", "Another process has taken over the lease."), 1.0)


def find_leased(job: Job, _: SweepFolder) -> Event:
    return LeasedElsewhere(job.trial)


def finish_elsewhere(job: Job, folder: SweepFolder) -> Event:
    finish(job, folder)
    return LeasedElsewhere(job.trial)
