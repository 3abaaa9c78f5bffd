"""Clocks and samples for a calibration: when a model is called, and which examples stand for the others."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from neftune_cli.data.examples import TokenizedExample

BUDGET = 5.0
"""Seconds that one kind of forward passes may take."""
_FEWEST_ROWS = 4

Clock = Callable[[], float]


def device_clock(device: str) -> Clock:
    """Return a clock that waits until the device has done what it was given."""
    if device == "cpu":
        return time.perf_counter
    wait = torch.cuda.synchronize if device == "cuda" else torch.mps.synchronize

    def now() -> float:
        wait()
        return time.perf_counter()

    return now


@dataclass(frozen=True)
class Forward:
    """One call of a model."""

    begin: float
    tokens: int
    """Padding included."""


@contextmanager
def forwards(model: nn.Module, clock: Clock) -> Iterator[list[Forward]]:
    """Note when the model is called and with how many tokens."""
    calls: list[Forward] = []

    def note(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        input_ids = named["input_ids"] if "input_ids" in named else positional[0]
        calls.append(Forward(clock(), input_ids.numel()))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def around_median(
    examples: Sequence[TokenizedExample], rows: int, length: Callable[[TokenizedExample], int]
) -> list[TokenizedExample]:
    """Return so many examples, those around the median length."""
    begin = max(0, (len(examples) - rows) // 2)
    return sorted(examples, key=length)[begin : begin + rows]


def affordable(rows: int, per_token: float, lengths: Sequence[int], *, times: int) -> int:
    """Return how many of so many rows fit into the budget several times, at a price a token in seconds."""
    return max(_FEWEST_ROWS, min(rows, int(BUDGET / times / (per_token * median(lengths)))))
