"""Chances of a decision, compared with simulated sweeps, exact power, and limiting cases."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, nct, norm, t
from statsmodels.stats.power import TTestPower

from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.outlook import Family, Outlook, outlook, seeds_for_equivalence
from neftune_cli.analysis.sequential import SequentialTest

FIVE_TO_TWENTY = SequentialTest((5, 8, 12, 20))


def measured(mean: float = 0.3, variance: float = 1.0, seeds: int = 5, items: float = 0.0) -> CrossedMean:
    clusters, share = (200, variance / seeds / (variance / seeds + items)) if items else (1, 1.0)
    return CrossedMean(mean, variance, items, seeds, clusters, seeds - 1, share)


def chances(mean: CrossedMean, effect: float, margin: float = 0.5, arms: int = 1) -> list[Outlook]:
    looks = [seeds for seeds in FIVE_TO_TWENTY.looks if seeds > mean.seeds]
    return outlook(
        mean, effect, margin=margin, test=FIVE_TO_TWENTY, significance=0.05, looks=looks, family=Family(arms)
    )


def test_chances_rise_with_the_seeds_and_lie_in_their_ranges() -> None:
    for effect in (0.0, 0.5, 1.0):
        found = chances(measured(), effect)
        assert [one.seeds for one in found] == [8, 12, 20]
        assert [one.chance for one in found] == sorted(one.chance for one in found)
        assert all(0 <= one.low <= one.chance <= one.high <= 1 for one in found)
        assert {one.effect for one in found} == {effect}


def test_many_seeds_of_one_look_have_the_power_of_the_t_test() -> None:
    """With three measured seeds of one hundred, the chance is nearly that of a fixed design."""
    mean = measured(0.3, variance=1.0, seeds=3)
    test = SequentialTest((100,))
    (found,) = outlook(mean, 0.3, margin=1e-9, test=test, significance=0.05, looks=[100])
    variance = 2 * 1.0 / chi2.ppf(0.5, 3)  # the sum of squares of three seeds around 0.3 is 2
    power = TTestPower().power(0.3 / math.sqrt(variance), 100, 0.05)
    assert found.chance == pytest.approx(power, abs=0.03)


def test_range_is_that_of_the_variance() -> None:
    mean, test = measured(0.3, variance=1.0, seeds=3), SequentialTest((60,))
    (found,) = outlook(mean, 0.3, margin=1e-9, test=test, significance=0.05, looks=[60])
    ends = [0.3 / math.sqrt(2 / chi2.ppf(share, 3) / 60) for share in (0.1, 0.9)]
    powers = [nct.sf(t.isf(0.025, 59), 59, end) for end in ends]
    assert (found.low, found.high) == pytest.approx(tuple(powers), abs=0.04)


def test_distance_to_the_assumed_effect_counts_as_variance() -> None:
    near, far = (chances(measured(distance, variance=0.1), 0.0, margin=0.6)[0].chance for distance in (0.1, 0.5))
    assert near > far


def test_several_arms_have_smaller_chances_than_one() -> None:
    one, three = chances(measured(), 0.7), chances(measured(), 0.7, arms=3)
    assert three[1].chance < one[1].chance
    assert all(several.chance <= alone.chance for several, alone in zip(three, one, strict=True))
    assert three[-1].chance > one[-1].chance / 2


def test_decided_arms_count_only_in_the_tests_that_do_not_decide_them() -> None:
    """Hommel's method rejects the decided arms, and divides the level of the other test among them."""
    alone, different = Family(open=1), Family(open=1, different=4)
    assert alone.levels(0.05, 0) == (0.05, 0.05)
    assert different.levels(0.05, 0) == (0.05, 0.01)
    assert Family(open=2, equivalent=1).levels(0.06, 1) == (0.03, 0.06)
    assert Family(open=2, equivalent=1).levels(0.06, 0) == (0.02, 0.03)


def test_items_limit_the_chance_of_equivalence() -> None:
    few_items = chances(measured(0.0, items=0.09), 0.0)[-1]
    assert few_items.chance < chances(measured(0.0), 0.0)[-1].chance
    assert few_items.high < 0.5  # the standard error is at least 0.3, and the margin is 0.5


