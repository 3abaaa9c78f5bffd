"""The executor `ray`: trials as tasks of a Ray cluster, with the resources of a trial.

Ray places the tasks. The retries are those of the sweep, because a retried trial must hold its lease: Ray's own retries
are off. A task keeps its worker process for the next task that Ray gives to the same process.

A trial writes into the results folder if its node sees it. Otherwise its files are copied (`ray_copies`). The first
task on a node that does not see the folder answers so, and from then on the files of all trials are copied.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from neftune_cli.config.process import with_this_package
from neftune_cli.errors import Problem, UsageError, first_line
from neftune_cli.store import SweepFolder
from neftune_cli.store.copies import shared_disk_probe
from neftune_cli.sweeps.executors.cluster import ClusterExecutor, ClusterTask
from neftune_cli.sweeps.executors.messages import WorkerMessage
from neftune_cli.sweeps.executors.ray_copies import CopiedTrial, start_stop_requests
from neftune_cli.sweeps.executors.ray_task import UNSHARED, answer_request, ray_library, task_result
from neftune_cli.sweeps.inspection import ClusterSlots

CONNECT_SECONDS = 10.0
"""Seconds in which the head node of a cluster must answer."""
REPEAT_SECONDS = 2.0
"""Seconds after which a request to stop is repeated. Ray loses it if the task starts at the same moment."""
CLOSE_SECONDS = 5.0
"""Seconds that `close` waits until a trial with copied files has released its lease."""


def make_ray_executor(
    address: str | None = None, gpus_per_trial: float | None = None, cpus_per_trial: float | None = None
) -> "ClusterExecutor[RayJob | CopiedTrial]":
    """Return an executor whose tasks have these resources."""
    return ClusterExecutor(RayCluster(address, gpus_per_trial, cpus_per_trial))


class RayCluster:
    """Submit tasks to a Ray cluster.

    Args:
        address: address of the cluster; None for the one of this machine, or for a new one.
        gpus: GPUs of each task; None for 1 if the cluster has GPUs.
        cpus: cores of each task; None for 1.
        shares_disk: whether to expect that the nodes see the results folder. A node that does not is detected.
    """

    poll_seconds = 0.1
    queues = False
    node_key = None

    def __init__(
        self,
        address: str | None = None,
        gpus: float | None = None,
        cpus: float | None = None,
        *,
        shares_disk: bool = True,
    ) -> None:
        self._address, self._gpus, self._cpus = address, gpus, 1.0 if cpus is None else cpus
        self._connected_here, self._shares_disk = False, shares_disk
        self._probes, self._probe_in = ExitStack(), dict[Path, Path]()
        self._copies: list[CopiedTrial] = []
        self._stops: Any = None

    def slots(self) -> ClusterSlots:
        """Connect to the cluster, and return the number of tasks that fit on its nodes.

        Raises:
            UsageError: there is no cluster at the address, or no node has the resources of a task.
        """
        ray = ray_library()
        if not ray.is_initialized():
            self._connect()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._gpus is None:
            self._gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
        fitting = sum(_fitting(node, {"CPU": self._cpus, "GPU": self._gpus}) for node in nodes)
        if not fitting:
            raise UsageError(_no_fitting_node(nodes, self._cpus, self._gpus))
        return ClusterSlots(fitting, max(1, int(self._cpus)))

    def limit(self, workers: int) -> None:
        """Do nothing: the executor submits no more tasks than run in parallel."""

    def submit(self, tasks: Sequence[ClusterTask]) -> Sequence["RayJob | CopiedTrial"]:
        """Start tasks."""
        return [self._copied(one) if one.folder and not self._shares_disk else self._started(one) for one in tasks]

    def cancel(self, tasks: Sequence["RayJob | CopiedTrial"], *, at_once: bool) -> None:
        """Cancel tasks. If some cannot be cancelled, one of their errors is raised at the end."""
        with ExitStack() as stack:
            for one in tasks:
                stack.callback(one.cancel, at_once=at_once)

    def close(self) -> None:
        """Leave the cluster, and end it if this command has started it."""
        self._probes.close()
        if self._connected_here:
            ray_library().shutdown()
        for one in self._copies:
            one.join(CLOSE_SECONDS)

    def _started(self, task: ClusterTask) -> "RayJob":
        is_client = (self._address or "").startswith("ray://")  # a client of Ray receives no streams
        probed = {"probe": self._disk_probe(task.folder)} if task.folder and not is_client else {}
        request = {**task.request, **probed}
        remote = ray_library().remote(answer_request).options(**self._options(task))
        return RayJob(remote.remote(request, task.threads, str(Path.cwd())), lambda: self._copied(task))

    def _copied(self, task: ClusterTask) -> CopiedTrial:
        self._shares_disk = False
        self._stops = self._stops or start_stop_requests()
        self._copies.append(CopiedTrial(task, self._options(task), self._stops))
        return self._copies[-1]

    def _options(self, task: ClusterTask) -> dict[str, Any]:
        return {"name": task.name, "num_cpus": self._cpus, "num_gpus": self._gpus or 0, "max_retries": 0}

    def _disk_probe(self, folder: SweepFolder) -> str:
        """Return the path of a file in a results folder, which a task looks for."""
        if folder.path not in self._probe_in:
            self._probe_in[folder.path] = self._probes.enter_context(shared_disk_probe(folder.path.absolute()))
        return str(self._probe_in[folder.path])

    def _connect(self) -> None:
        path = with_this_package(os.environ).get("PYTHONPATH")
        try:
            _check_reachable(self._address)
            with _signals_kept():
                ray_library().init(
                    address=self._address,
                    namespace="neftune",
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env={"env_vars": {"PYTHONPATH": path}} if path else None,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(_connection_problem(self._address, error)) from error
        self._connected_here = True


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


def _connection_problem(address: str | None, error: Exception) -> Problem:
    where = address or "the default address"
    return Problem(
        f"There is no Ray cluster at {where}, or it refuses the connection: {first_line(error)}.",
        "Start one with `ray start --head`, give the address of its head node, or leave out --address. If the cluster "
        "has token authentication, set RAY_AUTH_MODE=token here, with its token in ~/.ray/auth_token.",
    )


def _check_reachable(address: str | None) -> None:
    """Try a connection to an address with a port, because Ray itself tries for minutes.

    Raises:
        OSError: nothing answers at the address.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


