"""The executor contract: jobs, events, and the protocol that every executor implements."""

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
    """One trial to run, with its settings."""

    trial: Trial
    settings: RunSettings
    attempt: int = 1
    """Number of times that this command has given the trial to a worker."""
    halvings: int = 0
    """Number of times that the batch size is halved at the start, after a lack of memory."""

    def retry(self, *, lacked_memory: bool) -> "Job | None":
        """Return the job for another attempt after the worker died, None if there were enough attempts.

        After a lack of memory the batch size is halved, as often as possible, if the settings allow it.
        """
        if lacked_memory and self.settings.halve_batch and self.trial.can_be_halved(self.halvings):
            return replace(self, attempt=self.attempt + 1, halvings=self.halvings + 1)
        return replace(self, attempt=2) if self.attempt == 1 else None


@dataclass(frozen=True)
class Started:
    """A worker has acquired the lease of the trial and starts it."""

    trial: Trial


@dataclass(frozen=True)
class LeasedElsewhere:
    """Another process holds the lease of the trial. The worker is free."""

    trial: Trial


@dataclass(frozen=True)
class Finished:
    """A trial has a record or a failure. The worker is free."""

    trial: Trial
    record: TrialRecord | None
    failure: Failure | None
    seconds: float
    """Time spent in this attempt."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker process died, with or without a trial. A new worker replaces it."""

    trial: Trial | None
    why: str
    """Cause of death, as the rest of a sentence."""
    log_end: str = ""
    """Last lines of the log of the trial or worker; for a crash, the first lines of its traceback."""
    lacked_memory: bool = False
    """Whether the system killed it, as it does when memory runs out."""

    @property
    def last_log_line(self) -> str:
        """Return the most informative line of the log; empty if there is none."""
        lines = [line for line in self.log_end.splitlines() if not line.startswith(ATTEMPT)] or [""]
        return lines[0] if lines[0].startswith(CRASH) else lines[-1].strip()


Event = Started | LeasedElsewhere | Finished | WorkerDied


class Executor(Protocol):
    """Runner of trials on workers. A failing trial does not affect the others.

    An executor is a context manager. Leaving it ends all workers, at once in the case of a `KeyboardInterrupt`. Each
    submitted trial leads to exactly one `LeasedElsewhere`, `Finished` or `WorkerDied`. `Started` comes before
    `Finished`, unless acquiring the lease failed. The trial's folder has its progress.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Return the facts about device, model and data for a plan. Problems are part of the result, not raised.

        Raises:
            NeftuneError: no worker can be started.
        """
        ...

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        """Load model and data for these trials, and return their properties.

        Raises:
            UsageError: data and model do not match, or the model cannot be loaded.
            NeftuneError: no worker can be started, or it died.
        """
        ...

    def calibrate(self, trial: TrialSpec) -> list[Calibration]:
        """Measure the cost of a trial like this one, in all started workers at once, because they slow each other.

        Raises:
            UsageError: data and model do not match.
            NeftuneError: a worker cannot be started, or it died.
        """
        ...

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Set the number of workers, the threads of each, and the number of GPUs for them."""
        ...

    def free(self) -> int:
        """Return the number of jobs that can be submitted now."""
        ...

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Give a trial to a free worker.

        Raises:
            RuntimeError: no worker is free.
        """
        ...

    def wait(self, seconds: float) -> list[Event]:
        """Return the events since the last call, at once if there are any, else after at most `seconds`.

        Raises:
            NeftuneError: workers can no longer be started.
        """
        ...

    def interrupt(self) -> None:
        """Make `wait` return soon. Safe in a signal handler."""
        ...

    def stop(self) -> None:
        """Ask all running trials to write a checkpoint and stop. Nothing can be submitted afterwards."""
        ...

    def kill(self) -> None:
        """End all workers at once. Their work since the last checkpoint is lost."""
        ...
