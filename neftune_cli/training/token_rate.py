"""How fast a training goes, by a clock: for whoever watches, and for no record."""

import time
from collections import deque
from collections.abc import Callable

_STEPS = 10


class TokenRate:
    """Training tokens per second over the last steps; where none could be timed yet, what it was before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque(maxlen=_STEPS + 1)
        self._rate: float | None = None

    def at(self, tokens: int | None) -> float | None:
        """Take the tokens trained on so far, at the end of a step, and return the rate."""
        if tokens is not None:
            self._seen.append((self._clock(), tokens))
            (begin, before), (end, after) = self._seen[0], self._seen[-1]
            if end > begin:
                self._rate = (after - before) / (end - begin)
        return self._rate

    def pause(self) -> None:
        """Leave the time until the end of the next step out."""
        self._seen.clear()
