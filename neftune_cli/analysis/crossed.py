"""Seeds and items as two crossed samples: how sure the mean of a table is when both might have come out otherwise."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from neftune_cli.evidence.measurements import Floats

ROUNDING = 1e-12
"""Differences and standard errors of so small a part of the values are what rounding makes of none."""


@dataclass(frozen=True)
class CrossedMean:
    """A mean over seeds and clusters of items, with the two parts of its uncertainty apart.

    Where there is a single observation, or nothing varies, nothing says how sure the mean is: p-values and the interval
    are not numbers then.
    """

    mean: float
    seed_variance: float
    """Variance of the mean of one seed's results; n seeds divide it by n."""
    item_variance: float
    """Squared standard error that comes from the choice of items: more seeds don't lower it."""
    seeds: int
    clusters: int
    seed_degrees: float
    """Degrees of freedom of `seed_variance`; 0 where seeds are not taken for a sample."""
    seed_share: float
    """Share of the squared standard error that is weighted with `seed_degrees`, the rest with clusters - 1."""

    @property
    def standard_error(self) -> float:
        """Return the standard error of the mean, in its own unit."""
        return math.sqrt(self.seed_variance / self.seeds + self.item_variance)

    @property
    def is_measured(self) -> bool:
        """Return whether the values say how sure their mean is: there are several, and their means vary."""
        return self.standard_error > 0  # not so either where it isn't a number

    @property
    def degrees_of_freedom(self) -> float:
        """Return the degrees of freedom of the t distribution that the mean over its standard error follows."""
        return weighted_degrees(self.seed_share, self.seed_degrees, self.clusters - 1)

    def p_value(self, value: float = 0.0) -> float:
        """Return the two-sided p-value of the mean being `value`."""
        tail = min(self.p_above(value), self.p_below(value))
        return min(1.0, 2 * tail) if self.is_measured else math.nan

    def p_above(self, value: float) -> float:
        """Return the one-sided p-value for the mean being larger than `value`."""
        return self._tail(self.mean - value)

    def p_below(self, value: float) -> float:
        """Return the one-sided p-value for the mean being smaller than `value`."""
        return self._tail(value - self.mean)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided interval, in the mean's own unit."""
        if not self.is_measured:
            return math.nan, math.nan
        half = float(stdtrit(self.degrees_of_freedom, 0.5 + confidence / 2)) * self.standard_error
        return self.mean - half, self.mean + half

    def _tail(self, distance: float) -> float:
        if not self.is_measured:
            return math.nan
        return float(stdtr(self.degrees_of_freedom, -distance / self.standard_error))


def crossed_mean(
    table: Floats,  # (seeds, clusters)
    *,
    few_differ: bool = False,
    scale: float = 0.0,
) -> CrossedMean:
    """Return the mean of a table whose rows and columns are both samples, from the analysis of variance.

    The squared standard error is (MS_seeds + max(0, MS_clusters - MS_residual)) / (seeds * clusters), the quasi-F of
    two crossed random factors (Cornfield and Tukey 1956; Clark 1973), and never less than what seeds alone give. A t
    interval over seeds alone would leave out that all seeds share their items. One column is a score that has no items:
    that is the t interval over seeds.

    `few_differ` says that most clusters hold no difference at all. Seeds then agree by luck too often to be believed,
    and MS_seeds counts for no less than MS_residual.

    `scale` is the largest absolute value that the table was computed from, where larger than its own: a variance that
    rounding to such values explains is none.
    """
    mean = _of_two_factors(table, few_differ) if len(table) > 1 else _of_clusters(table)
    return _unrounded(mean, table, scale)


def clustered_mean(
    table: Floats,  # (seeds, clusters)
    *,
    scale: float = 0.0,
) -> CrossedMean:
    """Return the mean of a table whose columns alone are a sample: it speaks about these seeds' checkpoints only.

    `scale` is that of `crossed_mean`.
    """
    return _unrounded(_of_clusters(table), table, scale)


def weighted_degrees(seed_share: float, seed_degrees: float, item_degrees: float) -> float:
    """Return the harmonic mean of the two degrees of freedom, weighted by the parts' shares of the squared error.

    Satterthwaite (1946) weights by squared shares, which trusts an estimate from three seeds too much: up to 7% false
    positives at the 5% level in simulations, where this makes 1% to 6% (docs/statistics.md).
    """
    parts = ((seed_share, seed_degrees), (1 - seed_share, item_degrees))
    inverse = sum(share / degrees for share, degrees in parts if share > 0 and degrees > 0)
    return 1 / inverse if inverse else math.nan


def _of_two_factors(table: Floats, few_differ: bool) -> CrossedMean:
    seeds, clusters = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), float(table.mean())
    by_seed = float(np.square(rows - mean).sum()) * clusters / (seeds - 1)
    if clusters == 1:
        return CrossedMean(mean, by_seed, 0.0, seeds, clusters, seeds - 1, 1.0)
    by_cluster = float(np.square(columns - mean).sum()) * seeds / (clusters - 1)
    residuals = table - rows[:, None] - columns[None, :] + mean
    residual = float(np.square(residuals).sum()) / ((seeds - 1) * (clusters - 1))
    if few_differ:
        by_seed = max(by_seed, residual)
    of_items = max(0.0, by_cluster - residual)
    share = _share(max(by_seed, residual), of_items)
    size = seeds * clusters
    return CrossedMean(mean, by_seed / clusters, of_items / size, seeds, clusters, seeds - 1, share)


def _of_clusters(table: Floats) -> CrossedMean:
    seeds, clusters = table.shape
    columns = table.mean(axis=0)
    variance = float(columns.var(ddof=1)) / clusters if clusters > 1 else math.nan
    return CrossedMean(float(columns.mean()), 0.0, variance, seeds, clusters, 0, 0.0)


def _unrounded(mean: CrossedMean, table: Floats, scale: float) -> CrossedMean:
    if mean.standard_error > ROUNDING * max(scale, float(np.abs(table).max())):
        return mean
    return replace(mean, seed_variance=0.0, item_variance=mean.item_variance * 0.0)  # what is no number stays none


def _share(by_seed: float, of_items: float) -> float:
    return by_seed / (by_seed + of_items) if by_seed > 0 else 0.0 if of_items > 0 else 1.0
