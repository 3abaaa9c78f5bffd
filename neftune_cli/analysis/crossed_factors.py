"""Means over two crossed random factors, seeds and items, with standard error and degrees of freedom."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import fdtr, stdtr, stdtrit

from neftune_cli.evidence.measurements import Floats

ROUNDING = 1e-12
"""Differences and standard errors smaller than this share of the values are rounding errors and count as zero."""
MIN_INFORMATIVE_CLUSTERS = 10
"""Fewer clusters than this carry little information. If fewer differ between the arms, seeds often agree by chance, so
the variance between seeds is taken to be at least the residual one (`few_differ` of `crossed_mean`). If a table has
fewer in effect, the variance between clusters is often too small by chance, so no interval is narrower than that of the
clusters alone."""
MIN_EFFECTIVE_CLUSTERS = 1.5
"""With fewer clusters in effect, one of them has more than two thirds of the weight, and the others say almost nothing
about the variance between clusters. The standard error is then unknown."""


@dataclass(frozen=True)
class CrossedMean:
    """A mean over seeds and clusters of items, with its two variance components.

    `seed_variance` and `residual_variance` are variances of the mean of one seed. `item_variance` and
    `cluster_variance` are on the scale of the squared standard error, so they are not divided by the number of seeds.

    With a single observation, with values that do not vary, or if one of several clusters has nearly all of the weight,
    the standard error is unknown. P-values and interval bounds are NaN then.
    """

    mean: float
    seed_variance: float
    """Variance of the mean of one seed. The mean of n seeds has this variance divided by n."""
    item_variance: float
    """Part of the squared standard error that is due to the sample of items. More seeds do not reduce it."""
    seeds: int
    clusters: int
    seed_degrees: float
    """Degrees of freedom of `seed_variance`; 0 if seeds are not a random factor."""
    seed_share: float
    """Share of the squared standard error with `seed_degrees` degrees of freedom. The rest has `cluster_degrees`."""
    seed_ratio: float = math.nan
    """Mean square of seeds divided by the residual mean square. Seeds without an effect have about 1. NaN if only one
    factor varies."""
    residual_variance: float = 0.0
    """Variance that the mean of one seed has if seeds have no effect. 0 if only one factor varies."""
    cluster_variance: float = 0.0
    """Squared standard error of the clusters alone, with `cluster_degrees` degrees of freedom. 0 if it is not used:
    with `MIN_INFORMATIVE_CLUSTERS` or more in effect, and if only one factor varies."""
    evenness: float = 1.0
    """Effective number of clusters divided by their number; 1 if all have the same weight."""

    @property
    def standard_error(self) -> float:
        """Return the standard error of the mean, in the same unit."""
        return math.sqrt(self.seed_variance / self.seeds + self.item_variance)

    @property
    def effective_clusters(self) -> float:
        """Return the number of clusters of equal weight whose mean has the same variance (Kish 1965)."""
        return self.clusters * self.evenness

    @property
    def cluster_degrees(self) -> float:
        """Return the degrees of freedom of the variance between clusters."""
        return self.effective_clusters - 1

    @property
    def has_dominating_cluster(self) -> bool:
        """Return whether one of several clusters has so much weight that the standard error is unknown."""
        return self.clusters > 1 and self.effective_clusters < MIN_EFFECTIVE_CLUSTERS

    @property
    def is_measured(self) -> bool:
        """Return whether the standard error is known (see the class)."""
        return 0 < self.standard_error < math.inf  # also false for NaN

    @property
    def degrees_of_freedom(self) -> float:
        """Return the degrees of freedom of the t statistic, mean / standard error."""
        return weighted_degrees(self.seed_share, self.seed_degrees, self.cluster_degrees)

    def p_value(self, value: float = 0.0) -> float:
        """Return the two-sided p-value for the null hypothesis that the mean is `value`."""
        tail = min(self.p_above(value), self.p_below(value))
        return min(1.0, 2 * tail) if self.is_measured else math.nan

    def p_above(self, value: float) -> float:
        """Return the one-sided p-value for the alternative that the mean is larger than `value`."""
        return self._tail(self.mean - value)

    def p_below(self, value: float) -> float:
        """Return the one-sided p-value for the alternative that the mean is smaller than `value`."""
        return self._tail(value - self.mean)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the bounds of the two-sided confidence interval."""
        if not self.is_measured:
            return math.nan, math.nan
        half = max(float(stdtrit(degrees, 0.5 + confidence / 2)) * error for error, degrees in self._errors())
        return self.mean - half, self.mean + half

    def half_width_of_clusters_alone(self, level: float, seeds: int) -> float:
        """Return half the width of the interval of the clusters alone that is expected with this number of seeds.

        `level` is the error probability of one side. The result is 0 if that interval is not used.
        """
        variance = self.expected_cluster_variance(seeds)
        return float(stdtrit(self.cluster_degrees, 1 - level)) * math.sqrt(variance) if variance else 0.0

    def expected_cluster_variance(self, seeds: int) -> float:
        """Return the expected `cluster_variance` with this number of seeds: only the part of the residual changes."""
        if not self.cluster_variance:
            return 0.0
        return self.item_variance + (self.cluster_variance - self.item_variance) * self.seeds / seeds

    def seeds_agree_too_well(self, level: float = 0.1) -> bool:
        """Return whether the seeds differ less than the residual explains, in a lower-tailed F test at this level."""
        degrees = self.seeds - 1, (self.seeds - 1) * self.cluster_degrees
        return min(degrees) > 0 and float(fdtr(*degrees, self.seed_ratio)) < level  # false for NaN

    def _tail(self, distance: float) -> float:
        if not self.is_measured:
            return math.nan
        return max(float(stdtr(degrees, -distance / error)) for error, degrees in self._errors())

    def _errors(self) -> Iterator[tuple[float, float]]:
        """Yield standard error and degrees of freedom of both factors, of the seeds alone, and of few clusters alone.

        The largest p-value and the widest interval apply. The degrees of freedom of many items could otherwise make the
        interval narrower than that of the seeds alone, and those of many seeds narrower than that of few clusters.
        """
        yield self.standard_error, self.degrees_of_freedom
        if self.seed_variance > 0 and self.seed_degrees > 0:
            yield math.sqrt(self.seed_variance / self.seeds), self.seed_degrees
        if self.cluster_variance > 0:
            yield math.sqrt(self.cluster_variance), self.cluster_degrees


