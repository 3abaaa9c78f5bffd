"""Executors on clusters: the executor protocol for every scheduler that can run a task on a node.

A scheduler has a module of its own, which implements `Cluster`. A task is a request of the worker
protocol as JSON. The results of a trial are in the sweep's folder, and the leases there decide which process may run a
trial, whatever a scheduler does. The nodes share the folder, unless the scheduler copies the files of trials.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from neftune_cli.config.spec import BUNDLED_DATASET, BUNDLED_MODEL, InputSpec, SweepSpec, TrialSpec
from neftune_cli.models.sources import SMOLLM2
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Job, LeasedElsewhere, Started
from neftune_cli.sweeps.executors.messages import WorkerMessage, answered_value, to_json, trial_event
from neftune_cli.sweeps.failures import STOPPED
from neftune_cli.sweeps.inspection import ClusterSlots, Inspection, LoadedSizes
from neftune_cli.sweeps.measurement_cache import remember_machine, remembered_inspection
from neftune_cli.sweeps.plan import trial_folder
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial import Trial

T = TypeVar("T")

STOP_SECONDS = 60.0
"""Time that trials have to write a checkpoint after a stop."""
_START_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class ClusterTask:
    """A request for a worker on a node."""

    name: str
    """Name for the scheduler, for example "alpha=5, seed 0" or "inspect"."""
    request: WorkerMessage
    threads: int
    trial: Trial | None = None
    folder: SweepFolder | None = None


class SubmittedTask(Protocol):
    """A task that a scheduler has received."""

    def result(self) -> WorkerMessage | None:
        """Return the answer, or None while the task waits or runs. A lost task is answered by the event "died".

        Its `reason` completes the sentence "The worker ...". Optional: `machine_lost`, `out_of_memory`,
        `log_end` (last lines of the log) and `log` (path of the log).

        The call returns at once, and may be repeated any number of times.
        """


SomeTask = TypeVar("SomeTask", bound=SubmittedTask)


class Cluster(Protocol[SomeTask]):
    """A scheduler with its kind of submitted tasks."""

    @property
    def poll_seconds(self) -> float:
        """Return the interval between two checks of the running tasks."""

    @property
    def node_key(self) -> Mapping[str, Any] | None:
        """Return what identifies the kind of node, so that facts about it are remembered; None if they are not."""

    @property
    def queues(self) -> bool:
        """Return whether the scheduler has a queue for all trials, and limits those in parallel itself."""

    def slots(self) -> ClusterSlots:
        """Connect to the cluster. Return the number of tasks in parallel, and the threads of each.

        Raises:
            UsageError: there is no cluster, or no node has the resources of a task.
        """

    def limit(self, workers: int) -> None:
        """Set the number of tasks in parallel, if the scheduler limits it."""

    def submit(self, tasks: Sequence[ClusterTask]) -> Sequence[SomeTask]:
        """Submit tasks, and return them as submitted, in the same order. A task that runs already may be adopted.

        Raises:
            UsageError: the scheduler refuses the tasks.
        """

    def cancel(self, tasks: Sequence[SomeTask], *, at_once: bool) -> None:
        """End tasks: after their trials have written checkpoints, or at once. Tasks that have ended stay as they are.

        If one task cannot be cancelled, the others still are.
        """

    def close(self) -> None:
        """End the connection."""


@dataclass
class _Running(Generic[SomeTask]):
    """The task of a trial that was submitted and has not ended."""

    task: ClusterTask
    submitted: SomeTask
    attempts_before: int
    started: bool = False


class ClusterExecutor(Generic[SomeTask]):
    """Run trials as tasks of a cluster.

    Args:
        cluster: the scheduler.
        detached: whether the tasks go on after the end of this executor, and all trials can be submitted at once.
    """

    def __init__(self, cluster: Cluster[SomeTask], *, detached: bool = False) -> None:
        self._cluster, self._detached = cluster, detached
        self._workers, self._threads = 1, 1
        self._queued: list[ClusterTask] = []
        self._running: list[_Running[SomeTask]] = []
        self._events: list[Event] = []
        self._stop_deadline: float | None = None
        """Time at which stopped trials are given up; None before `stop`."""
        self._woken = threading.Event()
        self._starts_checked = 0.0

    def __enter__(self) -> Self:
        try:
            self._slots = self._cluster.slots()
        except BaseException:
            self._cluster.close()
            raise
        self._threads = self._slots.threads
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not (self._detached and kind is None):
                self._cancel_all(at_once=kind is not None and issubclass(kind, KeyboardInterrupt))
        finally:
            self._cluster.close()

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Inspect device, model and data on a node, with the resources of a trial."""
        node = self._cluster.node_key
        found = remembered_inspection(spec, node) if node else None
        if found is None:
            (found,) = self._ask(
                "inspect", {"request": "inspect", "spec": to_json(spec), "inputs": _local_inputs(spec)}, Inspection
            )
            if node:
                remember_machine(found, node)
        return replace(found, cluster_slots=self._slots)

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        """Load model and data on a node."""
        values = [to_json(trial) for trial in trials]
        request = {
            "request": "prepare",
            "trials": values,
            "inputs": [one for trial in trials[:1] for one in _local_inputs(trial)],
        }
        (sizes,) = self._ask("prepare", request, LoadedSizes)
        return sizes

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        """Measure the cost of a recipe in as many tasks at once as trials run in parallel."""
        inputs = _local_inputs(trial)
        request = {"request": "calibrate", "trial": to_json(trial), "seconds": seconds, "inputs": inputs}
        return self._ask("calibrate", request, Calibration, self._workers)

    def start(self, workers: int, threads: int, gpus: int) -> None:  # noqa: ARG002
        """Set the number of trials in parallel, and the threads of each. The scheduler gives out the GPUs."""
        self._workers, self._threads = workers, threads
        self._cluster.limit(workers)

    def capacity(self) -> int:
        """Return the number of trials that can be submitted now: any number if the scheduler has a queue."""
        if self._stop_deadline is not None:
            return 0
        if self._cluster.queues or self._detached:
            return _MANY
        return max(0, self._workers - len(self._queued) - len(self._running))

    def submit(self, job: Job, folder: SweepFolder) -> None:
        """Keep a trial for the next call of `wait`, which submits all kept trials together."""
        if not self.capacity():
            raise RuntimeError("No worker is free. Call capacity() first.")
        if trial_folder(folder, job.trial).is_leased() and not self._detached:
            self._events.append(LeasedElsewhere(job.trial))
            return
        request = {
            "request": "trial",
            "job": to_json(job),
            "folder": str(folder.path.absolute()),
            "inputs": _local_inputs(job.trial.spec),
            "patience": 1.5 * job.settings.lease_seconds if self._cluster.queues else 0.0,
        }
        self._queued.append(ClusterTask(job.trial.label, request, self._threads, job.trial, folder))

    def wait(self, seconds: float) -> list[Event]:
        """Submit the kept trials, and return the events since the last call, after at most `seconds`."""
        self._submit_queued()
        deadline = time.monotonic() + seconds
        self._poll()
        while not self._events and (left := deadline - time.monotonic()) > 0 and not self._woken.is_set():
            self._woken.wait(min(left, self._cluster.poll_seconds))
            self._poll()
        self._woken.clear()
        events, self._events = self._events, []
        return events

    def interrupt(self) -> None:
        """Make `wait` return soon."""
        self._woken.set()

    def stop(self) -> None:
        """Ask all running trials to write a checkpoint and end. Trials that wait for a submission end at once."""
        self._stop_deadline = time.monotonic() + STOP_SECONDS
        tasks, self._queued = self._queued, []
        self._events += [trial_event(task.trial, _STOPPED) for task in tasks if task.trial]
        self._cancel_all(at_once=False)

    def _cancel_all(self, *, at_once: bool) -> None:
        self._cluster.cancel([one.submitted for one in self._running], at_once=at_once)

    def _submit_queued(self) -> None:
        tasks, self._queued = self._queued, []
        if not tasks:
            return
        submitted = self._cluster.submit(tasks)
        self._running += [_Running(task, one, _attempts(task)) for task, one in zip(tasks, submitted, strict=True)]

    def _poll(self) -> None:
        """Turn new starts and results of trials into events."""
        is_due = time.monotonic() - self._starts_checked > _START_POLL_SECONDS
        self._starts_checked = time.monotonic() if is_due else self._starts_checked
        for one in list(self._running):
            if (message := one.submitted.result()) is not None:
                self._finish(one, message)
            elif self._stop_deadline is not None and self._stop_deadline < time.monotonic():
                self._finish(one, _STOPPED)
            elif is_due and not one.started and _attempts(one.task) > one.attempts_before:
                self._start(one)

    def _start(self, one: _Running[SomeTask]) -> None:
        assert one.task.trial is not None
        one.started = True
        self._events.append(Started(one.task.trial))

    def _finish(self, one: _Running[SomeTask], message: WorkerMessage) -> None:
        assert one.task.trial is not None
        self._running.remove(one)
        if message["event"] == "died" and self._stop_deadline is not None:
            message = _STOPPED
        if message.get("started") and not one.started:
            self._start(one)
        self._events.append(trial_event(one.task.trial, message))

    def _ask(self, name: str, request: WorkerMessage, kind: type[T], count: int = 1) -> list[T]:
        """Submit a request as some tasks, and return the values of all answers."""
        submitted = self._cluster.submit([ClusterTask(name, request, self._threads)] * count)
        try:
            answers = self._answers(submitted)
        except BaseException:
            self._cluster.cancel(submitted, at_once=True)
            raise
        return [answered_value(kind, answer) for answer in answers]

    def _answers(self, tasks: Sequence[SomeTask]) -> list[WorkerMessage]:
        while True:
            found = [answer for one in tasks if (answer := one.result()) is not None]
            if len(found) == len(tasks):
                return found
            time.sleep(self._cluster.poll_seconds)


_MANY = 1_000_000
_STOPPED: WorkerMessage = {
    "event": "finished",
    "failure": to_json(STOPPED),
    "seconds": 0.0,
}


def _local_inputs(spec: InputSpec) -> list[str]:
    """Return the absolute paths of model and data, as far as they are files or folders that this machine has."""
    data = [name.strip() for names in (spec.dataset, spec.eval_dataset or "") for name in (names, *names.split(","))]
    names = [*data, *([] if spec.model in (BUNDLED_MODEL, SMOLLM2) else [spec.model])]
    return sorted({path for name in names if name and name != BUNDLED_DATASET and (path := _existing_path(name))})


def _existing_path(name: str) -> str | None:
    with suppress(OSError, RuntimeError, ValueError):  # a name too long for a path, or an unknown user
        path = Path(name).expanduser().absolute()
        return str(path) if path.exists() else None
    return None


def _attempts(task: ClusterTask) -> int:
    """Return how often a trial has started."""
    assert task.folder is not None
    assert task.trial is not None
    status = trial_folder(task.folder, task.trial).status()
    return status.attempts if status else 0