def few_clusters(mean: float = 0.0, clusters: int = 2) -> CrossedMean:
    """Return a difference of five seeds whose residual is all that varies, 1 for the mean of one seed."""
    return replace(measured(mean), clusters=clusters, residual_variance=1.0, cluster_variance=1 / 5)


def test_few_clusters_limit_the_chances_to_those_of_the_clusters_alone() -> None:
    """With two clusters the t statistic has one degree of freedom, and must exceed 12.7 and, one-sided, 6.3."""
    mean, test = few_clusters(), SequentialTest((100,))
    alone = math.sqrt(1 / 100) * t.isf(0.025, 1), math.sqrt(1 / 100) * t.isf(0.05, 1)
    (none,) = outlook(mean, 0.9 * alone[0], margin=1e-9, test=test, significance=0.05, looks=[100])
    (likely,) = outlook(mean, 1.5 * alone[0], margin=1e-9, test=test, significance=0.05, looks=[100])
    assert none.chance < 0.2
    assert likely.chance > 0.9
    narrow, wide = (
        outlook(mean, 0.0, margin=margin, test=test, significance=0.05, looks=[100])[0].chance
        for margin in (alone[1], 1.6 * alone[1])
    )
    assert narrow == 0
    assert wide > 0.9


def test_few_clusters_need_more_seeds_for_equivalence() -> None:
    seeds = seeds_for_equivalence(few_clusters(), 0.5, significance=0.05)
    assert seeds is not None
    # |mean| + 6.3 * error must be within the margin in 80% of the sweeps: (6.31 + 1.28) / sqrt(seeds) = 0.5
    assert seeds == pytest.approx(((t.isf(0.05, 1) + norm.isf(0.1)) / 0.5) ** 2, abs=2)


@pytest.mark.parametrize("number", [2, 4, 40])
def test_chances_follow_from_the_effective_number_of_clusters(number: int) -> None:
    equal = replace(measured(items=0.2), clusters=number, cluster_variance=0.3 if number < 10 else 0.0)
    unequal = replace(equal, clusters=5 * number, evenness=0.2)
    assert chances(unequal, 0.3, margin=3.0) == chances(equal, 0.3, margin=3.0)
    assert chances(unequal, 0.3, margin=3.0) != chances(replace(unequal, evenness=1.0), 0.3, margin=3.0)
    needed = [seeds_for_equivalence(one, 12.0, significance=0.05) for one in (equal, unequal)]
    assert needed[0] == needed[1]
    assert needed[0] is not None


def test_no_chance_without_a_variance() -> None:
    assert chances(replace(measured(), seed_variance=0.0), 1.0) == []
    assert chances(replace(measured(), seed_degrees=0), 1.0) == []


@pytest.mark.parametrize(("margin", "significance"), [(0.3, 0.05), (0.5, 0.05), (1.3, 0.05 / 3), (1.9, 0.05 / 3)])
def test_seeds_for_equivalence_are_the_fewest_with_the_power(margin: float, significance: float) -> None:
    def power(seeds: int) -> float:
        values = np.random.default_rng(0).normal(size=(40_000, seeds))
        errors = values.std(axis=1, ddof=1) / math.sqrt(seeds)
        return float(np.mean(np.abs(values.mean(axis=1)) + t.isf(significance, seeds - 1) * errors < margin))

    seeds = seeds_for_equivalence(measured(), margin, significance)

    assert seeds is not None
    assert power(seeds) >= 0.795  # three Monte Carlo standard errors below 80%
    assert power(seeds - 1) < 0.805


def test_equivalence_needs_three_seeds_even_with_a_wide_margin() -> None:
    assert seeds_for_equivalence(measured(), 100.0, significance=0.05) == 3


def test_no_number_of_seeds_is_enough_if_items_limit_the_precision() -> None:
    assert seeds_for_equivalence(measured(items=0.09), 0.5, significance=0.05) is None
    assert seeds_for_equivalence(measured(), 0.0, significance=0.05) is None