class RayJob:
    """A task, seen through the reference of its result.

    Args:
        reference: reference of the answer.
        copied: starts the trial with copies of its files, if its node does not see the results folder.
    """

    def __init__(self, reference: Any, copied: Callable[[], CopiedTrial]) -> None:
        self._reference, self._copied = reference, copied
        self._answer: WorkerMessage | None = None
        self._copy: CopiedTrial | None = None
        self._asked_at: float | None = None
        """Time of the last request to stop; None if there is none."""

    def result(self) -> WorkerMessage | None:
        """Return the answer, or None while the task waits or runs."""
        answer = self._result()
        if answer is None and self._asked_at is not None and time.monotonic() - self._asked_at > REPEAT_SECONDS:
            self.cancel(at_once=False)
        return answer

    def _result(self) -> WorkerMessage | None:
        if self._copy:
            return self._copy.result()
        if self._answer is None and ray_library().wait([self._reference], timeout=0)[0]:
            self._answer = task_result(lambda: ray_library().get(self._reference))
            if self._answer["event"] == UNSHARED:
                self._answer, self._copy = None, self._copied()
        return self._answer

    def cancel(self, *, at_once: bool) -> None:
        """Cancel the task. Unless `at_once`, its trial writes a checkpoint, and `result` repeats the request."""
        if self._result() is not None:
            return
        self._asked_at = None if at_once else time.monotonic()
        if self._copy:
            self._copy.cancel(at_once=at_once)
        else:
            ray_library().cancel(self._reference, force=at_once)


def _fitting(node: Mapping[str, float], task: Mapping[str, float]) -> int:
    """Return how many tasks with these resources fit on a node."""
    return min((int(node.get(name, 0.0) / need + 1e-9) for name, need in task.items() if need), default=1)


def _no_fitting_node(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> Problem:
    sizes = sorted({f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes})
    what = f"No node has the resources of a trial: {cpus:g} cores and {gpus:g} GPUs. Nodes have {'; '.join(sizes)}."
    return Problem(what, "Lower --cpus-per-trial or --gpus-per-trial.")
