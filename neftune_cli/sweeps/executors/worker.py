"""A worker process: read requests as JSON lines, run trials, and write events as JSON lines.

Start it as `python -m neftune_cli.sweeps.executors.worker LOG`. Output goes to LOG, or to the log of the running trial.
When the main process closes its end of the pipes, the running trial writes a checkpoint and the process ends.
"""

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.executors.messages import LineDecoder, WorkerMessage, from_json, to_json, write_line
from neftune_cli.sweeps.failures import failure_of
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial_log import redirect_output_permanently, redirect_process_output

GRACE_SECONDS = 20.0
"""Time for the running trial to write its checkpoint after the main process has gone."""
_READ_BYTES = 65536


def main() -> None:
    """Serve requests until the main process asks the worker to exit, or dies."""
    gc.disable()  # until `_import_trainer`: collections would only slow the imports down
    requests, events = _private_pipes(Path(sys.argv[1]))
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to all processes of a job before the time limit
    stop = StopRequest()
    reader = _RequestReader(requests, stop)
    signal.signal(signal.SIGTERM, lambda *_: reader.end())
    reader.start()
    _RequestHandler(_EventWriter(events, stop), reader, stop).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the reader thread still waits for requests, and libraries need no cleanup


def _private_pipes(log: Path) -> tuple[int, int]:
    """Move the pipes away from stdin and stdout, which libraries may use, and return their descriptors."""
    requests, events = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    redirect_output_permanently(log)
    return requests, events


class _RequestReader(threading.Thread):
    """Thread that reads requests, handles `stop` and `exit` during a trial, and queues the others."""

    def __init__(self, descriptor: int, stop: StopRequest) -> None:
        super().__init__(daemon=True)
        self.queue: SimpleQueue[WorkerMessage] = SimpleQueue()
        self.trial_is_running = threading.Event()
        self._descriptor, self._stop = descriptor, stop

    def run(self) -> None:
        """Read until the main process asks the worker to exit, or closes the pipe."""
        lines = LineDecoder()
        while piece := os.read(self._descriptor, _READ_BYTES):
            for request in lines.feed(piece):
                if request["request"] == "stop":
                    self._stop.request()
                elif request["request"] == "exit":
                    self._exit()
                else:
                    self.queue.put(request)
        self._exit()

    def end(self) -> None:
        """Stop the running trial, if there is one, and end the process after it."""
        self.queue.put({"request": "exit"})
        self._stop.request()  # last, because it raises if a signal handler calls it during some parts of a trial

    def _exit(self) -> None:
        """End the process: at once, or when the running trial has stopped, or when this takes too long."""
        self.end()
        if self.trial_is_running.is_set():
            time.sleep(GRACE_SECONDS)
        os._exit(0)


class _EventWriter:
    """Write events to the pipe."""

    def __init__(self, descriptor: int, stop: StopRequest) -> None:
        self._descriptor, self._stop = descriptor, stop

    def send(self, event: str, request: WorkerMessage, **values: Any) -> None:
        """Write an event that belongs to a request."""
        try:
            write_line(self._descriptor, {"event": event, "id": request.get("id"), **values})
        except BrokenPipeError:  # the main process has died; the trial has not failed
            self._stop.request()


class _RequestHandler:
    """Handle requests one after the other."""

    def __init__(self, events: _EventWriter, reader: _RequestReader, stop: StopRequest) -> None:
        self._events, self._reader, self._stop = events, reader, stop
        self._runner = TrialRunner(redirect_process_output)
        self._folders: dict[str, SweepFolder] = {}
        """Kept between trials, because each remembers the last heartbeats of leases on other machines."""
        self._handlers: dict[str, Callable[[WorkerMessage], None]] = {
            "imports": lambda _: _import_trainer(),
            "inspect": self._inspect,
            "prepare": self._prepare,
            "calibrate": self._calibrate,
            "trial": self._trial,
            "threads": _set_threads,
        }

    def serve(self) -> None:
        """Report that the imports are done, and handle requests until one is `exit`."""
        import torch  # noqa: F401

        self._events.send("ready", {})
        while (request := self._reader.queue.get())["request"] != "exit":
            self._handle(request)
            if request["request"] == "prepare" and self._reader.queue.empty():
                _import_trainer()

    def _handle(self, request: WorkerMessage) -> None:
        try:
            self._handlers[request["request"]](request)
        except UsageError as error:
            self._events.send("refused", request, problems=[to_json(problem) for problem in error.problems])
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            self._events.send("failed", request, failure=to_json(failure_of(error, Path.cwd())))

    def _inspect(self, request: WorkerMessage) -> None:
        self._answer(request, self._runner.inspect(from_json(SweepSpec, request["spec"])))

    def _prepare(self, request: WorkerMessage) -> None:
        self._answer(request, self._runner.prepare([from_json(TrialSpec, trial) for trial in request["trials"]]))

    def _calibrate(self, request: WorkerMessage) -> None:
        _import_trainer()
        trial = from_json(TrialSpec, request["trial"])
        self._answer(request, self._runner.calibrate(trial, request["seconds"]))

    def _answer(self, request: WorkerMessage, value: object) -> None:
        self._events.send("answer", request, value=to_json(value))

    def _trial(self, request: WorkerMessage) -> None:
        """Run a trial, and report an exception as its failure."""
        folder = self._folders.setdefault(request["folder"], SweepFolder(Path(request["folder"])))
        started = time.monotonic()
        try:
            _import_trainer()
            job = from_json(Job, request["job"])
            started = time.monotonic()
            self._reader.trial_is_running.set()
            record = self._runner.run(job, folder, self._stop, on_lease=lambda: self._events.send("started", request))
        except Exception as error:
            result: dict[str, Any] = {"failure": to_json(failure_of(error, folder.path))}
        else:
            if record is None:
                self._events.send("leased-elsewhere", request)
                return
            result = {"record": to_json(record)}
        finally:
            self._reader.trial_is_running.clear()
        self._events.send("finished", request, seconds=time.monotonic() - started, **result)


def _set_threads(request: WorkerMessage) -> None:
    import torch

    torch.set_num_threads(request["count"])


def _import_trainer() -> None:
    """Import TRL, which takes several seconds, and exempt the objects of all imports from garbage collection.

    There are half a million of them, which live as long as the process. Every full collection would visit them.
    """
    import trl.trainer.sft_trainer  # noqa: F401

    if not gc.isenabled():
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    main()
