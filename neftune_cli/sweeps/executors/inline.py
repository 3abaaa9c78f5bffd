"""The inline executor: run one trial at a time in the main process, for debuggers and tests."""

import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from neftune_cli.config.process import is_launcher_variable
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import NeftuneError, Problem, UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, Started
from neftune_cli.sweeps.failures import failure_of
from neftune_cli.sweeps.inspection import Inspection, LoadedSizes
from neftune_cli.training.cost import Calibration
from neftune_cli.training.hardware import configure_process
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial_log import redirect_library_output

_ONE_THREAD = threading.RLock()
"""Held by the thread that runs trials: a trial replaces stdout, logging handlers and warning filters of the process."""


class InlineExecutor:
    """Run the submitted trial inside `wait`, which returns its events when the trial has ended.

    On exit, the settings and the states of the random generators of the process are those before.
    """

    def __init__(self) -> None:
        configure_process()
        from neftune_cli.sweeps.trial_runner import TrialRunner

        self._runner, self._stop = TrialRunner(), StopRequest()
        self._submitted: tuple[Job, SweepFolder] | None = None
        self._process = ExitStack()

    def __enter__(self) -> Self:
        self._process.enter_context(_process_of_worker())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._submitted = None
        self._process.close()

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Inspect device, model and data."""
        return self._runner.inspect(spec)

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        """Load model and data."""
        with _library_errors_converted():
            return self._runner.prepare(trials)

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        """Measure the cost of a recipe."""
        with redirect_library_output(Path(os.devnull)), _library_errors_converted():
            return [self._runner.calibrate(trial, seconds)]

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Do nothing: there is one process, and its threads are already set."""

    def capacity(self) -> int:
        """Return 1 if no trial is submitted, otherwise 0."""
        return 0 if self._submitted or self._stop.requested else 1

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Keep a job for the next call of `wait`."""
        if not self.capacity():
            raise RuntimeError("A job is already submitted. Call capacity() first.")
        self._submitted = (job, folder)

    def wait(self, seconds: float) -> list[Event]:
        """Run the submitted trial to its end, however long it takes, and return its events."""
        if self._submitted is None:
            time.sleep(seconds)
            return []
        (job, folder), self._submitted = self._submitted, None
        return self._run(job, folder)

    def interrupt(self) -> None:
        """Ask the running trial to end, so that `wait` returns."""
        self._stop.request()

    def stop(self) -> None:
        """Ask the running or submitted trial to end."""
        self._stop.request()

    def _run(self, job: Job, folder: SweepFolder) -> list[Event]:
        events: list[Event] = []
        started = time.monotonic()
        try:
            record = self._runner.run(
                job,
                folder,
                self._stop,
                on_lease=lambda: events.append(Started(job.trial)),
            )
        except Exception as error:
            found = failure_of(error, folder.path)
            return [*events, Finished(job.trial, None, found, time.monotonic() - started)]
        if record is None:
            return [*events, LeasedElsewhere(job.trial)]
        return [*events, Finished(job.trial, record, None, time.monotonic() - started)]


@contextmanager
def _process_of_worker() -> Iterator[None]:
    """Give this process the settings of a worker process, and restore settings and random generators at the end.

    A program may have changed the default dtype or the gradient mode of PyTorch, or inherited launcher variables.

    Raises:
        UsageError: another thread is in this context.
    """
    import numpy as np
    import torch

    if not _ONE_THREAD.acquire(blocking=False):
        what = "Another thread of this process runs a sweep with workers=0."
        raise UsageError(Problem(what, "Use workers=1, or run one sweep after the other."))
    dtype, of_random, of_numpy = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    launcher_variables = {name: os.environ.pop(name) for name in list(os.environ) if is_launcher_variable(name)}
    gpus = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)  # reading a state initializes a GPU
    try:
        torch.set_default_dtype(torch.float32)
        with torch.random.fork_rng(gpus), torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        os.environ.update(launcher_variables)
        torch.set_default_dtype(dtype)
        np.random.set_state(of_numpy)
        random.setstate(of_random)
        _ONE_THREAD.release()


@contextmanager
def _library_errors_converted() -> Iterator[None]:
    """Convert exceptions of libraries to `NeftuneError`, as a worker process does when it answers a request."""
    try:
        yield
    except NeftuneError:
        raise
    except Exception as error:
        raise NeftuneError(failure_of(error, Path.cwd()).reason) from error
