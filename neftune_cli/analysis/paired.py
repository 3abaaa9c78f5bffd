"""The paired comparison of two arms: one difference, what it is uncertain by, and what it is a statement about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neftune_cli.analysis.crossed import ROUNDING, CrossedMean, clustered_mean, crossed_mean
from neftune_cli.evidence.measurements import Floats

FEWEST_SEEDS = 3
"""With fewer paired seeds nothing is said about the method, only about the trained checkpoints."""
FEWEST_INFORMATIVE_CLUSTERS = 10
"""With fewer clusters in which anything differs, seeds that agree by luck are not taken for seeds that agree."""

Method = Literal["t", "sign-flip", "bootstrap"]


@dataclass(frozen=True)
class PairedComparison:
    """Treated minus baseline, in the unit of the compared values."""

    difference: float
    ci_low: float
    """Not a number, like `ci_high` and `p_value`, where nothing says how sure the difference is: one number alone, or
    differences that don't vary."""
    ci_high: float
    p_value: float
    """Two-sided, for no difference; not corrected for other comparisons."""
    seeds: int
    items: int
    clusters: int
    """Independent groups among the items."""
    about: Literal["method", "checkpoints"]
    """What is generalised to: other seeds and items, or, with fewer than three seeds, other items alone."""
    confidence: float
    mean: CrossedMean
    """Standard error and degrees of freedom, for equivalence and planning."""


def paired_comparison(
    baseline: ArrayLike,  # (seeds, items)
    treated: ArrayLike,  # (seeds, items)
    *,
    confidence: float = 0.95,
    clusters: Sequence[object] | None = None,
    seed: int = 0,
    weights: ArrayLike | None = None,
    method: Method = "t",
) -> PairedComparison:
    """Compare two arms that share their seeds (rows) and items (columns).

    With three seeds or more the statement is about the method: seeds and clusters of items are two crossed samples, see
    `crossed_mean`. With fewer it is about these checkpoints: clusters alone are a sample. Differences that don't vary,
    like those of few items that both arms got right, prove nothing: there is no interval and no p-value then.

    >>> without = [[1.0, 2.0], [1.1, 2.1], [0.9, 2.2]]  # three seeds, two items
    >>> with_noise = [[1.2, 2.1], [1.2, 2.4], [1.3, 2.3]]
    >>> one = paired_comparison(without, with_noise)
    >>> f"{one.difference:+.2f} ({one.ci_low:+.2f} to {one.ci_high:+.2f}), p = {one.p_value:.2f}"
    '+0.20 (-0.11 to +0.51), p = 0.11'

    Args:
        baseline: values of the arm compared with, (seeds, items); a score without items is one column.
        treated: values of the other arm, of the same shape.
        confidence: of the interval, between 0 and 1.
        clusters: a label an item; items of one label, like questions about one person, stand or fall together. By
            default every item is independent.
        seed: of the resampling, where there is some.
        weights: of the items, (items,) or (seeds, items), such as their tokens; equal by default.
        method: "t" is the crossed t interval. The others are here to be compared with it: "sign-flip" takes the p-value
            from flipping the signs of the seeds' mean differences, all ways of it up to 12 seeds (fewer than 6 can't
            reach 5%); "bootstrap" resamples seeds and clusters.

    Raises:
        ValueError: shapes differ, a value is not finite, a weight is negative or a seed's weights are all zero, or
            `confidence` isn't between 0 and 1.
    """
    first, second = _values(baseline, treated, confidence)
    difference = second - first
    weighted = _weights(weights, difference.shape)
    table = cluster_table(difference, weighted, clusters)
    about_method = len(table) >= FEWEST_SEEDS
    scale = float(np.abs([first, second]).max())
    if about_method:
        differ = _informative(np.abs(difference) > ROUNDING * scale, clusters)
        mean = crossed_mean(table, few_differ=differ < FEWEST_INFORMATIVE_CLUSTERS, scale=scale)
    else:
        mean = clustered_mean(table, scale=scale)
    low, high, p_value = _inference(mean, table, confidence, method, seed)
    return PairedComparison(
        difference=mean.mean,
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        seeds=difference.shape[0],
        items=difference.shape[1],
        clusters=table.shape[1],
        about="method" if about_method else "checkpoints",
        confidence=confidence,
        mean=mean,
    )


