"""Chances of a decision with more seeds, for assumed true differences, from the variances that were measured."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, stdtrit

from neftune_cli.analysis.crossed_factors import CrossedMean, weighted_degrees
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.evidence.measurements import Floats

CONTINUATIONS = 4_000
"""Number of simulated continuations. The standard error of a chance is at most 0.8 percentage points."""
VARIANCE_QUANTILES = 400
"""Number of quantiles of the estimated variance over which the power of a test is averaged."""
POWER = 0.8
"""Power with which equivalence is to be shown by the stated number of seeds."""
MOST_SEEDS = 1_000_000
"""Largest number of seeds that is stated for equivalence."""
SPREAD = 0.8
"""Confidence level of the range of the seed variance, from which the range of a chance follows."""


@dataclass(frozen=True)
class Outlook:
    """Chance that a difference is decided with a number of seeds, if its true value is known."""

    seeds: int
    """Total number of seeds."""
    effect: float
    """Assumed true difference, in the metric's unit."""
    chance: float
    """Chance of a decision, 0 to 1, if the variance between seeds is at the median of its distribution."""
    low: float
    """Lowest of the chances for a seed variance at the median and at both ends of its interval, whose level is
    `SPREAD`."""
    high: float
    """Highest of these chances."""


@dataclass(frozen=True)
class Family:
    """Numbers of arms whose tests are adjusted together with Hommel's method: for difference, and for equivalence."""

    open: int
    """Arms without a decision, the one in question included."""
    different: int = 0
    """Arms that are shown to differ from the baseline, and not to be equivalent to it."""
    equivalent: int = 0

    def levels(self, significance: float, significant: int) -> tuple[float, float]:
        """Return the significance levels of the tests for difference and for equivalence of an open arm.

        A test that is significant leaves the level to the others. An arm that one of the two tests has decided stays in
        the family of the other test, whose level is divided by it as well.

        Args:
            significance: significance level of each family.
            significant: number of other open arms that get decided, as if both of their tests were significant.
        """
        left = self.open - significant
        return significance / (left + self.equivalent), significance / (left + self.different)


ALONE = Family(open=1)


@dataclass(frozen=True)
class _Assumption:
    """A measured difference with an assumed true one, and the tests that are to decide it."""

    mean: CrossedMean
    effect: float
    margin: float
    test: SequentialTest

    def seed_variance(self, quantile: float) -> float:
        """Return a quantile of the seed variance, given the measured seeds and the true difference."""
        mean = self.mean
        between = mean.seed_variance * (mean.seeds - 1)
        to_effect = mean.seeds * self.share_of_seeds * (mean.mean - self.effect) ** 2
        return (between + to_effect) / float(chdtri(mean.seeds, quantile))

    @property
    def share_of_seeds(self) -> float:
        """Return the share of the squared standard error that is due to seeds; the rest is due to the items."""
        return self.mean.seed_variance / self.mean.seeds / self.mean.standard_error**2


def outlook(
    mean: CrossedMean,
    effect: float,
    *,
    margin: float,
    test: SequentialTest,
    significance: float,
    looks: Sequence[int],
    family: Family = ALONE,
) -> list[Outlook]:
    """Return the chance of a decision until each of these numbers of seeds.

    The measured seeds are kept and the missing ones are simulated, with normal differences around the assumed true
    value. A decision is a test for difference or for equivalence that is significant at a look that is still to come.

    The seed variance is estimated from the squared distances of the measured seeds to the assumed true value, which has
    one degree of freedom for each seed.

    Args:
        mean: the measured difference of at least two seeds.
        effect: assumed true difference, in the metric's unit.
        margin: equivalence margin, in the same unit.
        test: the planned looks.
        significance: significance level of each of the two families of tests.
        looks: numbers of seeds, each one of `test.looks`, larger than the measured number.
        family: the arms whose tests are adjusted together. The chance is between those of the highest and the lowest
            levels of their tests, as if all open arms had the same true difference and were independent.
    """
    if not mean.is_measured or mean.seed_degrees < 1:
        return []
    assumed = _Assumption(mean, effect, margin, test)
    variances = [assumed.seed_variance(quantile) for quantile in (0.5, (1 - SPREAD) / 2, (1 + SPREAD) / 2)]
    decided = [_in_family(assumed, variance, significance, family) for variance in variances]
    return [Outlook(seeds, effect, *_chance_with_range(*(one[seeds] for one in decided))) for seeds in looks]


def _chance_with_range(chance: float, *ends: float) -> tuple[float, float, float]:
    """Return the chance and the lower and the upper end of its range, which contains the chance."""
    return chance, min(chance, *ends), max(chance, *ends)


def seed_variance_range(mean: CrossedMean) -> tuple[float, float]:
    """Return the interval of the seed variance at the confidence level `SPREAD`, for normal differences.

    It needs at least one degree of freedom.
    """
    tails = (1 - SPREAD) / 2, (1 + SPREAD) / 2
    high, low = (mean.seed_variance * mean.seed_degrees / float(chdtri(mean.seed_degrees, 1 - tail)) for tail in tails)
    return low, high


