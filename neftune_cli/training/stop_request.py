"""A request to stop the running trial: checked after each step, and raised at once where no work would be lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Return a context in which a request raises `TrialStopped` in the main thread at once.

        A request made before the context raises on entry. If a library swallows the exception, it is raised on exit.
        """
        self.raise_if_requested()
        with self._signal_handled():
            self._interruptible = True
            try:
                if self.requested:  # the request came after the first check
                    self._interrupt()
                yield
            except Exception:
                self.raise_if_requested()
                raise
            finally:
                self._interruptible = False
        self.raise_if_requested()

    @contextmanager
    def _signal_handled(self) -> Iterator[None]:
        """Handle the signal of `request` in the context, if this is the main thread."""
        if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(_SIGNAL, self._interrupt)
        try:
            yield
        finally:
            signal.signal(_SIGNAL, before or signal.SIG_DFL)

    def _interrupt(self, *_: object) -> None:
        """Raise in the main thread, and only if it is still inside the context."""
        if self._interruptible:
            self._interruptible = False
            self.raise_if_requested()
