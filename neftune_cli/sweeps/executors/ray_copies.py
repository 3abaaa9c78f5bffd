"""Trials of the executor `ray` on nodes that do not see the results folder.

The command holds the lease of such a trial. Its task gets the files from which the trial resumes through Ray's object
store, works in a temporary folder, and sends the changes back as a stream. A thread of the command writes them into the
results folder. If the node dies, the stream ends, the lease is released, and the trial is retried elsewhere.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from neftune_cli.errors import LeaseLost
from neftune_cli.store import LeasedTrial
from neftune_cli.store.copies import FilePiece, batches, files_to_resume, receive
from neftune_cli.sweeps.executors import Finished, LeasedElsewhere
from neftune_cli.sweeps.executors.cluster import ClusterTask
from neftune_cli.sweeps.executors.messages import WorkerMessage, message_of
from neftune_cli.sweeps.executors.ray_task import answer_with_copies, ray_library, task_result
from neftune_cli.sweeps.failures import failure_of
from neftune_cli.sweeps.plan import trial_folder

QUEUED_BATCHES = 4
"""Number of batches that a task may be ahead of the command."""


class _StopRequests:
    """Actor that knows the trials which were asked to stop. `ray.cancel` would end the stream of their files."""

    def __init__(self) -> None:
        self._trials: set[str] = set()

    def request(self, trial: str) -> None:
        self._trials.add(trial)

    def requested(self, trial: str) -> bool:
        return trial in self._trials


def start_stop_requests() -> Any:
    """Start the actor of stop requests on the node of this command."""
    ray = ray_library()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_StopRequests).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


def _is_requested(stops: Any, trial: str) -> bool:
    with suppress(ray_library().exceptions.RayActorError):  # its node was lost, and Ray restarts it elsewhere
        answer: bool = ray_library().get(stops.requested.remote(trial))
        return answer
    return False


class CopiedTrial:
    """A submitted trial whose files are copied to its node and back.

    Args:
        task: the request for the node.
        options: options of the Ray task: resources and name.
        stops: the actor of stop requests.
    """

    def __init__(self, task: ClusterTask, options: dict[str, Any], stops: Any) -> None:
        assert task.trial is not None
        assert task.folder is not None
        self._task, self._options, self._stops = task, options, stops
        self._sweep, self._trial = task.folder, task.trial
        self._key = f"{self._trial.id} {id(self)}"
        self._answer: WorkerMessage | None = None
        self._stream: Any = None
        self._has_started = self._is_cancelled = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def result(self) -> WorkerMessage | None:
        """Return the last event of the trial, or None while it waits or runs."""
        return self._answer

    def cancel(self, *, at_once: bool) -> None:
        """End the task. Unless `at_once`, its trial writes a checkpoint, which still arrives."""
        with self._lock:
            self._is_cancelled = True
            if self._answer is not None or self._stream is None:
                return
            if not at_once:
                self._stops.request.remote(self._key)
            if at_once or not self._has_started:  # Ray may lose this request while the task starts
                ray_library().cancel(self._stream, force=at_once)

    def join(self, seconds: float) -> None:
        """Wait until the lease is released."""
        self._thread.join(seconds)

    def _serve(self) -> None:
        try:
            self._answer = task_result(self._run)
        except Exception as error:  # such as a full disk of the results folder
            found = Finished(self._trial, None, failure_of(error, self._sweep.path), 0.0)
            self.cancel(at_once=True)
            self._answer = message_of(found)

    def _run(self) -> WorkerMessage:
        lease_seconds = self._task.request["job"]["settings"]["lease_seconds"]
        leased = trial_folder(self._sweep, self._trial).acquire_lease(lease_seconds=lease_seconds)
        if leased is None:
            return message_of(LeasedElsewhere(self._trial))
        with leased:
            if record := leased.folder.record():
                return message_of(Finished(self._trial, record, None, 0.0))
            leased.remove_earlier_results()
            return self._receive(leased, self._submit(leased))

    def _submit(self, leased: LeasedTrial) -> Iterator[list[FilePiece] | WorkerMessage]:
        """Start the task, and yield what it sends."""
        ray = ray_library()
        folder, request = leased.folder, {**self._task.request, "manifest": self._sweep.manifest_text()}
        files = [ray.put(batch) for batch in batches(files_to_resume(folder))]
        stream = {"num_returns": "streaming", "_generator_backpressure_num_objects": QUEUED_BATCHES}
        remote = ray.remote(answer_with_copies).options(**self._options, **stream)
        with self._lock:
            if self._is_cancelled:
                raise ray.exceptions.TaskCancelledError
            stop_requested = partial(_is_requested, self._stops, self._key)
            arguments = (str(Path.cwd()), folder.path.name, files, stop_requested)
            self._stream = remote.remote(request, self._task.threads, *arguments)
        for reference in self._stream:
            message = ray.get(reference)
            self._has_started = True
            yield message

    def _receive(self, leased: LeasedTrial, messages: Iterator[list[FilePiece] | WorkerMessage]) -> WorkerMessage:
        """Write what the task sends, and return its last event."""
        answer: list[WorkerMessage] = []
        receive(leased, _pieces(messages, answer))
        if not answer:
            raise LeaseLost(f"The task of {self._trial.label} ended without an answer.")
        return answer[0]


def _pieces(messages: Iterator[list[FilePiece] | WorkerMessage], answer: list[WorkerMessage]) -> Iterator[FilePiece]:
    """Yield the pieces in messages, and keep the message that is an event."""
    for message in messages:
        if isinstance(message, list):
            yield from message
        else:
            answer.append(message)
