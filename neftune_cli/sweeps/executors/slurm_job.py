"""A job of the executor `slurm` on its node: answer one request, and react to the signals of SLURM.

- SIGUSR2: the time limit is near, or the job is preempted. The trial writes a checkpoint; submitit requeues the job.
- SIGTERM with the mark of a cancelled job: the sweep was interrupted. The trial writes a checkpoint, and the job ends.
- SIGTERM without it: the job is preempted. The trial writes a checkpoint, and the job waits until SLURM requeues it.
"""

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from neftune_cli.sweeps.executors.messages import WorkerMessage
from neftune_cli.sweeps.executors.node import NodeWorker, threads_of_node

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

CHECKPOINT_SECONDS = 60.0
"""Time for the running trial to write its checkpoint."""
PREEMPTION_SECONDS = 600.0
"""Time in which a preempted job expects its end."""


class SlurmRequest:
    """A request as the function of a job. submitit calls `checkpoint` before it requeues the job.

    Args:
        request: request of the worker protocol.
        threads: compute threads of the worker.
        folder: folder of the job's files.
    """

    def __init__(self, request: WorkerMessage, threads: int, folder: str) -> None:
        self._request, self._threads, self._folder = request, threads, folder
        self._answer: WorkerMessage | None = None

    def __call__(self) -> WorkerMessage:
        """Return the answer. The worker is served in a thread, so that this one is free for signals."""
        self._terminated = False
        self._worker = NodeWorker(threads_of_node(self._threads))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(0.2)
        self._worker.close()
        if self._terminated and not self._is_cancelled():
            time.sleep(PREEMPTION_SECONDS)
        assert self._answer is not None, "The worker's thread has failed. Its error is in this log."
        return self._answer

    def checkpoint(self) -> "DelayedSubmission":
        """Let the trial write a checkpoint, and return what the requeued job runs."""
        from submitit.helpers import DelayedSubmission

        self._worker.stop()
        self._thread.join(CHECKPOINT_SECONDS)
        return DelayedSubmission(SlurmRequest(self._request, self._threads, self._folder))

    def _serve(self) -> None:
        self._answer = self._worker.answer(self._request)

    def _terminate(self) -> None:
        self._terminated = True
        self._worker.stop()

    def _is_cancelled(self) -> bool:
        from submitit import JobEnvironment

        return cancelled_mark(Path(self._folder), JobEnvironment().job_id).exists()

    def __getstate__(self) -> dict[str, object]:
        return {"_request": self._request, "_threads": self._threads, "_folder": self._folder, "_answer": None}


def cancelled_mark(folder: Path, job_id: str) -> Path:
    """Return the path of the file that marks a job as cancelled by a sweep."""
    return folder / f"{job_id}_cancelled"
