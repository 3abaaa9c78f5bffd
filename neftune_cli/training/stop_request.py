"""A request to stop the running trial: checked after each step, and raised at once where no work would be lost."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from neftune_cli.errors import TrialStopped

_SIGNAL: int | None = getattr(signal, "SIGURG", None)
"""Wakes up the main thread. Processes ignore this signal by default."""


class StopRequest:
    """A request, made from any thread or signal handler, to stop the trial in the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False

    def request(self) -> None:
        """Request the stop. In the main thread, inside `interruptible`, this raises `TrialStopped`."""
        self.requested = True
        if threading.current_thread() is threading.main_thread():
            self._interrupt()
        elif self._interruptible and _SIGNAL is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)

    def raise_if_requested(self) -> None:
        """Raise `TrialStopped` if the stop was requested."""
        if self.requested:
            raise TrialStopped("The trial was asked to stop.")

    def interruptible(self) -> "_Interruptible":
        """Return a context in which a request raises `TrialStopped` in the main thread at once.

        A request made before the context raises on entry. If a library swallows the exception, it is raised on exit.
        """
        return _Interruptible(self)

    def _interrupt(self, *_: object) -> None:
        """Raise in the main thread, and only if it is still inside the context."""
        if self._interruptible:
            self._interruptible = False
            self.raise_if_requested()


class _Interruptible:
    """The context that `StopRequest.interruptible` returns."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._signal = _SIGNAL if threading.current_thread() is threading.main_thread() else None

    def __enter__(self) -> Self:
        self._stop.raise_if_requested()
        if self._signal is not None:
            self._before = signal.signal(self._signal, self._on_signal)
        self._stop._interruptible = True
        if self._stop.requested:  # the request came after the first check
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
