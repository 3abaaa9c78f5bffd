"""Executor with local worker processes, which run one trial after another and are replaced when they die."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType
from typing import Self

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import NeftuneError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, WorkerDied
from neftune_cli.sweeps.executors.protocol import Message, event_of, failure_in, packed, raise_problem, unpacked
from neftune_cli.sweeps.executors.worker_process import (
    KILLED,
    SignalWakeup,
    WorkerProcess,
    threads_within,
    with_this_package,
    worker_environment,
)
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import Inspection, Preparation
from neftune_cli.sweeps.plan import place_of
from neftune_cli.sweeps.resources import available_cores
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial_log import log_tail

LOOK_EVERY = 0.5
"""Interval in seconds between checks for dead workers whose pipe is still held by a process they started."""
PATIENCE_IDLE, PATIENCE_BUSY = 5.0, 25.0
"""Seconds that workers have to end when they are no longer needed, including the time to write a checkpoint."""
MOST_DEATHS = 2
"""Number of successive deaths before a worker was ready after which no further worker is started."""


@dataclass
class _Slot:
    """Slot for one worker process, which is replaced after its death, and its job."""

    number: int
    log: Path
    threads: int
    gpu: int | None = None
    worker: WorkerProcess | None = None
    is_ready: bool = False
    deaths: int = 0
    job: Job | None = None
    folder: SweepFolder | None = None
    request: Message | None = None
    """Last request without an answer."""


class LocalExecutor:
    """Executor with worker processes on this machine. The first one starts with the first request.

    Args:
        environment: what workers get, besides what their number decides; this process's own if None.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self._events: list[Event] = []
        self._answers: dict[int, Message] = {}
        self._places: list[_Slot] = []
        self._last_id = 0
        self._is_stopping = False

    def __enter__(self) -> Self:
        self._logs = Path(tempfile.mkdtemp(prefix="neftune-workers-"))
        self._places = [_Slot(0, self._logs / "worker-0.txt", available_cores())]
        self._selector = DefaultSelector()
        self._bell = SignalWakeup()
        self._selector.register(self._bell, EVENT_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self.kill()
            self._end(self._places)
        except BaseException:
            self.kill()
            raise
        finally:
            for place in self._places:
                self._clear(place)
            self._selector.close()
            self._bell.close()
            shutil.rmtree(self._logs, ignore_errors=True)

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Inspect device, model and data in the first worker."""
        (answer,) = self._ask(self._places[:1], {"do": "inspect", "spec": packed(spec)})
        return unpacked(Inspection, answer["found"])

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        """Load model and data in the first worker, which keeps them for its trials."""
        (answer,) = self._ask(self._places[:1], {"do": "prepare", "trials": [packed(trial) for trial in trials]})
        return unpacked(Preparation, answer["found"])

    def calibrate(self, trial: TrialSpec) -> list[Calibration]:
        """Calibrate in all workers at the same time, so that their mutual slowdown is included.

        Raises:
            UsageError: the data don't fit the model.
            NeftuneError: a worker can't be started, or has died.
        """
        self._ask(self._places, {"do": "prepare", "trials": [packed(trial)]})
        answers = self._ask(self._places, {"do": "calibrate", "trial": packed(trial)})
        return [unpacked(Calibration, answer["found"]) for answer in answers]

    def start(self, workers: int, threads: int, gpus: int) -> None:
        """Start the missing workers."""
        surplus = self._places[workers:]
        self._end(surplus)
        for place in surplus:
            self._clear(place)
        threads = threads_within(threads, self._environment)
        known = self._places[:workers]
        new = [_Slot(n, self._logs / f"worker-{n}.txt", threads) for n in range(len(known), workers)]
        self._places = [*known, *new]
        for place in self._places:
            if place.worker and place.threads != threads:
                place.worker.send({"do": "threads", "count": threads})
            place.threads = threads
            place.gpu = place.number % gpus if gpus > 1 else None
            self._living(place)

    def free(self) -> int:
        """Return the number of workers without a job."""
        return 0 if self._is_stopping else len(self._idle())

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Give a job to a worker without one. The worker may still be starting."""
        if not self.free():
            raise RuntimeError("No worker is free; ask free() before.")
        place = min(self._idle(), key=lambda place: not place.is_ready)
        place.job, place.folder = job, folder
        self._send(place, {"do": "trial", "job": packed(job), "folder": str(folder.path.absolute())})

    def wait(self, seconds: float) -> list[Event]:
        """Return the events: at once if there are any or after a signal, else after at most `seconds`."""
        deadline = time.monotonic() + seconds
        rang = self._look(0)
        while not self._events and not rang and (left := deadline - time.monotonic()) > 0:
            rang = self._look(min(left, LOOK_EVERY))
        events, self._events = self._events, []
        return events

    def interrupt(self) -> None:
        """Do nothing, because `wait` returns after every signal."""

    def stop(self) -> None:
        """Ask all running trials to write a checkpoint and stop."""
        self._is_stopping = True
        for worker in self._workers():
            worker.send({"do": "stop"})

    def kill(self) -> None:
        """Kill all workers. Their trials count as died."""
        self._is_stopping = True
        for worker in self._workers():
            worker.kill()

    def _idle(self) -> list[_Slot]:
        return [place for place in self._places if place.job is None]

    def _workers(self) -> list[WorkerProcess]:
        return [place.worker for place in self._places if place.worker]

    def _living(self, place: _Slot) -> WorkerProcess:
        """Return the worker of a slot, after starting it if there is none."""
        if place.worker is None:
            environment = worker_environment(place.threads, place.gpu, self._environment)
            place.worker, place.is_ready = WorkerProcess(place.log, with_this_package(environment)), False
            self._selector.register(place.worker, EVENT_READ, place)
        return place.worker

    def _send(self, place: _Slot, request: Message) -> int:
        self._last_id += 1
        place.request = {**request, "id": self._last_id}
        self._living(place).send(place.request)
        return self._last_id

    def _ask(self, places: Iterable[_Slot], request: Message) -> list[Message]:
        """Send a request to the workers of some slots, and wait for all answers."""
        asked = [self._send(place, request) for place in places]
        while not all(one in self._answers for one in asked):
            self._look(LOOK_EVERY)
        answers = [self._answers.pop(one) for one in asked]
        for answer in answers:
            raise_problem(answer)
        return answers

    def _look(self, seconds: float) -> bool:
        """Handle messages and deaths of workers within at most `seconds`. Return whether a signal arrived."""
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._listen(key.data)
        for place in self._places:
            worker = place.worker
            if worker and (how := worker.how_it_died()):
                self._listen(place)  # its last messages
                if place.worker is worker:  # otherwise it has been replaced already
                    self._bury(place, how)
        return self._bell.rang()

    def _listen(self, place: _Slot) -> None:
        assert place.worker is not None
        messages = place.worker.receive()
        for message in messages:
            if message["event"] == "ready":
                place.is_ready, place.deaths = True, 0
            elif place.job is None:
                self._answers[message["id"]] = message
                place.request = None
                if why := failure_in(message):
                    self._replace_if_spent(place, why)
            else:
                self._told(place, place.job, message)

    def _told(self, place: _Slot, job: Job, message: Message) -> None:
        event = event_of(job.trial, message)
        self._events.append(event)
        if isinstance(event, LeasedElsewhere | Finished):
            place.job = place.folder = place.request = None
        if isinstance(event, Finished) and event.failure:
            self._replace_if_spent(place, event.failure)

    def _replace_if_spent(self, place: _Slot, why: Failure) -> None:
        """Replace a worker that cannot release its memory, or that received a signal to end."""
        if self._is_stopping or why.kind not in ("out-of-memory", "stopped"):
            return
        assert place.worker is not None
        place.worker.kill()
        self._clear(place)
        self._living(place)

    def _bury(self, place: _Slot, how: str) -> None:
        """Clear the slot of a dead worker and report its trial. A worker that died before it was ready is replaced."""
        was_ready, request, job = place.is_ready, place.request, place.job
        log_end = log_tail(_log_of(place))
        self._clear(place)
        if not was_ready and not self._is_stopping:
            place.deaths += 1
            if place.deaths > MOST_DEATHS:
                raise NeftuneError(f"Workers cannot be started: the last one {how}.\n{log_end}")
            worker = self._living(place)
            if request is not None:
                worker.send(request)
            return
        place.job = place.folder = place.request = None
        if request is not None and job is None:
            what = f"A worker {how} when it was asked to {request['do']}."
            self._answers[request["id"]] = {"event": "died", "what": f"{what}\n{log_end}".rstrip()}
        else:
            self._events.append(WorkerDied(job.trial if job else None, how, log_end, lacked_memory=how == KILLED))

    def _end(self, places: Sequence[_Slot]) -> None:
        """End workers, all at the same time."""
        workers = [place.worker for place in places if place.worker]
        for worker in workers:
            worker.leave()
        patience = PATIENCE_BUSY if any(place.job for place in places) else PATIENCE_IDLE
        deadline = time.monotonic() + patience
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))

    def _clear(self, place: _Slot) -> None:
        if place.worker is not None:
            self._selector.unregister(place.worker)
            place.worker.close()
            place.worker = None


def _log_of(place: _Slot) -> Path:
    """Return the log that the worker of a slot has written to last."""
    if place.job and place.folder and place.is_ready:
        log = place_of(place.folder, place.job.trial).log_path
        if log.exists():
            return log
    return place.log
