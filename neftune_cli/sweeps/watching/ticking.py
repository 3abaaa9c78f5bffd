"""Something done every few seconds beside the sweep, which it can't disturb."""

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from neftune_cli.errors import NeftuneError

HARMLESS = (OSError, ValueError, NeftuneError)
"""What goes wrong on the disk, on a terminal that is gone, or on a file that can't be understood."""


class Ticker:
    """Calls a function again and again in a thread of its own, while it is entered as a context.

    A call in which something harmless goes wrong is as if it had not been made.
    """

    def __init__(self, tick: Callable[[], None], *, seconds: float) -> None:
        self._tick, self._seconds = tick, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(*HARMLESS):
                self._tick()
