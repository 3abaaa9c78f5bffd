"""A node of a cluster: answer requests and run trials in a worker process there, as the local executor does here.

A scheduler starts `NodeWorker` on the node. The worker process is its child, and notices if only this process is
killed: the running trial then writes a checkpoint and releases its lease. Ray kills the child too.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import NeftuneError, Problem, UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.executors.messages import WorkerMessage, from_json, message_of, to_json
from neftune_cli.sweeps.failures import STOPPED, Failure
from neftune_cli.training.trial import Trial

_WAIT_SECONDS = 0.5
_LEASE_POLL_SECONDS = 5.0


class NodeWorker:
    """One worker process, which answers one request at a time. It is started by the first request.

    Args:
        threads: compute threads of the worker.
        directory: its working directory, if there is one with this path here.
    """

    def __init__(self, threads: int, directory: Path | None = None) -> None:
        self.threads = threads
        self._executor = LocalExecutor(directory=directory if directory and directory.is_dir() else None).__enter__()
        self._executor.start(1, threads, _visible_gpus(os.environ))
        self.is_stopping = self._cannot_start = False

    @property
    def is_spent(self) -> bool:
        """Return whether it runs no further trial: it was asked to stop, or its process cannot be started."""
        return self.is_stopping or self._cannot_start

    def answer(self, request: WorkerMessage) -> WorkerMessage:
        """Return the answer to a request, or the last event of a trial. It never raises an error of the request."""
        if missing := [path for path in request.get("inputs", ()) if not Path(path).exists()]:
            return _without_inputs(request, missing)
        match request["request"]:
            case "inspect":
                return _answered(lambda: self._executor.inspect(from_json(SweepSpec, request["spec"])))
            case "prepare":
                trials = [from_json(TrialSpec, trial) for trial in request["trials"]]
                return _answered(lambda: self._executor.prepare(trials))
            case "calibrate":
                trial = from_json(TrialSpec, request["trial"])
                return _answered(lambda: self._executor.calibrate(trial, request["seconds"])[0])
            case "trial":
                return self._trial(
                    from_json(Job, request["job"]), Path(request["folder"]), request.get("patience", 0.0)
                )
            case unknown:
                raise ValueError(f"Unknown request {unknown!r}.")

    def stop(self) -> None:
        """Ask the running trial to write a checkpoint and end. A signal handler may call this."""
        self.is_stopping = True
        self._executor.stop()

    def close(self) -> None:
        """End the worker process."""
        self._executor.__exit__(None, None, None)

    def _trial(self, job: Job, folder: Path, patience: float) -> WorkerMessage:
        try:
            return self._run(job, folder, patience)
        except NeftuneError as error:
            self._cannot_start = True
            return message_of(WorkerDied(job.trial, "cannot be started", str(error)))

    def _run(self, job: Job, folder: Path, patience: float) -> WorkerMessage:
        """Run a trial. For at most `patience` seconds, wait for the lease of a process that may have died."""
        if not folder.is_dir():
            reason = f"{socket.gethostname()} cannot see the results folder {folder}. Use --output with a shared disk."
            return message_of(Finished(job.trial, None, Failure("folder-gone", reason), 0.0))
        deadline, sweep = time.monotonic() + patience, SweepFolder(folder)
        while True:
            events = self._attempt(job, sweep)
            if not isinstance(events[-1], LeasedElsewhere) or time.monotonic() > deadline or self.is_stopping:
                return {**message_of(events[-1]), "started": isinstance(events[0], Started)}
            time.sleep(_LEASE_POLL_SECONDS)

    def _attempt(self, job: Job, folder: SweepFolder) -> list[Event]:
        try:
            self._executor.submit(job, folder)
        except RuntimeError:
            if self.is_stopping:  # after a stop before `submit`, the executor offers no worker
                return [_stopped(job.trial)]
            raise
        events: list[Event] = []
        while not (events and _ends(events[-1])):
            if self.is_stopping:  # the worker may have started after `stop`
                self._executor.stop()
            events += self._executor.wait(_WAIT_SECONDS)
        return events


def threads_of_node(requested: int) -> int:
    """Return the number of threads: as requested, and at most as many as the node has cores."""
    return max(1, min(requested, os.cpu_count() or 1))


def _visible_gpus(environment: Mapping[str, str]) -> int:
    """Return the number of GPUs that the scheduler has given to this process. The worker uses the first one only."""
    return len([name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()])


def _ends(event: Event) -> bool:
    return isinstance(event, LeasedElsewhere | Finished | WorkerDied)


def _stopped(trial: Trial) -> Finished:
    return Finished(trial, None, STOPPED, 0.0)


def _without_inputs(request: WorkerMessage, missing: Sequence[str]) -> WorkerMessage:
    what = f"{socket.gethostname()} cannot read {' and '.join(missing)}."
    fix = "Put model and data under the same path on every node, or on a disk that all nodes share."
    if request["request"] != "trial":
        return {"event": "refused", "problems": [to_json(Problem(what, fix))]}
    return message_of(
        Finished(from_json(Job, request["job"]).trial, None, Failure("folder-gone", f"{what} {fix}"), 0.0)
    )


def _answered(ask: Callable[[], object]) -> WorkerMessage:
    try:
        return {"event": "answer", "value": to_json(ask())}
    except UsageError as error:
        return {"event": "refused", "problems": [to_json(problem) for problem in error.problems]}
    except NeftuneError as error:
        return {"event": "failed", "failure": to_json(Failure("failed", str(error)))}
