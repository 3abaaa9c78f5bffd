"""What Ctrl-C and a scheduler's SIGTERM do: while trials run, the first asks them to stop and the second ends all."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Turns signals into `KeyboardInterrupt`; in a `patient` block the first is noted, and then only Ctrl-C is one."""

    def __init__(self) -> None:
        self.requested = False
        """Whether the user, or the system, wants the sweep to stop."""
        self._on_request: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patient(self, on_request: Callable[[], None]) -> Iterator[None]:
        """Only note the first signal that comes in the block, and call something that a signal handler may call."""
        self._on_request = on_request
        try:
            yield
        finally:
            self._on_request = None

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._on_request is None:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            self._on_request()
        elif number == signal.SIGINT:  # a terminal that is closed, and batch systems, may say it twice
            raise KeyboardInterrupt
