"""Values of single examples, put together over the seeds of an arm and counted in bins."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neftune_cli.evidence.measurements import Floats, Measurements

_PERCENTILES: Final = (0.5, 5.0, 95.0, 99.5)
"""The outermost bins take in what lies beyond the first and the last, so that a few values don't stretch the axis."""
_NEAR_ZERO: Final = 0.4
"""An axis begins at 0 if the smallest values are less than this share of the largest."""
_FEWEST_BINS, _MOST_BINS = 12, 40
_WIDE: Final = 25.0
"""Positive values whose middle nine tenths span a larger factor are counted in bins of equal ratio."""


@dataclass(frozen=True)
class Bins:
    """Neighbouring intervals that values are counted in; the first and the last take what lies beyond."""

    edges: Floats
    logarithmic: bool

    def shares(self, values: Floats) -> Floats:
        """Return the percentage of the values in each bin, (bins,)."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        return 100.0 * np.histogram(inside, self.edges)[0] / max(len(values), 1)


def outline(edges: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """Return the corners of a histogram's upper edge, from left to right."""
    return np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)


def pooled(trials: Iterable[Measurements], key: str) -> Floats:
    """Return the finite values of one metric's items over all these trials."""
    values = [trial.items[key].values for trial in trials if key in trial.items]
    everything = np.concatenate(values) if values else np.empty(0)
    return everything[np.isfinite(everything)]


def common_bins(values: Sequence[Floats], count: int, *, whole: bool = False) -> Bins:
    """Return about `count` bins that fit all of these arrays, which hold one value at least.

    With `whole` the bins of equal width hold equally many whole numbers each.
    """
    everything = np.concatenate(values)
    low, near, far, high = (float(value) for value in np.percentile(everything, _PERCENTILES))
    if near > 0 and far > _WIDE * near:
        return Bins(np.geomspace(low if low > 0 else near, high, count + 1), logarithmic=True)
    start = 0.0 if 0 <= low < _NEAR_ZERO * high else low
    width = (high - start) / count or 1.0 / count
    if whole:
        start, width = math.floor(start), math.ceil(width)
        count = max(1, math.ceil((high - start + 1) / width))
    return Bins(start + width * np.arange(count + 1, dtype=np.float64), logarithmic=False)


def few_bins(examples: int) -> int:
    """Return how many bins show the shape of so many independent values: 2 n^(1/3), the Rice rule, 12 to 40."""
    return min(max(round(2 * math.cbrt(examples)), _FEWEST_BINS), _MOST_BINS)
