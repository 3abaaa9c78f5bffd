"""Executor in the main process: trials run one after another, for debugging and tests."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import NeftuneError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, Started
from neftune_cli.sweeps.failures import failure
from neftune_cli.sweeps.inspection import Inspection, Preparation
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training.cost import Calibration
from neftune_cli.training.hardware import keep_memory_between_steps
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial_log import redirect_library_output


class InlineExecutor:
    """Executor that runs one trial at a time in this process. Events are reported after its end."""

    def __init__(self) -> None:
        self._bench, self._stop = TrialRunner(), StopRequest()
        self._given: tuple[Job, SweepFolder] | None = None

    def __enter__(self) -> Self:
        keep_memory_between_steps()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given = None

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Inspect device, model and data."""
        return self._bench.inspect(spec)

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        """Load model and data."""
        with _library_errors_converted():
            return self._bench.prepare(trials)

    def calibrate(self, trial: TrialSpec) -> list[Calibration]:
        """Measure the cost of a trial."""
        with redirect_library_output(Path(os.devnull)), _library_errors_converted():
            return [self._bench.calibrate(trial)]

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Do nothing: there is one process, with its threads."""

    def free(self) -> int:
        """Return 1 if no trial is waiting."""
        return 0 if self._given or self._stop.requested else 1

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Keep a job until `wait`."""
        if not self.free():
            raise RuntimeError("A trial waits already; ask free() before.")
        self._given = (job, folder)

    def wait(self, seconds: float) -> list[Event]:
        """Run the submitted trial to its end, and return all events."""
        if self._given is None:
            time.sleep(seconds)
            return []
        (job, folder), self._given = self._given, None
        return self._run(job, folder)

    def interrupt(self) -> None:
        """Ask the running trial to stop. `wait` returns after that."""
        self._stop.request()

    def stop(self) -> None:
        """Ask the running or waiting trial to stop."""
        self._stop.request()

    def kill(self) -> None:
        """Drop the waiting trial. A running trial is this process itself."""
        self._stop.request()
        self._given = None

    def _run(self, job: Job, folder: SweepFolder) -> list[Event]:
        events: list[Event] = []
        started = time.monotonic()
        try:
            record = self._bench.run(
                job,
                folder,
                self._stop,
                on_lease=lambda: events.append(Started(job.trial)),
            )
        except Exception as error:
            found = failure(error, folder.path)
            return [*events, Finished(job.trial, None, found, time.monotonic() - started)]
        if record is None:
            return [*events, LeasedElsewhere(job.trial)]
        return [*events, Finished(job.trial, record, None, time.monotonic() - started)]


@contextmanager
def _library_errors_converted() -> Iterator[None]:
    """Convert exceptions of libraries into a NeftuneError, as for worker processes."""
    try:
        yield
    except NeftuneError:
        raise
    except Exception as error:
        raise NeftuneError(f"{type(error).__name__}: {error}") from error