def _in_family(assumed: _Assumption, variance: float, significance: float, family: Family) -> dict[int, float]:
    """Return the chance of a decision until each look to come, by its number of seeds, for an open arm of a family.

    If all other open arms are decided too, the highest levels apply, otherwise the lowest. As the arms count as
    independent and alike, all others are decided with the probability `high ** (open - 1)`.
    """
    high, low = (_decided(assumed, variance, family.levels(significance, others)) for others in (family.open - 1, 0))
    return {seeds: low[seeds] + (high[seeds] - low[seeds]) * high[seeds] ** (family.open - 1) for seeds in high}


def _decided(assumed: _Assumption, variance: float, significance: tuple[float, float]) -> dict[int, float]:
    """Return the share of paths with a decision until each look to come, by its number of seeds.

    The significance levels are those of the test for difference and of the test for equivalence, over all looks.
    """
    mean, test = assumed.mean, assumed.test
    draws = np.random.default_rng(1)
    # New seeds are measured on the same items. The measured mean tells how far these items are from all items: the
    # distance is drawn from its normal distribution, given the mean.
    item_share = 1 - assumed.share_of_seeds
    known = item_share * (mean.mean - assumed.effect)
    item_effects = known + draws.normal(size=CONTINUATIONS) * math.sqrt(mean.item_variance * (1 - item_share))
    expected = assumed.effect + item_effects
    sums = np.full(CONTINUATIONS, mean.mean * mean.seeds)
    squares = np.full(CONTINUATIONS, mean.seed_variance * (mean.seeds - 1) + mean.mean**2 * mean.seeds)
    seen, decided, shares = mean.seeds, np.zeros(CONTINUATIONS, dtype=bool), {}
    for look, seeds in enumerate(test.looks):
        if seeds <= seen:
            continue
        new = seeds - seen
        added = expected * new + draws.normal(size=CONTINUATIONS) * np.sqrt(variance * new)
        within = variance * (draws.chisquare(new - 1, CONTINUATIONS) if new > 1 else 0.0)
        sums, squares, seen = sums + added, squares + added**2 / new + within, seeds
        seed_part = np.maximum(squares - sums**2 / seeds, 0) / (seeds - 1) / seeds  # of the squared standard error
        levels = test.level(significance[0], look), test.level(2 * significance[1], look)
        decided |= _is_decided(assumed, np.abs(sums) / seeds, seed_part, seeds, levels)
        shares[seeds] = float(decided.mean())
    return shares


def _is_decided(
    assumed: _Assumption,
    sizes: Floats,  # (paths,)
    seed_part: Floats,  # (paths,), of the squared standard error
    seeds: int,
    levels: tuple[float, float],
) -> NDArray[np.bool_]:
    """Return whether a difference of this size is significant, or equivalent to zero, (paths,)."""
    squared = seed_part + assumed.mean.item_variance
    share = float(np.median(seed_part / squared))
    degrees = weighted_degrees(share, seeds - 1, assumed.mean.cluster_degrees)
    different, equivalent = (
        np.maximum(
            float(stdtrit(degrees, 1 - level / 2)) * np.sqrt(squared),
            assumed.mean.half_width_of_clusters_alone(level / 2, seeds),
        )
        for level in levels
    )
    return np.asarray((sizes > different) | (assumed.margin - sizes > equivalent))


def seeds_for_equivalence(mean: CrossedMean, margin: float, significance: float) -> int | None:
    """Return the smallest number of seeds that shows equivalence with the power `POWER` if the true difference is 0.

    The measured variances are taken as the true ones. Return None if no number up to `MOST_SEEDS` is enough, because
    the held-out items limit the precision, or if no variance was measured.
    """
    if not mean.is_measured or margin <= 0 or _equivalence_power(mean, margin, significance, MOST_SEEDS) < POWER:
        return None
    return bisect_left(
        range(MOST_SEEDS), POWER, lo=MIN_SEEDS, key=partial(_equivalence_power, mean, margin, significance)
    )


def _equivalence_power(mean: CrossedMean, margin: float, significance: float, seeds: int) -> float:
    """Return the power of two one-sided t-tests at a true difference of 0, averaged over the estimated variance."""
    quantiles = (np.arange(VARIANCE_QUANTILES) + 0.5) / VARIANCE_QUANTILES
    estimated = mean.seed_variance * chdtri(seeds - 1, quantiles) / (seeds - 1) / seeds  # of the squared standard error
    squared = estimated + mean.item_variance
    degrees = weighted_degrees(float(np.median(estimated / squared)), seeds - 1, mean.cluster_degrees)
    of_both = float(stdtrit(degrees, 1 - significance)) * np.sqrt(squared)
    largest = margin - np.maximum(of_both, mean.half_width_of_clusters_alone(significance, seeds))
    true_error = math.sqrt(mean.seed_variance / seeds + mean.item_variance)
    return float(np.mean(2 * ndtr(np.maximum(largest, 0) / true_error) - 1))
