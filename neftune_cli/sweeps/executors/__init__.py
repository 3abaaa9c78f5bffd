"""Where trials run: one contract, and an implementation a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from neftune_cli.config.running import RunSettings
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import Inspection, Preparation
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial import Trial
from neftune_cli.training.trial_log import ATTEMPT, CRASH


@dataclass(frozen=True)
class Job:
    """One trial to run, and how."""

    trial: Trial
    settings: RunSettings
    attempt: int = 1
    """How often this command has given it to a worker, this time included."""
    halvings: int = 0
    """How often its batch is halved from the start, for want of memory."""

    def again(self, *, lacked_memory: bool) -> "Job | None":
        """Return the job to give out after this one's worker died, None if that would be once too often.

        A trial whose worker lacked memory gets half the batch, as often as it can be halved, where settings allow it.
        """
        if lacked_memory and self.settings.halve_batch and self.trial.can_be_halved(self.halvings):
            return replace(self, attempt=self.attempt + 1, halvings=self.halvings + 1)
        return replace(self, attempt=2) if self.attempt == 1 else None


@dataclass(frozen=True)
class Started:
    """A worker holds the trial now and begins."""

    trial: Trial


@dataclass(frozen=True)
class LeasedElsewhere:
    """Another process holds the trial: this worker has left it alone, and is free."""

    trial: Trial


@dataclass(frozen=True)
class Finished:
    """A trial has its record, or a failure that says why not; its worker is free."""

    trial: Trial
    record: TrialRecord | None
    failure: Failure | None
    seconds: float
    """Time spent in this attempt."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker has died, with a trial or without; the next job gets a new one."""

    trial: Trial | None
    why: str
    """How it ended, as the rest of a sentence."""
    log_end: str = ""
    """Last lines of the trial's log, or of the worker's own; the first ones of a crash's traceback."""
    lacked_memory: bool = False
    """Whether the system killed it, as it does when memory runs out."""

    @property
    def last_words(self) -> str:
        """Return the one line of the log that says most; empty if there is none."""
        lines = [line for line in self.log_end.splitlines() if not line.startswith(ATTEMPT)] or [""]
        return lines[0] if lines[0].startswith(CRASH) else lines[-1].strip()


Event = Started | LeasedElsewhere | Finished | WorkerDied


class Executor(Protocol):
    """Runs trials on workers, each trial on its own: one that fails takes no other with it.

    An executor is a context manager. Leaving it ends all workers, at once in the case of a `KeyboardInterrupt`. Each
    submitted trial leads to exactly one `LeasedElsewhere`, `Finished` or `WorkerDied`. `Started` comes before
    `Finished`, unless acquiring the lease failed. The trial's folder has its progress.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Return what a plan needs to know of device, model and data; problems are in it, not raised.

        Raises:
            NeftuneError: no worker can be started.
        """
        ...

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        """Load model and data as these trials need them, and return what was learnt.

        Raises:
            UsageError: the data don't fit the model, or the model can't be loaded.
            NeftuneError: no worker can be started, or it died of it.
        """
        ...

    def calibrate(self, trial: TrialSpec) -> list[Calibration]:
        """Measure what a trial like this one costs, in all started workers at once: each pays for the others' company.

        Raises:
            UsageError: the data don't fit the model.
            NeftuneError: a worker can't be started, or it died of it.
        """
        ...

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Say how many workers there may be, how many threads each has, and over how many GPUs they spread."""
        ...

    def free(self) -> int:
        """Return how many more jobs can be submitted now."""
        ...

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Give a trial to a free worker.

        Raises:
            RuntimeError: none is free.
        """
        ...

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened since the last call: at once if something has, else after so many seconds.

        Raises:
            NeftuneError: workers can't be started any more.
        """
        ...

    def interrupt(self) -> None:
        """See to it that `wait` soon returns; a signal handler may call it."""
        ...

    def stop(self) -> None:
        """Ask all running trials to keep what they have and end; for good, so nothing is to be submitted after it."""
        ...

    def kill(self) -> None:
        """End all workers at once; what they hold in memory is lost."""
        ...
