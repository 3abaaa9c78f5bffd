"""A task of the executor `ray`: what runs on the node, and what its end means for the command."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.copies import ChangedFiles, FilePiece, batches, work_folder, write_copy
from neftune_cli.store.sweeps import MANIFEST_FILE
from neftune_cli.sweeps.executors.messages import WorkerMessage, failure_in, to_json
from neftune_cli.sweeps.executors.node import NodeWorker, threads_of_node
from neftune_cli.sweeps.failures import DISK_KINDS, Failure

UNSHARED = "unshared"
"""Event of a task whose node does not see the results folder. The trial has not been started."""
COPY_SECONDS = 0.5
"""Interval at which a task sends the changes of its files."""


def ray_library() -> Any:
    """Return the library, which has incomplete types."""
    import ray

    return ray


def answer_request(request: WorkerMessage, threads: int, directory: str) -> WorkerMessage:
    """Answer a request on a node. `ray.cancel` raises SIGINT, after which the trial writes a checkpoint."""
    if "probe" in request and not Path(request["probe"]).exists():
        return {"event": UNSHARED}
    with _Answering(request, threads, directory) as answering:
        while not answering.is_done(0.2):
            pass
    return answering.answer


def answer_with_copies(
    request: WorkerMessage,
    threads: int,
    directory: str,
    name: str,
    files: list[Any],
    stop_requested: Callable[[], bool],
) -> Iterator[list[FilePiece] | WorkerMessage]:
    """Run a trial in a temporary folder of this node. Yield the changes of its files, and its last event at the end.

    Args:
        request: the request, whose folder only has a name here.
        threads: compute threads.
        directory: working directory of the command.
        name: name of the trial's folder.
        files: references to batches of pieces, from which the trial resumes.
        stop_requested: asks the command whether the trial shall write a checkpoint and end.
    """
    yield []  # reports the start
    with work_folder() as work:
        sweep = SweepFolder(work / Path(request["folder"]).name)
        copy = TrialFolder(sweep.path / "trials" / name)
        write_copy(copy, (piece for reference in files for piece in ray_library().get(reference)))
        if manifest := request.get("manifest"):
            sweep.write_text(MANIFEST_FILE, manifest)
        changed = ChangedFiles(copy, work / "sending")
        with _Answering({**request, "folder": str(sweep.path)}, threads, directory) as answering:
            while not answering.is_done(COPY_SECONDS):
                if stop_requested():
                    answering.stop()
                yield from batches(changed.so_far())
        yield from batches(changed.at_the_end())
        yield _without_folder(answering.answer, work)


def task_result(get: Callable[[], WorkerMessage]) -> WorkerMessage:
    """Return the answer of a task, or the event of the death that ended it."""
    from ray import exceptions

    try:
        return get()
    except exceptions.OutOfMemoryError as error:
        return _death("was killed by Ray, because the memory of the node ran out", error, out_of_memory=True)
    except (exceptions.TaskCancelledError, exceptions.WorkerCrashedError, exceptions.NodeDiedError) as error:
        return _death("or its node was lost", error, machine_lost=True)
    except exceptions.RayError as error:
        return _death("failed in its Ray task", error)


def _death(reason: str, error: Exception, **details: bool) -> WorkerMessage:
    return {"event": "died", "reason": reason, "log_end": str(error), **details}


_KEPT: list[NodeWorker] = []
"""The worker of this process of Ray, kept for the next task."""


class _Answering:
    """Context in which the kept worker answers a request in a thread, so that this one is free for signals."""

    def __init__(self, request: WorkerMessage, threads: int, directory: str) -> None:
        self._worker = _kept_worker(threads, directory)
        self._answers: list[WorkerMessage] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(self._worker.answer(request)), daemon=True)

    def __enter__(self) -> "_Answering":
        self._before = signal.signal(signal.SIGINT, lambda *_: self.stop())
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread.is_alive():  # after an exception
            self.stop()
            self._thread.join()
        signal.signal(signal.SIGINT, self._before)
        if self._worker.is_spent:
            _KEPT.clear()
            self._worker.close()

    def is_done(self, seconds: float) -> bool:
        """Return whether there is an answer, after at most `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask the trial to write a checkpoint and end."""
        self._worker.stop()

    @property
    def answer(self) -> WorkerMessage:
        """Return the answer."""
        return self._answers[0]


def _kept_worker(threads: int, directory: str) -> NodeWorker:
    threads = threads_of_node(threads)
    if _KEPT and _KEPT[0].threads != threads:
        _KEPT.pop().close()
    if not _KEPT:
        _KEPT.append(NodeWorker(threads, Path(directory)))
    return _KEPT[0]


def _without_folder(answer: WorkerMessage, work: Path) -> WorkerMessage:
    """Replace the reason of a failed disk, because the temporary folder is not the results folder."""
    found = failure_in(answer)
    if found is None or found.kind not in DISK_KINDS:
        return answer
    what = "is full" if found.kind == "disk-full" else "is not writable"
    fix = "Free disk space there, or start Ray on that node with TMPDIR on another disk."
    reason = f"The disk of {work.parent} on {socket.gethostname()} {what}. {fix}"
    return {**answer, "failure": to_json(Failure(found.kind, reason))}