def crossed_mean(
    table: Floats,  # (seeds, clusters)
    *,
    weights: Floats | None = None,  # (seeds, clusters)
    few_differ: bool = False,
    scale: float = 0.0,
) -> CrossedMean:
    """Return the mean of a table whose rows and columns are crossed random factors, from the analysis of variance.

    The squared standard error SE^2 is (MS_seeds + max(0, MS_clusters - MS_residual)) / (seeds * clusters), and the
    square of mean / SE is the quasi-F statistic of two crossed random factors (Cornfield and Tukey 1956; Clark 1973).
    SE^2 is never smaller than that of seeds alone. A t interval over seeds alone would ignore that all seeds share
    their items. With few clusters, no interval is narrower than the t interval over clusters alone. A table with one
    column is a metric without per-item values; the result is then the t interval over seeds.

    A cluster of large weight pulls the mean toward itself and deviates little from it. With unequal weights, the mean
    squares of clusters and of the residual therefore have the deviations of a jackknife, and the degrees of freedom of
    the clusters follow from their effective number.

    Args:
        table: values by seed and cluster, in the metric's unit, as `cluster_table` returns them.
        weights: weights of the clusters in the means of the rows. Default: equal.
        few_differ: whether only a few clusters have a difference other than zero. Seeds then often agree by chance, so
            MS_seeds is replaced with MS_residual if that is larger.
        scale: largest absolute value from which the table was computed, if it is larger than the values of the table.
            Standard errors at the level of rounding errors of this scale count as zero.
    """
    shares = _unequal_shares(weights)
    mean = _of_two_factors(table, shares, few_differ) if len(table) > 1 else _of_clusters(table, shares)
    return _without_unreliable_error(mean, table, scale)


def clustered_mean(
    table: Floats,  # (seeds, clusters)
    *,
    weights: Floats | None = None,  # (seeds, clusters)
    scale: float = 0.0,
) -> CrossedMean:
    """Return the mean of a table whose columns are the only random factor.

    It does not generalize to other seeds than those of the rows. `weights` and `scale` have the same meaning as for
    `crossed_mean`.
    """
    return _without_unreliable_error(_of_clusters(table, _unequal_shares(weights)), table, scale)


def weighted_degrees(seed_share: float, seed_degrees: float, item_degrees: float) -> float:
    """Return the harmonic mean of both degrees of freedom, weighted by the shares of the squared standard error.

    Satterthwaite (1946) weights by squared shares. In simulations this results in up to 6.6% false positives at the 5%
    level, and the harmonic mean in up to 6.0% (docs/statistics.md).
    """
    parts = ((seed_share, seed_degrees), (1 - seed_share, item_degrees))
    inverse = sum(share / degrees for share, degrees in parts if share > 0 and degrees > 0)
    return 1 / inverse if inverse else math.nan


