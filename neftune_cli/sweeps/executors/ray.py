"""The executor `ray`: trials as tasks of a Ray cluster, with the resources of a trial.

Ray places the tasks. The retries are those of the sweep, because a retried trial must hold its lease: Ray's own retries
are off. A task keeps its worker process for the next task that Ray gives to the same process.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from neftune_cli.errors import Problem, UsageError
from neftune_cli.sweeps.executors.cluster import ClusterExecutor, ClusterTask
from neftune_cli.sweeps.executors.messages import WorkerMessage
from neftune_cli.sweeps.executors.worker_process import with_this_package
from neftune_cli.sweeps.inspection import Slots

CONNECT_SECONDS = 10.0
"""Time in which the head node of a cluster must answer."""


def make_ray_executor(
    address: str | None = None, gpus_per_trial: float | None = None, cpus_per_trial: float | None = None
) -> ClusterExecutor:
    """Return an executor whose tasks have these resources."""
    return ClusterExecutor(RayCluster(address, gpus_per_trial, cpus_per_trial))


class RayCluster:
    """Submit tasks to a Ray cluster.

    Args:
        address: address of the cluster; None for the one of this machine, or for a new one.
        gpus: GPUs of each task; None for 1 if the cluster has GPUs.
        cpus: cores of each task; None for 1.
    """

    poll_seconds = 0.1
    queues = False
    machine = None

    def __init__(self, address: str | None = None, gpus: float | None = None, cpus: float | None = None) -> None:
        self._address, self._gpus, self._cpus = address, gpus, 1.0 if cpus is None else cpus
        self._connected_here = False

    def slots(self) -> Slots:
        """Connect to the cluster, and return the number of tasks that fit on its nodes.

        Raises:
            UsageError: there is no cluster at the address, or no node has the resources of a task.
        """
        ray = _ray()
        if not ray.is_initialized():
            self._connect()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._gpus is None:
            self._gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
        fitting = sum(_fitting(node, {"CPU": self._cpus, "GPU": self._gpus}) for node in nodes)
        if not fitting:
            raise UsageError(_no_fitting_node(nodes, self._cpus, self._gpus))
        return Slots(fitting, max(1, int(self._cpus)))

    def limit(self, workers: int) -> None:
        """Do nothing: the executor submits no more tasks than run in parallel."""

    def submit(self, tasks: Sequence[ClusterTask]) -> Sequence["RayJob"]:
        """Start tasks."""
        remote = _ray().remote(_answer)
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus or 0, "max_retries": 0}
        return [RayJob(remote.options(name=one.name, **options).remote(one.request, one.threads)) for one in tasks]

    def close(self) -> None:
        """Leave the cluster, and end it if this command has started it."""
        if self._connected_here:
            _ray().shutdown()

    def _connect(self) -> None:
        path = with_this_package(os.environ).get("PYTHONPATH")
        try:
            _check_reachable(self._address)
            with _signals_kept():
                _ray().init(
                    address=self._address,
                    namespace="neftune",
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env={"env_vars": {"PYTHONPATH": path}} if path else None,
                )
        except (OSError, ValueError, RuntimeError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            what = f"There is no Ray cluster at {self._address or 'the default address'}: {first_line}."
            fix = "Start one with `ray start --head`, give the address of its head node, or leave out --address."
            raise UsageError(Problem(what, fix)) from error
        self._connected_here = True


def _ray() -> Any:
    """Return the library, which has incomplete types."""
    import ray

    return ray


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the handlers of signals, because Ray installs its own, which would end a sweep without checkpoints."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _check_reachable(address: str | None) -> None:
    """Try a connection to an address with a port, because Ray itself tries for minutes.

    Raises:
        OSError: nothing answers at the address.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


@dataclass
class RayJob:
    """A task, seen through the reference of its result."""

    reference: Any
    _answer: WorkerMessage | None = field(default=None, init=False)

    def result(self) -> WorkerMessage | None:
        """Return the answer, or None while the task waits or runs."""
        if self._answer is None and _ray().wait([self.reference], timeout=0)[0]:
            self._answer = self._get()
        return self._answer

    def cancel(self, *, at_once: bool) -> None:
        """Cancel the task. Unless `at_once`, its trial writes a checkpoint."""
        if self.result() is None:
            _ray().cancel(self.reference, force=at_once)

    def _get(self) -> WorkerMessage:
        from ray import exceptions

        try:
            answer: WorkerMessage = _ray().get(self.reference)
        except exceptions.OutOfMemoryError as error:
            return _death("was killed by Ray, because the memory of the node ran out", error, out_of_memory=True)
        except (exceptions.TaskCancelledError, exceptions.WorkerCrashedError, exceptions.NodeDiedError) as error:
            return _death("or its node was lost", error, machine_lost=True)
        except exceptions.RayError as error:
            return _death("failed in its Ray task", error)
        return answer


def _death(reason: str, error: Exception, **details: bool) -> WorkerMessage:
    return {"event": "died", "reason": reason, "log_end": str(error), **details}


def _fitting(node: Mapping[str, float], task: Mapping[str, float]) -> int:
    """Return how many tasks with these resources fit on a node."""
    return min((int(node.get(name, 0.0) / need + 1e-9) for name, need in task.items() if need), default=1)


def _no_fitting_node(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> Problem:
    sizes = sorted({f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes})
    what = f"No node has the resources of a trial: {cpus:g} cores and {gpus:g} GPUs. Nodes have {'; '.join(sizes)}."
    return Problem(what, "Lower --cpus-per-trial or --gpus-per-trial.")


_KEPT: list[Any] = []
"""The worker of this process of Ray, kept for the next task."""


def _answer(request: WorkerMessage, threads: int) -> WorkerMessage:
    """Answer a request on a node. `ray.cancel` raises SIGINT, after which the trial writes a checkpoint."""
    worker = _kept_worker(threads)
    answers: list[WorkerMessage] = []
    thread = threading.Thread(target=lambda: answers.append(worker.answer(request)), daemon=True)
    before = signal.signal(signal.SIGINT, lambda *_: worker.stop())
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    finally:
        signal.signal(signal.SIGINT, before)
    if worker.is_stopping:
        _KEPT.clear()
        worker.close()
    return answers[0]


def _kept_worker(threads: int) -> Any:
    from neftune_cli.sweeps.executors.node import NodeWorker, threads_of_node

    threads = threads_of_node(threads)
    if _KEPT and _KEPT[0].threads != threads:
        _KEPT.pop().close()
    if not _KEPT:
        _KEPT.append(NodeWorker(threads))
    return _KEPT[0]
