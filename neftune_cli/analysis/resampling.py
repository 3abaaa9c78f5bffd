"""Inference by resampling: what the crossed t interval is compared with in simulations."""

import numpy as np

from neftune_cli.evidence.measurements import Floats

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
