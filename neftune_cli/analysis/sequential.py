"""Sequential tests at planned looks: p-values and levels that are valid although decided arms stop at a look."""

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import stdtr

from neftune_cli.config.process import user_cache
from neftune_cli.evidence.measurements import Floats
from neftune_cli.store.files import write_atomically

NULL_PATHS = 600_000
"""Number of simulated paths. The standard error of a level of 5% is 0.03 percentage points."""
_BLOCK = 100_000
_VERSION = 1
"""Raise it with a change of the simulation, so that older files are not read."""


@dataclass(frozen=True)
class SequentialTest:
    """Test of one hypothesis at several looks, each with all seeds up to then.

    The p-value after look j is G(min p_i / w_i) up to look j. p_i is the p-value of the n_i seeds of look i, and
    the weight w_i is n_i divided by the seeds of the last look. G is the distribution function of this minimum over
    all looks under the null hypothesis, for one-sample t-tests of independent normal differences. It is simulated with
    a fixed seed. The p-value is therefore valid at every look and after every rule for stopping at a look. With one
    look it is p_1. `make simulations` checks the error rates with crossed seeds and items.
    """

    looks: tuple[int, ...]
    """Number of seeds at each look, in ascending order."""

    def p_value(self, p_values: Sequence[float]) -> float:
        """Return the sequential p-value of the two-sided p-values at the first looks; NaN counts as 1."""
        return self._distribution(self._smallest(p_values))

    def p_one_sided(self, p_values: Sequence[float]) -> float:
        """Return the sequential p-value of the one-sided p-values at the first looks; NaN counts as 1."""
        smallest = self._smallest(p_values)
        return self._distribution(2 * smallest) / 2 if smallest < 0.5 else min(1.0, smallest)

    def level(self, significance: float, look: int) -> float:
        """Return the two-sided p-value at a look that has the sequential p-value `significance`.

        Args:
            significance: level of the sequential test.
            look: index of the look, from 0. After the last look, the level is that of the last look.
        """
        look = min(look, len(self.looks) - 1)
        if len(self.looks) == 1:
            return significance
        return _quantile(null_minima(self.looks), significance) * self.looks[look] / self.looks[-1]

    def decisive_look(self, p_values: Sequence[float]) -> int:
        """Return the index of the look that determines the sequential p-value: that with the smallest p / w."""
        weighted = self._weighted(p_values)
        return weighted.index(min(weighted))

    def _smallest(self, p_values: Sequence[float]) -> float:
        return min((1.0, *self._weighted(p_values)))

    def _weighted(self, p_values: Sequence[float]) -> list[float]:
        """Return p / w at each look; infinity for NaN."""
        last = self.looks[-1]
        return [math.inf if math.isnan(p) else p * last / n for p, n in zip(p_values, self.looks, strict=False)]

    def _distribution(self, value: float) -> float:
        if len(self.looks) == 1 or value >= 1:
            return min(1.0, value)
        minima = null_minima(self.looks)
        return (1 + int(np.searchsorted(minima, value, side="right"))) / (1 + len(minima))


FIXED = SequentialTest((1,))
"""One test with a number of seeds that was chosen in advance. The 1 is a placeholder: the p-value does not use it."""


def _quantile(ordered: Floats, share: float) -> float:
    """Return a quantile of ordered values. `numpy.quantile` would order all of them again at each call."""
    position = share * (len(ordered) - 1)
    index = int(position)
    return float(np.interp(position - index, (0.0, 1.0), (ordered[index], ordered[min(index + 1, len(ordered) - 1)])))


@cache
def null_minima(looks: tuple[int, ...]) -> Floats:
    """Return the sorted minima of p / w over the looks, under the null hypothesis, (paths,).

    They are kept in the user's cache, because the simulation takes longer than a comparison.
    """
    file = user_cache() / "null-minima" / f"{'-'.join(map(str, looks))}-v{_VERSION}.npy"
    if (known := _read(file)) is not None:
        return known
    draws = np.random.default_rng(0)
    minima = np.sort(np.concatenate([_minima(looks, _BLOCK, draws) for _ in range(NULL_PATHS // _BLOCK)]))
    content = io.BytesIO()
    np.save(content, minima)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content.getvalue(), durable=False)
    return minima


def _read(file: Path) -> Floats | None:
    """Return the minima in a file; None if there is no such file, or if it is damaged."""
    try:
        minima = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_whole = minima.shape == (NULL_PATHS,) and minima.dtype == np.float64
    return minima if is_whole and minima[0] >= 0 and bool((np.diff(minima) >= 0).all()) else None


def _minima(looks: tuple[int, ...], paths: int, draws: np.random.Generator) -> Floats:
    sums, squares, smallest = np.zeros(paths), np.zeros(paths), np.full(paths, np.inf)
    for seeds, new in zip(looks, np.diff(looks, prepend=0), strict=True):
        added = draws.normal(scale=np.sqrt(new), size=paths)
        sums += added
        squares += added**2 / new + (draws.chisquare(new - 1, paths) if new > 1 else 0.0)
        variance = (squares - sums**2 / seeds) / (seeds - 1)
        p_values = 2 * stdtr(seeds - 1, -np.abs(sums) / np.sqrt(seeds * variance))
        np.minimum(smallest, p_values * looks[-1] / seeds, out=smallest)
    return smallest
