"""What a comparison could have seen, and how many seeds would settle it: planning, from the uncertainty measured.

Where no uncertainty was measured (`CrossedMean.is_measured`) there is nothing to plan from: differences and powers are
not numbers.
"""

import math
from dataclasses import replace

import numpy as np
from scipy.special import chdtrc, nctdtr, stdtrit

from neftune_cli.analysis.crossed import CrossedMean

POWER = 0.8
"""Chance of a clear answer that plans aim at."""
MOST_SEEDS = 1000
"""Plans beyond it are no plans."""
_NODES = 64
"""Of Gaussian quadrature."""


def detectable_difference(mean: CrossedMean, *, level: float, power: float = POWER) -> float:
    """Return the smallest true difference that a test at this two-sided level finds with this power.

    Bisects the power of the noncentral t distribution, in the unit of the mean.
    """
    if not mean.is_measured:
        return math.nan
    return mean.standard_error * _detectable_shift(mean.degrees_of_freedom, level, power)


def power_of_test(difference: float, mean: CrossedMean, *, level: float) -> float:
    """Return the chance that a two-sided test at this level finds a true difference of this size."""
    if not mean.is_measured:
        return math.nan
    return _power(abs(difference) / mean.standard_error, mean.degrees_of_freedom, level)


def power_of_equivalence(difference: float, mean: CrossedMean, *, margin: float, level: float) -> float:
    """Return about the chance that two one-sided tests at this level find a true difference within the margin."""
    if not mean.is_measured:
        return math.nan
    critical = float(stdtrit(mean.degrees_of_freedom, 1 - level))
    missed = sum(
        _chance_below(critical, mean.degrees_of_freedom, (margin + side * difference) / mean.standard_error)
        for side in (-1, 1)
        if margin + side * difference > 0
    )
    return max(0.0, 1 - missed) if abs(difference) < margin else 0.0


def with_seeds(mean: CrossedMean, seeds: int) -> CrossedMean:
    """Return the uncertainty to expect of so many seeds, if variances are what they were measured to be."""
    of_seeds = mean.seed_variance / seeds
    total = of_seeds + mean.item_variance
    share = of_seeds / total if total > 0 else 1.0
    return replace(mean, seeds=seeds, seed_degrees=seeds - 1, seed_share=share)


def seeds_to_settle(mean: CrossedMean, *, margin: float, level: float, power: float = POWER) -> int | None:
    """Return how many seeds in all would show the difference or its equivalence, if it is what it was measured to be.

    None where no number up to `MOST_SEEDS` would, because the held-out items limit it or the difference is too close to
    the margin; and where no uncertainty was measured.
    """

    def settles(seeds: int) -> bool:
        expected = with_seeds(mean, seeds)
        shown = power_of_test(mean.mean, expected, level=level)
        return max(shown, power_of_equivalence(mean.mean, expected, margin=margin, level=level)) >= power

    if not settles(MOST_SEEDS):
        return None
    low, high = mean.seeds, MOST_SEEDS  # power grows with seeds, so halving finds the first that is enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle, high)
    return high


def _detectable_shift(degrees: float, level: float, power: float) -> float:
    low, high = 0.0, 1.0
    while _power(high, degrees, level) < power:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, degrees, level) >= power else (middle, high)
    return high


def _power(shift: float, degrees: float, level: float) -> float:
    critical = float(stdtrit(degrees, 1 - level / 2))
    return 1 - _chance_below(critical, degrees, shift) + _chance_below(-critical, degrees, shift)


def _chance_below(value: float, degrees: float, shift: float) -> float:
    """Return the distribution function of the noncentral t distribution, shift >= 0."""
    chance = float(nctdtr(degrees, shift, value))
    return _averaged_chance_below(value, degrees, shift) if math.isnan(chance) else chance


def _averaged_chance_below(value: float, degrees: float, shift: float) -> float:
    """Return the same where scipy has no number, far out: the chance given the normal numerator, averaged over it.

    (Z + shift) / s lies below a positive value where s exceeds (Z + shift) / value; far out it is never negative.
    """
    if value <= 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    least = np.maximum(0.0, nodes + shift) / value
    return float(chdtrc(degrees, degrees * np.square(least)) @ weights / weights.sum())