def _of_two_factors(
    table: Floats,  # (seeds, clusters)
    shares: Floats | None,  # (seeds, clusters)
    few_differ: bool,
) -> CrossedMean:
    seeds, clusters = table.shape
    rows, mean = table.mean(axis=1), float(table.mean())
    by_seed = float(np.square(rows - mean).sum()) * clusters / (seeds - 1)
    if clusters == 1:
        return CrossedMean(
            mean,
            seed_variance=by_seed,
            item_variance=0.0,
            seeds=seeds,
            clusters=clusters,
            seed_degrees=seeds - 1,
            seed_share=1.0,
        )
    spread, evenness = _jackknifed(table, shares), _evenness(shares)
    columns = spread.mean(axis=0)
    by_cluster = float(np.square(columns - mean).sum()) * seeds / (clusters - 1)
    residuals = spread - rows[:, None] - columns[None, :] + mean
    residual = float(np.square(residuals).sum()) / ((seeds - 1) * (clusters - 1))
    ratio = by_seed / residual if residual > 0 else math.nan
    if few_differ:
        by_seed = max(by_seed, residual)
    of_items = max(0.0, by_cluster - residual)
    return CrossedMean(
        mean,
        seed_variance=by_seed / clusters,
        item_variance=of_items / (seeds * clusters),
        seeds=seeds,
        clusters=clusters,
        seed_degrees=seeds - 1,
        # Without an effect of seeds, their mean square is about `residual`. A smaller one is chance and must not lower
        # the share of the seeds.
        seed_share=_share(max(by_seed, residual), of_items),
        seed_ratio=ratio,
        residual_variance=residual / clusters,
        cluster_variance=by_cluster / (seeds * clusters) if clusters * evenness < MIN_INFORMATIVE_CLUSTERS else 0.0,
        evenness=evenness,
    )


def _of_clusters(
    table: Floats,  # (seeds, clusters)
    shares: Floats | None,  # (seeds, clusters)
) -> CrossedMean:
    seeds, clusters = table.shape
    mean = float(table.mean(axis=0).mean())
    squares = float(np.square(_jackknifed(table, shares).mean(axis=0) - mean).sum())
    variance = squares / (clusters - 1) / clusters if clusters > 1 else math.nan
    return CrossedMean(
        mean,
        seed_variance=0.0,
        item_variance=variance,
        seeds=seeds,
        clusters=clusters,
        seed_degrees=0,
        seed_share=0.0,
        evenness=_evenness(shares),
    )


def _unequal_shares(
    weights: Floats | None,  # (seeds, clusters)
) -> Floats | None:
    """Return the share of each cluster in the weight of its row, (seeds, clusters). None if all weights are equal."""
    if weights is None or (weights == weights[:, :1]).all():
        return None
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _jackknifed(
    table: Floats,  # (seeds, clusters)
    shares: Floats | None,  # (seeds, clusters)
) -> Floats:
    """Return the table with each deviation from the mean of its row as in a delete-one-cluster jackknife.

    Without a cluster of share h that deviates by D, the mean of a row of C clusters changes by D / C / (1 - h). The
    deviations are normalized so that they do not change if all shares are 1 / C.
    """
    if shares is None:
        return table
    rows = table.mean(axis=1, keepdims=True)
    # The limit keeps the denominator away from 0. With a larger share than this in all seeds, the cluster dominates and
    # the variance is unknown anyway.
    others = np.maximum(1 - shares, 1 - MIN_EFFECTIVE_CLUSTERS**-0.5)
    return np.asarray(rows + (table - rows) * (1 - 1 / table.shape[1]) / others)


def _evenness(
    shares: Floats | None,  # (seeds, clusters)
) -> float:
    """Return the effective number of clusters divided by their number, from their mean shares over the seeds."""
    return 1.0 if shares is None else 1 / (float(np.square(shares.mean(axis=0)).sum()) * shares.shape[1])


def _without_unreliable_error(mean: CrossedMean, table: Floats, scale: float) -> CrossedMean:
    """Return the mean, with an unknown standard error if one cluster dominates or if only rounding errors vary.

    Other means are unchanged.
    """
    if mean.has_dominating_cluster:
        return replace(mean, item_variance=math.nan)
    if mean.standard_error > ROUNDING * max(scale, float(np.abs(table).max())):
        return mean
    nothing = mean.item_variance * 0.0  # NaN stays NaN
    return replace(mean, seed_variance=0.0, item_variance=nothing, cluster_variance=0.0)


def _share(by_seed: float, of_items: float) -> float:
    if by_seed > 0:
        return by_seed / (by_seed + of_items)
    # Without any variation, the degrees of freedom are those of the seeds. The standard error is 0 then.
    return 0.0 if of_items > 0 else 1.0
