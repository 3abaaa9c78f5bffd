"""Signals during a sweep: the first one requests a stop, a second Ctrl-C ends the sweep, and each wakes a selector."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Handle Ctrl-C, SIGTERM and SIGHUP inside a context.

    A signal raises `KeyboardInterrupt`. Within `graceful`, the first signal requests a stop after the current step, and
    only a second Ctrl-C raises. Outside the main thread there are no signals, and the handlers stay as they are.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether a stop of the sweep has been requested."""
        self._on_request: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread receives signals and may set their handlers
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # set by nohup
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def graceful(self, on_request: Callable[[], None]) -> Iterator[None]:
        """Treat the first signal as a request, and call `on_request`, which must be safe in a signal handler."""
        self._on_request = on_request
        try:
            yield
        finally:
            self._on_request = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._on_request is None:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            self._on_request()
        elif number == signal.SIGINT:  # a closed terminal or a batch system may send other signals twice
            raise KeyboardInterrupt


class SignalPipe:
    """A pipe that becomes readable when a handled signal arrives. Only one made in the main thread works."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._before: int | None = None
        with suppress(ValueError):  # raised outside the main thread, which alone receives signals
            self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a signal arrives."""
        return self._reading

    def signal_arrived(self) -> bool:
        """Return whether a signal has arrived since the last call."""
        with suppress(BlockingIOError):
            return bool(os.read(self._reading, 4096))
        return False

    def close(self) -> None:
        """Close the pipe and restore the previous wakeup descriptor."""
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        os.close(self._reading)
        os.close(self._writing)
