"""The main process's handle of a worker process: start it, exchange messages, and describe its exit."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.config.process import LIBRARY_SETTINGS, is_launcher_variable
from neftune_cli.sweeps.executors.messages import LineDecoder, WorkerMessage, write_line
from neftune_cli.training.hardware import MEMORY_KEPT, MEMORY_PADDING, SPIN_COUNT, SPINS, THREADS, limited_threads

COMMAND = (sys.executable, "-P", "-m", "neftune_cli.sweeps.executors.worker")
"""`-P` keeps the current folder off the import path, where a file such as `random.py` would hide a library."""
_READ_BYTES = 65536


@dataclass(frozen=True)
class ProcessExit:
    """The end of a worker process."""

    description: str
    """The predicate of a sentence, for example "ended with exit code 1"."""
    out_of_memory: bool = False
    """Whether SIGKILL came from outside, as it does when the machine runs out of memory."""


class WorkerHandle:
    """A running worker in its own session, which Ctrl-C does not reach.

    Args:
        log: file for its output while no trial runs.
        environment: its environment variables.
        directory: its working directory; that of this process if None.
    """

    def __init__(self, log: Path, environment: Mapping[str, str], directory: Path | None = None) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*COMMAND, str(log)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._events = self._process.stdin, self._process.stdout
        os.set_blocking(self._events.fileno(), False)
        self._lines = LineDecoder()
        self._killed_here = False
        self.log = log

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there are events."""
        return self._events.fileno()

    def send(self, request: WorkerMessage) -> None:
        """Write a request. If the worker has died, do nothing; `exit_status` reports the death."""
        with suppress(BrokenPipeError):
            write_line(self._requests.fileno(), request)

    def receive(self) -> list[WorkerMessage]:
        """Return the messages that have arrived."""
        found: list[WorkerMessage] = []
        with suppress(BlockingIOError):
            while piece := os.read(self._events.fileno(), _READ_BYTES):
                found += self._lines.feed(piece)
        return found

    def exit_status(self) -> ProcessExit | None:
        """Return the exit of the process, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return ProcessExit("was killed on request") if self._killed_here else process_exit(code)

    def request_exit(self) -> None:
        """Ask the worker to end: at once if it is idle, otherwise when the running trial has stopped."""
        self.send({"request": "exit"})
        self._requests.close()

    def wait(self, seconds: float) -> None:
        """Wait until the worker has ended. After `seconds`, kill it and its child processes."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the worker and its child processes."""
        if self._process.poll() is None:
            self._killed_here = True
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Close the pipes. If the worker has ended, kill its remaining child processes, which may hold its lease."""
        if self._process.poll() is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._requests.close()
        self._events.close()


def process_exit(code: int) -> ProcessExit:
    """Return the description of an exit code. A negative code is the number of a signal."""
    if code == -signal.SIGKILL:
        return ProcessExit("was killed by the system, probably because memory ran out", out_of_memory=True)
    if code < 0:
        return ProcessExit(f"crashed with {signal.strsignal(-code) or 'unknown signal'} ({_signal_name(-code)})")
    return ProcessExit(f"ended with exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_DEFAULTS = {
    "MALLOC_MMAP_THRESHOLD_": str(MEMORY_KEPT),
    "MALLOC_TRIM_THRESHOLD_": str(MEMORY_KEPT),
    "MALLOC_TOP_PAD_": str(MEMORY_PADDING),
    SPIN_COUNT: str(SPINS),
    **LIBRARY_SETTINGS,
    "PYTHONUNBUFFERED": "1",
}
_ALLOCATOR, _OLD_ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
_THREADS = (THREADS, "MKL_NUM_THREADS")
_DEVICES = "CUDA_VISIBLE_DEVICES"


def worker_environment(threads: int, gpu: int | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker. Variables that the user has set are kept, except those of launchers.

    Args:
        threads: number of compute threads; a smaller number set by the user wins.
        gpu: index of the worker's GPU among the visible ones; None for all of them.
        base: environment of the main process.
    """
    environment = {**_DEFAULTS, **{name: value for name, value in base.items() if not is_launcher_variable(name)}}
    if _OLD_ALLOCATOR not in base:  # without it, batches of different lengths fragment the memory of the GPU
        environment.setdefault(_ALLOCATOR, "expandable_segments:True")
    for name in _THREADS:
        environment[name] = str(limited_threads(threads, base, name))
    if gpu is not None:
        environment[_DEVICES] = _device(gpu, base.get(_DEVICES))
    return environment


def _device(gpu: int, visible: str | None) -> str:
    names = [name.strip() for name in visible.split(",") if name.strip()] if visible else []
    return names[gpu % len(names)] if names else str(gpu)
