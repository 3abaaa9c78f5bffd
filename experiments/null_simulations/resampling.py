"""Sign-flip test and pigeonhole bootstrap: alternatives to the t interval for crossed random factors."""

import numpy as np

from neftune_cli.evidence.measurements import Floats

MAX_EXACT_SEEDS = 12
"""Largest number of seeds for which all sign patterns are enumerated. For more seeds they are sampled."""
RESAMPLES = 5000
"""Number of bootstrap resamples and of sampled sign patterns."""


def sign_flip_p_value(
    differences: Floats,  # (seeds,)
    *,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value of the sign-flip test (Fisher 1935): differences are symmetric about zero.

    Items are treated as fixed. The smallest possible p-value is 2 / 2**seeds.
    """
    count = len(differences)
    if count <= MAX_EXACT_SEEDS:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(RESAMPLES, count))
        signs = np.vstack([np.ones(count), signs])  # the observed pattern counts too
    flipped = np.abs(signs @ differences)
    observed = abs(differences.sum())
    return float(np.mean(flipped >= observed * (1 - 1e-12)))


def bootstrap_interval(
    table: Floats,  # (seeds, clusters)
    *,
    confidence: float,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the bounds of the percentile interval and the two-sided p-value of the table's mean.

    Rows and columns are resampled. All seeds share their items, so one sample of columns is used for all rows (Owen
    2007, "The pigeonhole bootstrap").
    """
    seeds, clusters = table.shape
    draws = np.random.default_rng(seed)
    by_seed = table @ _resampled(clusters, draws).T  # (seeds, resamples)
    means = np.einsum("rs,sr->r", _resampled(seeds, draws), by_seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    tail = min(np.mean(means <= 0), np.mean(means >= 0))
    return float(low), float(high), float(min(1.0, 2 * (tail * RESAMPLES + 1) / (RESAMPLES + 1)))


def _resampled(size: int, draws: np.random.Generator) -> Floats:
    """Return the share of each of `size` units in every sample with replacement, (resamples, size)."""
    # counting drawn indices is several times faster than the multinomial distribution of numpy
    units = draws.integers(size, size=(RESAMPLES, size)) + size * np.arange(RESAMPLES)[:, None]
    return np.bincount(units.ravel(), minlength=RESAMPLES * size).reshape(RESAMPLES, size) / size
