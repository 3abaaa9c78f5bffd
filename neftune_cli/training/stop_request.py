"""How a trial is asked to stop: it looks at each step, and is interrupted at once where nothing would be lost."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from neftune_cli.errors import TrialStopped

_SIGNAL: int | None = getattr(signal, "SIGURG", None)
"""Wakes the main thread up. Nothing else uses it, and a process that doesn't expect it isn't hurt by it."""


class StopRequest:
    """A request, made once from any thread or signal handler, that the trial in the main thread stops."""

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False

    def request(self) -> None:
        """Ask for the stop; in the main thread, inside `interruptible`, this raises `TrialStopped`."""
        self.requested = True
        if threading.current_thread() is threading.main_thread():
            self._interrupt()
        elif self._interruptible and _SIGNAL is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)

    def raise_if_requested(self) -> None:
        """Raise `TrialStopped` if the stop was asked for."""
        if self.requested:
            raise TrialStopped("The trial was asked to stop.")

    def interruptible(self) -> "_Interrupting":
        """Let a request raise `TrialStopped` in the main thread while the returned context lasts, in mid-work.

        One that came before raises at the beginning, one that a library swallowed at the end.
        """
        return _Interrupting(self)

    def _interrupt(self, *_: object) -> None:
        """Raise in the main thread: it alone knows whether it is still inside."""
        if self._interruptible:
            self._interruptible = False
            self.raise_if_requested()


class _Interrupting:
    """The inside of `StopRequest.interruptible`."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._signal = _SIGNAL if threading.current_thread() is threading.main_thread() else None

    def __enter__(self) -> Self:
        self._stop.raise_if_requested()
        if self._signal is not None:
            self._before = signal.signal(self._signal, self._on_signal)
        self._stop._interruptible = True
        if self._stop.requested:  # between the first look and now
            self._stop._interrupt()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop._interruptible = False
        if self._signal is not None:
            signal.signal(self._signal, self._before or signal.SIG_DFL)
        if error is None or isinstance(error, Exception):
            self._stop.raise_if_requested()

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._stop._interrupt()
