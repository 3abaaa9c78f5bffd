"""Wakes up a process that waits when a signal comes: a selector would go on waiting after the signal's handler."""

import os
import signal
from contextlib import suppress


class Bell:
    """Rings when a signal comes that Python has a handler for; made in the main thread, or it never rings."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._before: int | None = None
        with suppress(ValueError):  # only the main thread may, and only it gets signals
            self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return the descriptor that can be read when it has rung."""
        return self._reading

    def rang(self) -> bool:
        """Return whether it rang since it was asked last."""
        with suppress(BlockingIOError):
            return bool(os.read(self._reading, 4096))
        return False

    def close(self) -> None:
        """Let signals wake up whom they woke up before."""
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        os.close(self._reading)
        os.close(self._writing)
