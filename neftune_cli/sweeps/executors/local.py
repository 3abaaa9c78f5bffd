"""The local executor: worker processes on this machine, which run many trials and are replaced when they die."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType
from typing import Self, TypeVar

from neftune_cli.config.process import with_this_package
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import NeftuneError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, WorkerDied
from neftune_cli.sweeps.executors.messages import WorkerMessage, answered_value, failure_in, to_json, trial_event
from neftune_cli.sweeps.executors.worker_handle import (
    ProcessExit,
    WorkerHandle,
    worker_environment,
)
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import Inspection, LoadedSizes
from neftune_cli.sweeps.interrupts import SignalPipe
from neftune_cli.sweeps.plan import trial_folder
from neftune_cli.sweeps.resources import LIBRARY_BYTES
from neftune_cli.training.cost import Calibration
from neftune_cli.training.hardware import available_cores, available_memory, limited_threads
from neftune_cli.training.trial_log import log_tail

T = TypeVar("T")

POLL_SECONDS = 0.5
"""Interval of the check for dead workers. A dead worker's pipe stays open if one of its child processes holds it."""
EXIT_SECONDS_IDLE, EXIT_SECONDS_BUSY = 5.0, 25.0
"""Time that workers have to exit. A running trial writes its checkpoint first."""
MAX_STARTED_AHEAD = 8
"""Largest number of workers that start before it is known how many are needed."""
MAX_FAILED_STARTS = 2
"""Number of times in a row that a worker may die before it is ready. After one more death the executor gives up."""


@dataclass
class _WorkerSlot:
    """Slot for one worker at a time, with the job that the worker runs."""

    number: int
    log: Path
    threads: int = 0
    """Number of threads of the worker; 0 stands for one per core, which are counted when the worker starts."""
    gpu: int | None = None
    worker: WorkerHandle | None = None
    is_ready: bool = False
    failed_starts: int = 0
    job: Job | None = None
    folder: SweepFolder | None = None
    request: WorkerMessage | None = None
    """The last request without an answer."""

    @property
    def log_in_use(self) -> Path:
        """Return the log that the worker wrote to last: the trial's or its own."""
        if self.job and self.folder and self.is_ready:
            log = trial_folder(self.folder, self.job.trial).log_path
            if log.exists():
                return log
        return self.log


