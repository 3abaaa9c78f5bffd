"""The executor protocol. Each implementation has a module here; `neftune_cli.config.executors` declares their names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from neftune_cli.config.executors import EXECUTORS, ExecutorDeclaration, register_executor
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import Inspection, LoadedSizes
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial import Trial
from neftune_cli.training.trial_log import ATTEMPT, CRASH

__all__ = [
    "EXECUTORS",
    "MAX_MACHINE_LOSSES",
    "Event",
    "Executor",
    "ExecutorDeclaration",
    "Finished",
    "Job",
    "LeasedElsewhere",
    "Started",
    "WorkerDied",
    "register_executor",
]


MAX_MACHINE_LOSSES = 20
"""Number of times that a trial is retried after the loss of its machine."""


@dataclass(frozen=True)
class Job:
    """One trial to run, with its settings."""

    trial: Trial
    settings: TrialSettings
    tries: int = 1
    """Number of times this command has started the trial, this time included, without those that lost their machine."""
    halvings: int = 0
    """Number of times the batch size is halved before the trial starts."""
    machine_losses: int = 0
    """Number of times that the machine of the trial was lost."""

    def retry(self, *, out_of_memory: bool, machine_lost: bool = False) -> "Job | None":
        """Return the job to submit after the worker died, or None if the retries are used up.

        A trial is retried once. If the worker ran out of memory and the settings allow it, the trial is retried with
        half the batch size, as often as the batch size can be halved. The loss of a machine is no fault of the trial
        and counts separately.
        """
        if machine_lost:
            return (
                replace(self, machine_losses=self.machine_losses + 1)
                if self.machine_losses < MAX_MACHINE_LOSSES
                else None
            )
        if out_of_memory and self.may_halve_batch(self.halvings):
            return replace(self, tries=self.tries + 1, halvings=self.halvings + 1)
        return replace(self, tries=2) if self.tries == 1 else None

    def may_halve_batch(self, halvings: int) -> bool:
        """Return whether the batch size can and may be halved once more after this number of halvings."""
        return self.settings.halve_batch and self.trial.can_halve_batch(halvings, self.settings.processes)


@dataclass(frozen=True)
class Started:
    """A worker holds the lease of the trial and has started to run it."""

    trial: Trial


@dataclass(frozen=True)
class LeasedElsewhere:
    """Another process holds the lease of the trial. The worker did not run it and is free."""

    trial: Trial


@dataclass(frozen=True)
class Finished:
    """The trial has ended with a record or with a failure. Its worker is free."""

    trial: Trial
    record: TrialRecord | None
    failure: Failure | None
    seconds: float
    """Duration of this attempt."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker process has died, while it ran a trial or while it was idle. The next job starts a new worker."""

    trial: Trial | None
    reason: str
    """The predicate of a sentence about the worker, for example "ended with exit code 1"."""
    log_end: str = ""
    """Last lines of the log of the trial or the worker. After a crash, the first lines of the traceback."""
    out_of_memory: bool = False
    """Whether the worker was probably killed because the machine ran out of memory."""
    machine_lost: bool = False
    """Whether the machine was lost, or a scheduler took it away, so that the trial is not at fault."""

    @property
    def last_log_line(self) -> str:
        """Return the most informative line of the log, or an empty string."""
        lines = [line for line in self.log_end.splitlines() if not line.startswith(ATTEMPT)] or [""]
        return lines[0] if lines[0].startswith(CRASH) else lines[-1].strip()


Event = Started | LeasedElsewhere | Finished | WorkerDied


class Executor(Protocol):
    """Run trials on workers, isolated from each other: a failed trial does not affect the others.

    An executor is a context manager. On exit it ends all workers, unless a scheduler keeps them (`--detach`); after a
    `KeyboardInterrupt` it kills them. Until then, each submitted trial causes exactly one `LeasedElsewhere`,
    `Finished` or `WorkerDied`. `Started` precedes `Finished` if the worker trained or measured anything. The progress
    of a trial is in its folder, not in events.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Return the facts about device, model and data that a plan needs. Problems are returned, not raised.

        Raises:
            NeftuneError: no worker can be started.
        """

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        """Load the model and the data of these trials, and return their sizes.

        Raises:
            UsageError: the data do not fit the model, or the model cannot be loaded.
            NeftuneError: no worker can be started, or the worker died.
        """

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        """Measure the cost of a trial with this recipe on all started workers at once, one result per worker.

        Workers that run in parallel slow each other down, so the measurements include this effect. They end after at
        most `seconds`, as far as this can be known beforehand. The start of workers does not count.

        Raises:
            UsageError: the data do not fit the model.
            NeftuneError: a worker cannot be started, or it died.
        """

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Provide exactly this many workers, and return without waiting until they are ready.

        It is called before the first `calibrate` or `submit`, and may be called again with other numbers while no
        submitted trial is unfinished. Missing workers are started, and surplus ones end. If a worker of this machine
        has answered `inspect` and `prepare`, it stays, with the new number of threads, because it has loaded model and
        data. Afterwards `capacity` returns `workers`, or a larger number if a scheduler queues the trials. An executor
        that declares `most_workers=1`, such as `inline`, ignores the arguments.

        Args:
            workers: number of trials that run in parallel, 1 or more.
            threads: compute threads of each worker, 1 or more. A smaller limit in the environment (`OMP_NUM_THREADS`)
                takes precedence.
            gpus: number of visible GPUs; 0 without one. If there are several, worker n uses GPU n modulo `gpus` only.

        Raises:
            NeftuneError: the system cannot start a process. A worker that dies before it is ready raises nothing here:
                it is replaced, and after repeated deaths `calibrate` and `wait` raise this error.
        """

    def capacity(self) -> int:
        """Return the number of jobs that can be submitted now."""

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Give a job to a free worker. The trial's files go into the sweep's folder.

        Raises:
            RuntimeError: no worker is free.
        """

    def wait(self, seconds: float) -> list[Event]:
        """Return the events since the last call: at once if there are any, otherwise after at most `seconds`.

        Raises:
            NeftuneError: workers cannot be started any more.
        """

    def interrupt(self) -> None:
        """Make `wait` return soon. A signal handler may call this."""

    def stop(self) -> None:
        """Ask all running trials to write a checkpoint and end. No job may be submitted afterwards."""
