"""A worker process: reads requests as JSON lines, runs trials, and writes events as JSON lines.

It is started as `python -m neftune_cli.sweeps.executors.worker LOG`. Whatever is printed goes to LOG, or to the log of
the trial that runs. When the other end of its pipes is closed it lets the trial checkpoint, and ends.
"""

import faulthandler
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
from neftune_cli.sweeps.executors.protocol import Lines, Message, as_line, packed, unpacked
from neftune_cli.sweeps.failures import failure
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial_log import redirect_output_permanently, redirect_process_output

GRACE_SECONDS = 20.0
"""Seconds for a trial to write its checkpoint after the main process has ended."""
_PIECE = 65536


def main() -> None:
    """Work until the main process sends an exit request or ends."""
    requests, events = _own_pipes(Path(sys.argv[1]))
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    stop = StopRequest()
    inbox = _Inbox(requests, stop)
    signal.signal(signal.SIGTERM, lambda *_: inbox.end())
    inbox.start()
    _Worker(_Sender(events, stop), inbox, stop).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread waits for requests; cleanup by libraries is not needed


def _own_pipes(log: Path) -> tuple[int, int]:
    """Move the pipes to descriptors that no library uses, and return the descriptors."""
    requests, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    redirect_output_permanently(log)
    return requests, events


class _Inbox(threading.Thread):
    """Reader of requests. Urgent ones take effect during a trial; the others are queued."""

    def __init__(self, descriptor: int, stop: StopRequest) -> None:
        super().__init__(daemon=True)
        self.queue: SimpleQueue[Message] = SimpleQueue()
        self.trial_runs = threading.Event()
        self._descriptor, self._stop = descriptor, stop

    def run(self) -> None:
        """Read until an exit request or the end of the pipe, after which this process is not needed."""
        lines = Lines()
        while piece := os.read(self._descriptor, _PIECE):
            for request in lines.feed(piece):
                if request["do"] == "stop":
                    self._stop.request()
                elif request["do"] == "exit":
                    self._leave()
                else:
                    self.queue.put(request)
        self._leave()

    def end(self) -> None:
        """Stop the running trial, if there is one, and end the process after it."""
        self.queue.put({"do": "exit"})
        self._stop.request()  # raises in a signal handler during some trials

    def _leave(self) -> None:
        """End the process: at once, after the running trial has stopped, or after a time limit."""
        self.end()
        if self.trial_runs.is_set():
            time.sleep(GRACE_SECONDS)
        os._exit(0)


class _Sender:
    """Writer of events."""

    def __init__(self, descriptor: int, stop: StopRequest) -> None:
        self._descriptor, self._stop = descriptor, stop

    def send(self, event: str, request: Message, **values: Any) -> None:
        """Write an event for a request."""
        line = as_line({"event": event, "id": request.get("id"), **values})
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:  # the main process has died, which is not a failure of the trial
            self._stop.request()


class _Worker:
    """Handler of requests, one after another."""

    def __init__(self, sender: _Sender, inbox: _Inbox, stop: StopRequest) -> None:
        self._sender, self._inbox, self._stop = sender, inbox, stop
        self._bench = TrialRunner(redirect_process_output)
        self._folders: dict[str, SweepFolder] = {}
        """Each keeps in mind since when other machines' claims show no sign of life."""
        self._answers: dict[str, Callable[[Message], None]] = {
            "inspect": self._inspect,
            "prepare": self._prepare,
            "calibrate": self._calibrate,
            "trial": self._trial,
            "threads": _set_threads,
        }

    def serve(self) -> None:
        """Report that the imports are done, and handle requests until an exit request."""
        import torch  # noqa: F401

        self._sender.send("ready", {})
        while (request := self._inbox.queue.get())["do"] != "exit":
            self._answer(request)
            if request["do"] == "prepare" and self._inbox.queue.empty():
                _import_trainer()

    def _answer(self, request: Message) -> None:
        try:
            self._answers[request["do"]](request)
        except UsageError as error:
            self._sender.send("refused", request, problems=[packed(problem) for problem in error.problems])
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            self._sender.send("failed", request, failure=packed(failure(error, Path.cwd())))

    def _inspect(self, request: Message) -> None:
        found = self._bench.inspect(unpacked(SweepSpec, request["spec"]))
        self._sender.send("inspected", request, found=packed(found))

    def _prepare(self, request: Message) -> None:
        found = self._bench.prepare([unpacked(TrialSpec, trial) for trial in request["trials"]])
        self._sender.send("prepared", request, found=packed(found))

    def _calibrate(self, request: Message) -> None:
        self._sender.send(
            "calibrated", request, found=packed(self._bench.calibrate(unpacked(TrialSpec, request["trial"])))
        )

    def _trial(self, request: Message) -> None:
        """Run a trial. Every exception is reported as its failure."""
        job = unpacked(Job, request["job"])
        folder = self._folders.setdefault(request["folder"], SweepFolder(Path(request["folder"])))
        started = time.monotonic()
        self._inbox.trial_runs.set()
        try:
            record = self._bench.run(job, folder, self._stop, on_lease=lambda: self._sender.send("claimed", request))
        except Exception as error:
            ended: dict[str, Any] = {"failure": packed(failure(error, folder.path))}
        else:
            if record is None:
                self._sender.send("taken", request)
                return
            ended = {"record": packed(record)}
        finally:
            self._inbox.trial_runs.clear()
        self._sender.send("ended", request, seconds=time.monotonic() - started, **ended)


def _set_threads(request: Message) -> None:
    import torch

    torch.set_num_threads(request["count"])


def _import_trainer() -> None:
    """Import TRL, which takes seconds, before the first trial arrives."""
    import trl.trainer.sft_trainer  # noqa: F401


if __name__ == "__main__":
    main()
