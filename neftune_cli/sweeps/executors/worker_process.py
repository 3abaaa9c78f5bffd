"""Worker process: start, environment, messages, and detection of its death."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from neftune_cli.sweeps.executors.protocol import Lines, Message, as_line
from neftune_cli.training.hardware import MEMORY_KEPT

COMMAND = (sys.executable, "-P", "-m", "neftune_cli.sweeps.executors.worker")
"""The current folder is not on the search path, because a `random.py` in it would be imported."""
_PIECE = 65536


class WorkerProcess:
    """Running worker process in a separate session, so that Ctrl-C does not reach it.

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
        """Return the descriptor that becomes readable when there are events."""
        return self._events.fileno()

    def send(self, request: Message) -> None:
        """Write a request. A dead worker is detected elsewhere."""
        line = as_line(request)
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._requests.fileno(), line) :]

    def receive(self) -> list[Message]:
        """Return the received events."""
        found: list[Message] = []
        with suppress(BlockingIOError):
            while piece := os.read(self._events.fileno(), _PIECE):
                found += self._lines.feed(piece)
        return found

    def how_it_died(self) -> str | None:
        """Return the cause of its end as a phrase, None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return "was ended on request" if self._was_killed else exit_in_words(code)

    def leave(self) -> None:
        """Ask it to end, at once or after its trial has stopped."""
        self.send({"do": "exit"})
        self._requests.close()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended. After a time limit, kill it and the processes that it started."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it and the processes that it started."""
        if self._process.poll() is None:
            self._was_killed = True
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Close the pipes, and kill the processes that it started, which may still hold its lease."""
        if self._process.poll() is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._requests.close()
        self._events.close()


KILLED = "was killed, most likely by the system for want of memory"


def exit_in_words(code: int) -> str:
    """Return the end of a process as a phrase. A negative code is the number of a signal."""
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


_DEFAULTS = {
    "MALLOC_MMAP_THRESHOLD_": str(MEMORY_KEPT),
    "MALLOC_TRIM_THRESHOLD_": str(MEMORY_KEPT),
    "MALLOC_TOP_PAD_": str(MEMORY_KEPT // 16),
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONUNBUFFERED": "1",
}
_ALLOCATOR, _OLD_ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEVICES = "CUDA_VISIBLE_DEVICES"


def worker_environment(threads: int, gpu: int | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker. Values set by the user are kept, and a number of threads is an upper limit.

    Args:
        threads: how many threads it computes with.
        gpu: which of the GPUs it sees, counted among those that the user lets it see; None for all of them.
        base: the environment of the process that starts it.
    """
    environment = {**_DEFAULTS, **base}
    if _OLD_ALLOCATOR not in base:  # otherwise batches of changing lengths fragment the memory
        environment.setdefault(_ALLOCATOR, "expandable_segments:True")
    for name in _THREADS:
        environment[name] = str(threads_within(threads, base, name))
    if gpu is not None:
        environment[_DEVICES] = _device(gpu, base.get(_DEVICES))
    return environment


def threads_within(threads: int, base: Mapping[str, str], name: str = _THREADS[0]) -> int:
    """Return the number of threads, at most the number that the user has set."""
    given = base.get(name, "")
    return min(int(given), threads) if given.isdecimal() and int(given) else threads


def with_this_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds the running package, even if it is not installed."""
    root = str(Path(__file__).parents[3])
    if root in (path for path in sys.path if path.endswith("-packages")):
        return dict(environment)
    others = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join([root, others] if others else [root])}


def _device(gpu: int, given: str | None) -> str:
    visible = [name.strip() for name in given.split(",") if name.strip()] if given else []
    return visible[gpu % len(visible)] if visible else str(gpu)


class SignalWakeup:
    """Wake-up descriptor for signals with a Python handler. It works only if created in the main thread."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._before: int | None = None
        with suppress(ValueError):  # only the main thread receives signals
            self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable after a signal."""
        return self._reading

    def rang(self) -> bool:
        """Return whether a signal arrived since the last call."""
        with suppress(BlockingIOError):
            return bool(os.read(self._reading, 4096))
        return False

    def close(self) -> None:
        """Restore the previous wake-up descriptor."""
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        os.close(self._reading)
        os.close(self._writing)