class LocalExecutor:
    """Run trials in worker processes of this machine. The first request starts the first worker.

    Args:
        workers: number of workers that `start` is expected to ask for; None for one per core. The imports of a worker
            take seconds, so up to MAX_STARTED_AHEAD of them begin while the first worker inspects model and data.
        environment: environment variables of the workers; those of this process if None. Variables that depend on the
            worker, such as the number of threads, are added.
        directory: working directory of the workers; that of this process if None.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, directory: Path | None = None, *, workers: int | None = 1
    ) -> None:
        self._directory, self._expected_workers = directory, workers
        self._environment = dict(os.environ if environment is None else environment)
        self._events: list[Event] = []
        self._answers: dict[int, WorkerMessage] = {}
        self._slots: list[_WorkerSlot] = []
        self._last_id = 0
        self._is_stopping = False

    def __enter__(self) -> Self:
        self._logs = Path(tempfile.mkdtemp(prefix="neftune-workers-"))
        self._slots = [self._new_slot(0)]
        self._selector = DefaultSelector()
        self._signals = SignalPipe()
        self._selector.register(self._signals, EVENT_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._kill_all()
            self._shut_down(self._slots)
        except BaseException:
            self._kill_all()
            raise
        finally:
            for slot in self._slots:
                self._remove_worker(slot)
            self._selector.close()
            self._signals.close()
            shutil.rmtree(self._logs, ignore_errors=True)

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Inspect device, model and data in the first worker, and start further ones meanwhile."""
        self._started_worker(self._slots[0])
        self._start_ahead(len(spec.arms) * len(spec.seeds) + 1)
        (inspection,) = self._ask(self._slots[:1], {"request": "inspect", "spec": to_json(spec)}, Inspection)
        return inspection

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        """Load model and data in the first worker, which keeps them for its trials."""
        (sizes,) = self._ask(self._slots[:1], _prepare_request(trials), LoadedSizes)
        return sizes

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        """Measure the cost of a recipe in all workers at the same time, after all of them have loaded model and data.

        Raises:
            UsageError: the data do not fit the model.
            NeftuneError: a worker cannot be started, or it died.
        """
        self._ask(self._slots, _prepare_request([trial]), LoadedSizes)
        request = {"request": "calibrate", "trial": to_json(trial), "seconds": seconds}
        return self._ask(self._slots, request, Calibration)

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Start missing workers and end surplus ones.

        Raises:
            NeftuneError: the system cannot start a process.
        """
        surplus = self._slots[workers:]
        self._shut_down(surplus)
        for slot in surplus:
            self._remove_worker(slot)
        threads = limited_threads(threads, self._environment)
        kept = self._slots[:workers]
        self._slots = [*kept, *map(self._new_slot, range(len(kept), workers))]
        for slot in self._slots:
            if slot.worker and slot.threads != threads:
                slot.worker.send({"request": "threads", "count": threads})
            slot.threads = threads
            gpu = slot.number % gpus if gpus > 1 else None
            # The environment of a process has its GPU. Worker 0, which has loaded the data, uses the first one anyway.
            if slot.worker and slot.number and gpu != slot.gpu:
                self._kill_worker(slot)
            slot.gpu = gpu
            self._started_worker(slot)

    def capacity(self) -> int:
        """Return the number of workers without a job."""
        return 0 if self._is_stopping else len(self._free_slots())

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Give a job to a free worker, preferably one that has finished its imports."""
        if not self.capacity():
            raise RuntimeError("No worker is free. Call capacity() first.")
        slot = min(self._free_slots(), key=lambda slot: not slot.is_ready)
        slot.job, slot.folder = job, folder
        self._send(slot, {"request": "trial", "job": to_json(job), "folder": str(folder.path.absolute())})

    def wait(self, seconds: float) -> list[Event]:
        """Return the events since the last call: at once if there are any or a signal arrives, else after `seconds`."""
        deadline = time.monotonic() + seconds
        signaled = self._poll(0)
        while not self._events and not signaled and (left := deadline - time.monotonic()) > 0:
            signaled = self._poll(min(left, POLL_SECONDS))
        events, self._events = self._events, []
        return events

    def interrupt(self) -> None:
        """Do nothing: every signal ends `wait`."""

    def stop(self) -> None:
        """Ask all running trials to write a checkpoint and end."""
        self._is_stopping = True
        for worker in self._workers():
            worker.send({"request": "stop"})

    def _kill_all(self) -> None:
        self._is_stopping = True
        for worker in self._workers():
            worker.kill()

    def _new_slot(self, number: int) -> _WorkerSlot:
        return _WorkerSlot(number, self._logs / f"worker-{number}.txt")

    def _free_slots(self) -> list[_WorkerSlot]:
        return [slot for slot in self._slots if slot.job is None]

    def _workers(self) -> list[WorkerHandle]:
        return [slot.worker for slot in self._slots if slot.worker]

    def _started_worker(self, slot: _WorkerSlot) -> WorkerHandle:
        """Return the worker of a slot, and start one if there is none."""
        if slot.worker is None:
            slot.threads = slot.threads or available_cores()
            environment = with_this_package(worker_environment(slot.threads, slot.gpu, self._environment))
            try:
                slot.worker, slot.is_ready = WorkerHandle(slot.log, environment, self._directory), False
            except OSError as error:
                fix = "Use fewer --workers, or --workers 0 to run the trials in the main process."
                raise NeftuneError(f"The system cannot start a worker process ({error.strerror}). {fix}") from error
            self._selector.register(slot.worker, EVENT_READ, slot)
        return slot.worker

    def _start_ahead(self, trials: int) -> None:
        """Start workers that `start` will probably ask for, given the number of trials."""
        cores = available_cores()
        most = min(self._expected_workers or cores, cores, trials, MAX_STARTED_AHEAD)
        for number in range(len(self._slots), min(most, available_memory() // LIBRARY_BYTES)):
            slot = self._new_slot(number)
            self._started_worker(slot).send({"request": "imports"})
            self._slots.append(slot)

    def _send(self, slot: _WorkerSlot, request: WorkerMessage) -> int:
        self._last_id += 1
        slot.request = {**request, "id": self._last_id}
        self._started_worker(slot).send(slot.request)
        return self._last_id

    def _ask(self, slots: Sequence[_WorkerSlot], request: WorkerMessage, kind: type[T]) -> list[T]:
        """Send a request to the workers of some slots, and return the values of all answers."""
        ids = [self._send(slot, request) for slot in slots]
        while not all(one in self._answers for one in ids):
            self._poll(POLL_SECONDS)
        answers = [self._answers.pop(one) for one in ids]
        return [answered_value(kind, answer) for answer in answers]

    def _poll(self, seconds: float) -> bool:
        """Handle messages and deaths of workers for up to `seconds`. Return whether a signal arrived."""
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._receive(key.data)
        for slot in self._slots:
            worker = slot.worker
            if worker and (status := worker.exit_status()):
                self._receive(slot)  # messages sent before the exit
                if slot.worker is worker:  # otherwise one of these messages has caused its replacement
                    self._handle_death(slot, status)
        return self._signals.signal_arrived()

    def _receive(self, slot: _WorkerSlot) -> None:
        assert slot.worker is not None
        messages = slot.worker.receive()
        for message in messages:
            if message["event"] == "ready":
                slot.is_ready, slot.failed_starts = True, 0
            elif message["id"] is None:  # failed imports, which the next request repeats, or a number of threads
                if self._replace_after(slot, failure_in(message)):
                    return
            elif slot.job is None:
                self._answers[message["id"]] = message
                slot.request = None
                self._replace_after(slot, failure_in(message))
            else:
                self._add_event(slot, trial_event(slot.job.trial, message))

    def _add_event(self, slot: _WorkerSlot, event: Event) -> None:
        self._events.append(event)
        if isinstance(event, LeasedElsewhere | Finished):
            slot.job = slot.folder = slot.request = None
        if isinstance(event, Finished):
            self._replace_after(slot, event.failure)

    def _replace_after(self, slot: _WorkerSlot, failure: Failure | None) -> bool:
        """Replace a worker that ran out of memory, as it may not release all of it, or that was asked to stop.

        The new worker gets the request that the old one has not answered. Return whether the worker was replaced.
        """
        if failure is None or self._is_stopping or failure.kind not in ("out-of-memory", "stopped"):
            return False
        self._kill_worker(slot)
        worker = self._started_worker(slot)
        if slot.request is not None:
            worker.send(slot.request)
        return True

    def _handle_death(self, slot: _WorkerSlot, status: ProcessExit) -> None:
        """Report a dead worker with its trial. If it died before it was ready, start another one instead."""
        was_ready, request, job = slot.is_ready, slot.request, slot.job
        log_end = log_tail(slot.log_in_use)
        self._remove_worker(slot)
        if not was_ready and not self._is_stopping:
            slot.failed_starts += 1
            if slot.failed_starts > MAX_FAILED_STARTS:
                raise NeftuneError(f"Workers cannot be started: the last one {status.description}.\n{log_end}")
            worker = self._started_worker(slot)
            if request is not None:
                worker.send(request)
            return
        slot.job = slot.folder = slot.request = None
        if request is not None and job is None:
            reason = f"A worker {status.description} during the request {request['request']!r}."
            failure = Failure("failed", f"{reason}\n{log_end}".rstrip())
            self._answers[request["id"]] = {"event": "failed", "failure": to_json(failure)}
        else:
            trial = job.trial if job else None
            self._events.append(WorkerDied(trial, status.description, log_end, status.out_of_memory))

    def _shut_down(self, slots: Sequence[_WorkerSlot]) -> None:
        """Ask workers to exit, and wait for all of them at the same time."""
        workers = [slot.worker for slot in slots if slot.worker]
        for slot in slots:
            if slot.worker and not slot.is_ready and slot.job is None:  # it would not end before its imports have
                slot.worker.kill()
        for worker in workers:
            worker.request_exit()
        seconds = EXIT_SECONDS_BUSY if any(slot.job for slot in slots) else EXIT_SECONDS_IDLE
        deadline = time.monotonic() + seconds
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))

    def _kill_worker(self, slot: _WorkerSlot) -> None:
        assert slot.worker is not None
        slot.worker.kill()
        self._remove_worker(slot)

    def _remove_worker(self, slot: _WorkerSlot) -> None:
        if slot.worker is not None:
            self._selector.unregister(slot.worker)
            slot.worker.close()
            slot.worker = None


def _prepare_request(trials: Sequence[TrialSpec]) -> WorkerMessage:
    return {"request": "prepare", "trials": [to_json(trial) for trial in trials]}
