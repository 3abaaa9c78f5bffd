"""Worker processes of the local executor as forks of a process with all imports. They start in 0.1 s."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import IO

import pytest

from neftune_cli.sweeps.executors import worker_handle
from tests.crash.forks import Forks

PIPE = subprocess.PIPE
_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.01


class ForkedProcess:
    """The part of `subprocess.Popen` that the local executor uses, for a fork that is a child of this process."""

    def __init__(
        self, forks: Forks, command: Sequence[str], *, stderr: IO[bytes], env: Mapping[str, str], **pipes: object
    ) -> None:
        assert pipes == {"stdin": PIPE, "stdout": PIPE, "bufsize": 0, "cwd": None, "start_new_session": True}
        worker, arguments = command[: len(worker_handle.COMMAND)], command[len(worker_handle.COMMAND) :]
        assert tuple(worker) == worker_handle.COMMAND
        (their_stdin, stdin), (stdout, their_stdout) = os.pipe(), os.pipe()
        self.stdin, self.stdout = open(stdin, "wb", buffering=0), open(stdout, "rb", buffering=0)  # noqa: PTH123, SIM115
        self.pid = forks.start_worker(arguments, env, (their_stdin, their_stdout, stderr.fileno()))
        self.returncode: int | None = None
        os.close(their_stdin)
        os.close(their_stdout)

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """Wait for the exit, and return its code."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(_POLL_SECONDS)
        return code


@contextmanager
def forked_workers(forks: Forks) -> Iterator[None]:
    """Make the executors of this process start their workers as forks."""
    forking = SimpleNamespace(Popen=partial(ForkedProcess, forks), PIPE=PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    system = ctypes.CDLL(None)
    assert system.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_handle, "subprocess", forking)
        yield
    system.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
