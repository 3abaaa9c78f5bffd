"""Power analysis from measured uncertainty: minimum detectable effects and numbers of seeds.

If no uncertainty was measured (`CrossedMean.is_measured` is false), effects and powers are NaN.
"""

import math
from dataclasses import replace

import numpy as np
from scipy.special import chdtrc, nctdtr, stdtrit

from neftune_cli.analysis.crossed_factors import CrossedMean

POWER = 0.8
"""Power for which minimum detectable effects and numbers of seeds are computed."""
MAX_SEEDS = 1000
"""Largest number of seeds that is considered."""
_NODES = 64
"""Nodes of the Gaussian quadrature."""


def minimum_detectable_effect(mean: CrossedMean, *, level: float, power: float = POWER) -> float:
    """Return the smallest true difference that a test at this two-sided level detects with this power.

    The result has the unit of the mean. It is found by bisection on the power of the noncentral t distribution.
    """
    if not mean.is_measured:
        return math.nan
    return mean.standard_error * _detectable_shift(mean.degrees_of_freedom, level, power)


def power_of_test(difference: float, mean: CrossedMean, *, level: float) -> float:
    """Return the power of a two-sided test at this level for a true difference of this size."""
    if not mean.is_measured:
        return math.nan
    return _power(abs(difference) / mean.standard_error, mean.degrees_of_freedom, level)


def power_of_equivalence_test(difference: float, mean: CrossedMean, *, margin: float, level: float) -> float:
    """Return the approximate power of two one-sided tests at this level to show a true difference within the margin."""
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
    """Return the expected uncertainty with another number of seeds, if the measured variances are the true ones."""
    of_seeds = mean.seed_variance / seeds
    total = of_seeds + mean.item_variance
    share = of_seeds / total if total > 0 else 1.0
    return replace(mean, seeds=seeds, seed_degrees=seeds - 1, seed_share=share)


def required_seeds(mean: CrossedMean, *, margin: float, level: float, power: float = POWER) -> int | None:
    """Return the total number of seeds that is needed to show the difference or equivalence with this power.

    The measured difference and variances are treated as the true ones. Return None if `MAX_SEEDS` are not enough,
    because the held-out items limit the precision or the difference is too close to the margin. Also return None if no
    uncertainty was measured.
    """

    def is_enough(seeds: int) -> bool:
        expected = with_seeds(mean, seeds)
        shown = power_of_test(mean.mean, expected, level=level)
        return max(shown, power_of_equivalence_test(mean.mean, expected, margin=margin, level=level)) >= power

    if not is_enough(MAX_SEEDS):
        return None
    low, high = mean.seeds, MAX_SEEDS  # power increases with seeds, so bisection finds the smallest number
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
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
    """Return the same distribution function for extreme arguments, where scipy returns NaN.

    (Z + shift) / s is below a positive value if s exceeds (Z + shift) / value. The probability of this is averaged over
    the normal variable Z. For extreme shifts, Z + shift is never negative.
    """
    if value <= 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    least = np.maximum(0.0, nodes + shift) / value
    return float(chdtrc(degrees, degrees * np.square(least)) @ weights / weights.sum())
