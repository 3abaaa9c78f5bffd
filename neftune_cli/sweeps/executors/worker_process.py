"""One worker process as the sweep's process sees it: started, talked to, and found dead."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from neftune_cli.sweeps.executors.messages import Lines, Message, as_line

COMMAND = (sys.executable, "-P", "-m", "neftune_cli.sweeps.executors.worker")
"""Without the folder the user happens to be in on the path: a `random.py` there would be imported."""
_PIECE = 65536


class WorkerProcess:
    """A running worker, in a session of its own: Ctrl-C doesn't reach it.

    Args:
        log: file for what it prints when no trial runs.
        environment: its environment.
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*COMMAND, str(log)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env=dict(environment),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._events = self._process.stdin, self._process.stdout
        os.set_blocking(self._events.fileno(), False)
        self._lines = Lines()
        self._was_killed = False
        self.log = log

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that can be read when there are events."""
        return self._events.fileno()

    def send(self, request: Message) -> None:
        """Write a request; one that has died is found out elsewhere."""
        line = as_line(request)
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._requests.fileno(), line) :]

    def receive(self) -> list[Message]:
        """Return the events that have come."""
        found: list[Message] = []
        with suppress(BlockingIOError):
            while piece := os.read(self._events.fileno(), _PIECE):
                found += self._lines.feed(piece)
        return found

    def how_it_died(self) -> str | None:
        """Return in words how it ended, None while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        return "was ended on request" if self._was_killed else exit_in_words(code)

    def leave(self) -> None:
        """Ask it to end: at once, or when the trial it runs has stopped."""
        self.send({"do": "exit"})
        self._requests.close()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended; end it, and what it has started, if that takes too long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, and what it has started."""
        if self._process.poll() is None:
            self._was_killed = True
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Close the pipes, and end what it has started and left behind, which may still hold its claim."""
        if self._process.poll() is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._requests.close()
        self._events.close()


KILLED = "was killed, most likely by the system for want of memory"


def exit_in_words(code: int) -> str:
    """Return how a process ended, as the rest of a sentence: a negative code is a signal's number."""
    if code == -signal.SIGKILL:
        return KILLED
    if code < 0:
        return f"crashed: {signal.strsignal(-code) or 'unknown signal'} ({_name(-code)})"
    return f"ended with exit code {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
