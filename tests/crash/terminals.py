"""Commands in a pseudo-terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

WAIT_SECONDS = 150.0
_TAKE_TERMINAL = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"
"""Makes the terminal the controlling terminal, so that Ctrl-C reaches the process, and executes the command."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a folder, with a terminal of 120 columns as its input and output."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._own, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        self._written = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)

    @property
    def text(self) -> str:
        """Return the output so far, without escape sequences for colors and the cursor."""
        return _ESCAPES.sub("", self._written.decode(errors="replace")).replace("\r", "")

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C: the terminal sends SIGINT to all processes in its foreground."""
        os.write(self._own, b"\x03")

    def terminate(self) -> None:
        """Send SIGTERM to the command, but not to its workers, as batch systems do."""
        self.process.send_signal(signal.SIGTERM)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Read the output until a condition holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            self._read(0.05)
            assert self.process.poll() is None, self.text[-3000:]
            assert time.monotonic() < deadline, self.text[-3000:]

    def wait(self) -> int:
        """Read until the command has ended, and return its exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.process.poll() is None:
            self._read(0.05)
            assert time.monotonic() < deadline, self.text[-3000:]
        while self._read(0.0):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self._own], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._own, 65536)
        except OSError:  # raised by Linux if the other end is closed
            return False
        self._written += piece
        return bool(piece)