def cluster_table(
    values: Floats,  # (seeds, items)
    weights: Floats,  # (seeds, items)
    clusters: Sequence[object] | None = None,
) -> Floats:
    """Return values of whole clusters, (seeds, clusters): rows keep their weighted means, whatever the clusters weigh.

    A weighted mean over clusters of unequal size is a ratio; its linearisation turns it into a plain mean over clusters
    with the same variance (Cochran 1977, section 6.3). Clusters come in the order of their first item.
    """
    place = _places(clusters, values.shape[1])
    count = int(place.max()) + 1
    total = weights.sum(axis=1, keepdims=True)
    means: Floats = (weights * values).sum(axis=1, keepdims=True) / total
    shares = weights * (values - means) / total
    sums = np.stack([np.bincount(place, weights=row, minlength=count) for row in shares])
    return means + count * sums


def _places(clusters: Sequence[object] | None, items: int) -> NDArray[np.int64]:
    if clusters is None:
        return np.arange(items)
    if len(clusters) != items:
        raise ValueError(f"{len(clusters)} cluster labels for {items} items")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(clusters))}
    return np.array([numbers[label] for label in clusters])


def _informative(
    differs: NDArray[np.bool_],  # (seeds, items)
    clusters: Sequence[object] | None,
) -> int:
    # of the differences themselves: linearised, clusters of unequal weight differ from each other wherever they stand
    return len(np.unique(_places(clusters, differs.shape[1])[differs.any(axis=0)]))


def _inference(
    mean: CrossedMean, table: Floats, confidence: float, method: Method, seed: int
) -> tuple[float, float, float]:
    """Return the interval's two ends and the p-value."""
    if method == "bootstrap" and mean.is_measured:
        return bootstrap_interval(table, confidence=confidence, seed=seed, over_seeds=len(table) >= FEWEST_SEEDS)
    if method == "sign-flip" and mean.is_measured:
        return *mean.interval(confidence), sign_flip_p_value(table.mean(axis=1), seed=seed)
    return *mean.interval(confidence), mean.p_value()


def _values(baseline: ArrayLike, treated: ArrayLike, confidence: float) -> tuple[Floats, Floats]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, not between 0 and 1")
    first, second = np.asarray(baseline, dtype=np.float64), np.asarray(treated, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise ValueError(f"baseline {first.shape} and treated {second.shape} are not of one shape (seeds, items)")
    if not np.isfinite(second - first).all():
        raise ValueError("a value is not finite")
    return first, second


def _weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    weighted = np.broadcast_to(np.asarray(1.0 if weights is None else weights, dtype=np.float64), shape)
    if (weighted < 0).any() or not (weighted.sum(axis=1) > 0).all():
        raise ValueError("weights are negative, or all zero in a seed")
    return weighted


MOST_EXACT_SEEDS = 12
"""Up to so many seeds all signs are tried; beyond, a random sample of them."""
RESAMPLES = 5000


def sign_flip_p_value(
    differences: Floats,  # (seeds,)
    *,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value for differences symmetric about zero, by flipping their signs (Fisher 1935).

    It takes items for fixed. Its smallest value is 2 / 2**seeds.
    """
    count = len(differences)
    if count <= MOST_EXACT_SEEDS:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(RESAMPLES, count))
        signs = np.vstack([np.ones(count), signs])  # what was observed is one of the ways
    flipped = np.abs(signs @ differences)
    observed = abs(differences.sum())
    return float(np.mean(flipped >= observed * (1 - 1e-12)))


def bootstrap_interval(
    table: Floats,  # (seeds, clusters)
    *,
    confidence: float,
    seed: int = 0,
    over_seeds: bool = True,
) -> tuple[float, float, float]:
    """Return the percentile interval and the two-sided p-value of the table's mean, resampling rows and columns.

    All seeds answer the same items, so columns are drawn once for all rows (Owen 2007, "The pigeonhole bootstrap").
    `over_seeds` False draws columns alone.
    """
    seeds, clusters = table.shape
    draws = np.random.default_rng(seed)
    by_seed = table @ _resampled(clusters, draws).T  # (seeds, resamples)
    if over_seeds:
        rows = _resampled(seeds, draws)
        means = np.einsum("rs,sr->r", rows, by_seed)
    else:
        means = by_seed.mean(axis=0)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    tail = min(np.mean(means <= 0), np.mean(means >= 0))
    return float(low), float(high), float(min(1.0, 2 * (tail * RESAMPLES + 1) / (RESAMPLES + 1)))


def _resampled(size: int, draws: np.random.Generator) -> Floats:
    """Return the share of each of `size` units in samples with replacement, (resamples, size)."""
    # counting drawn numbers is several times faster than drawing from the multinomial distribution
    units = draws.integers(size, size=(RESAMPLES, size)) + size * np.arange(RESAMPLES)[:, None]
    return np.bincount(units.ravel(), minlength=RESAMPLES * size).reshape(RESAMPLES, size) / size
