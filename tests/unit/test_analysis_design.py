"""Designs with hand-made differences: decided arms, planned seeds, the test of noise, roles of arms; against scipy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.design import Design
from neftune_cli.analysis.results import MetricAssessment
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.analysis.verdicts import untested_reason
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.metrics import METRICS
from tests.measured_trials import arm, joined, with_items

LOSS = METRICS["eval_loss"]
MARGIN = 0.01
LOOKS = (3, 5)
FIXED_SEEDS = AnalysisPlan()
TWO_LOOKS = AnalysisPlan(looks=LOOKS, seeds=(0, 1, 2, 3, 4), looks_taken=2)
CLEAR = (-0.100, -0.101, -0.099)
"""Differences of three seeds that are decided at the first look."""
UNCLEAR = (0.30, -0.20, 0.10)


def trials(differences: Mapping[float, Sequence[float]], seeds: int = 0) -> TrialsByArm:
    """Return the baseline with a loss of 1 for each seed, and an arm for each alpha with these differences."""
    count = seeds or max(map(len, differences.values()))
    noisy = {alpha: 1 + np.array(of_arm) for alpha, of_arm in differences.items()}
    arms = {0.0: np.ones(count), **noisy}
    return joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": losses}) for alpha, losses in arms.items()))


def design(arms: TrialsByArm, plan: AnalysisPlan = FIXED_SEEDS, *, about_noise: bool = False) -> Design:
    return Design(arms, "alpha=0", 0.95, plan, about_noise)


def assessed(of: Design, margin: float = MARGIN) -> MetricAssessment:
    """Return the assessments at the looks that were taken until each arm was decided."""
    return of.assess(LOSS, margin, of.looks_by_arm(LOSS, margin))


def p_of(differences: ArrayLike) -> float:
    return float(stats.ttest_1samp(differences, 0).pvalue)


def simes(*p_values: float) -> float:
    return min(len(p_values) * p / rank for rank, p in enumerate(sorted(p_values), start=1))


def test_fixed_design_has_one_look_at_all_seeds() -> None:
    found = assessed(design(trials({5: [0.02, 0.05, 0.04, 0.01]}))).arms["alpha=5"]

    assert (found.looks_taken, found.paired.seeds) == (1, 4)
    assert found.p_adjusted == pytest.approx(p_of([0.02, 0.05, 0.04, 0.01]))


def test_arm_stops_at_the_look_at_which_it_is_decided() -> None:
    of = design(trials({5: [*CLEAR, 5.0, 5.0], 10: [*UNCLEAR, 0.1, -0.3]}), TWO_LOOKS)

    assert of.looks_by_arm(LOSS, MARGIN) == {"alpha=5": 1, "alpha=10": 2}
    found = assessed(of).arms
    assert (found["alpha=5"].verdict, found["alpha=5"].looks_taken, found["alpha=5"].paired.seeds) == (
        "better",
        1,
        3,
    )
    assert found["alpha=5"].paired.difference == pytest.approx(-0.1)
    assert (found["alpha=10"].verdict, found["alpha=10"].looks_taken) == ("inconclusive", 2)
    assert found["alpha=10"].paired.seeds == 5


def test_later_seeds_of_a_decided_arm_do_not_change_its_numbers() -> None:
    stopped, longer = (
        assessed(design(trials({5: [*CLEAR, *later]}, seeds=5), TWO_LOOKS)).arms["alpha=5"] for later in ((), (9, 9))
    )

    assert stopped == longer


def test_p_value_of_two_looks_is_sequential() -> None:
    differences = [*UNCLEAR, 0.4, 0.2]

    found = assessed(design(trials({5: differences}), TWO_LOOKS)).arms["alpha=5"]

    p_values = [p_of(differences[:3]), p_of(differences)]
    assert found.p_adjusted == pytest.approx(SequentialTest(LOOKS).p_value(p_values))
    assert found.paired.p_value == pytest.approx(p_values[1])
    beyond = [stats.ttest_1samp(differences[:count], -0.9, alternative="greater").pvalue for count in LOOKS]
    below = [stats.ttest_1samp(differences[:count], 0.9, alternative="less").pvalue for count in LOOKS]
    wide = design(trials({5: differences}), TWO_LOOKS).assess(LOSS, 0.9, {"alpha=5": 2}).arms["alpha=5"]
    assert wide.p_equivalent == pytest.approx(
        SequentialTest(LOOKS).p_one_sided([max(pair) for pair in zip(beyond, below, strict=True)])
    )


def test_equivalent_arm_stops_too() -> None:
    of = design(trials({5: [0.001, -0.001, 0.0005, 3.0, 3.0]}), TWO_LOOKS)

    found = assessed(of, margin=0.05).arms["alpha=5"]

    assert (found.verdict, found.looks_taken) == ("equivalent", 1)


@pytest.mark.parametrize(
    "plan", [TWO_LOOKS, replace(TWO_LOOKS, looks=(3, 5, 20), seeds=tuple(range(20)))], ids=["outside", "to come"]
)
def test_seeds_outside_the_plan_and_after_the_last_look_are_ignored(plan: AnalysisPlan) -> None:
    differences = [*UNCLEAR, 0.4, 0.2]

    with_more = assessed(design(trials({5: [*differences, 80.0, 90.0]}), plan)).arms["alpha=5"]

    assert with_more == assessed(design(trials({5: differences}), plan)).arms["alpha=5"]
    assert with_more.paired.seeds == 5


def test_planned_seeds_are_used_in_their_order() -> None:
    plan = AnalysisPlan(looks=(3,), seeds=(4, 2, 0), looks_taken=1)

    found = assessed(design(trials({5: [0.1, 9.0, 0.3, 9.0, 0.2]}), plan)).arms["alpha=5"]

    assert found.paired.difference == pytest.approx(0.2)


def test_before_the_first_look_there_is_a_difference_without_a_test() -> None:
    found = assessed(design(trials({5: [0.1, 0.3]}), replace(TWO_LOOKS, looks_taken=0))).arms["alpha=5"]

    assert found.paired.difference == pytest.approx(0.2)
    assert (found.looks_taken, found.verdict) == (0, None)
    assert all(map(math.isnan, (found.p_adjusted, found.p_equivalent, found.interval.low)))
    assert untested_reason(found) == "the first planned look has not been taken"


def test_failed_seed_is_left_out_of_its_look() -> None:
    arms = trials({5: [*UNCLEAR, 0.4, 0.2]})
    without = {**arms, "alpha=5": {seed: one for seed, one in arms["alpha=5"].items() if seed != 3}}

    found = assessed(design(without, TWO_LOOKS)).arms["alpha=5"]

    p_values = [p_of(UNCLEAR), p_of([*UNCLEAR, 0.2])]
    assert found.p_adjusted == pytest.approx(SequentialTest(LOOKS).p_value(p_values))
    assert (found.looks_taken, found.paired.seeds) == (2, 4)


def test_look_without_new_seeds_does_not_count() -> None:
    found = assessed(design(trials({5: UNCLEAR}, seeds=5), TWO_LOOKS)).arms["alpha=5"]

    assert (found.looks_taken, found.verdict) == (1, "inconclusive")
    assert found.p_adjusted == pytest.approx(SequentialTest(LOOKS).p_value([p_of(UNCLEAR)]))


def test_first_look_with_two_shared_seeds_has_no_test() -> None:
    differences = [*UNCLEAR, 0.4, 0.2]
    arms = trials({5: differences})
    without = {**arms, "alpha=0": {seed: one for seed, one in arms["alpha=0"].items() if seed != 0}}

    found = assessed(design(without, TWO_LOOKS)).arms["alpha=5"]

    assert found.p_adjusted == pytest.approx(SequentialTest(LOOKS).p_value([math.nan, p_of(differences[1:])]))


@pytest.mark.parametrize("plan", [FIXED_SEEDS, TWO_LOOKS], ids=["fixed", "looks"])
def test_arm_with_a_value_that_is_not_finite_has_no_assessment(plan: AnalysisPlan) -> None:
    found = assessed(design(trials({5: [*CLEAR[:2], 0.1, math.inf, 0.1], 10: [*UNCLEAR, 0.1, 0.1]}), plan))

    assert list(found.arms) == ["alpha=10"]


# The test of noise

SMALL_NOISE = (-0.100, -0.101, -0.099, -0.102, -0.098)
LARGE_NOISE = (0.9, -0.7, 0.8, -0.8, 0.1)


def test_arm_is_inconclusive_if_the_test_of_noise_is_not_passed() -> None:
    significant = (-0.172, -0.136, -0.1, -0.064, -0.028)
    arms = trials({5: significant, 10: LARGE_NOISE})

    gated, ungated = (assessed(design(arms, about_noise=about)) for about in (True, False))

    mean, change = np.mean([significant, LARGE_NOISE], axis=0), np.subtract(LARGE_NOISE, significant)
    p_value = simes(p_of(mean), p_of(change), p_of(significant), p_of(LARGE_NOISE))
    assert gated.noise_test is not None
    assert gated.noise_test.p_value == pytest.approx(p_value)
    assert p_value > 0.05
    assert gated.arms["alpha=5"].p_adjusted == pytest.approx(p_value)
    assert gated.arms["alpha=5"].verdict == "inconclusive"
    assert gated.arms["alpha=5"].interval.low <= 0 <= gated.arms["alpha=5"].interval.high
    assert ungated.noise_test is None
    assert ungated.arms["alpha=5"].verdict == "better"
    assert ungated.arms["alpha=5"].p_adjusted == pytest.approx(2 * p_of(significant))


def test_mean_is_inconclusive_if_the_test_of_noise_is_not_passed() -> None:
    draws = np.random.default_rng(3)
    common = np.array([-0.172, -0.136, -0.1, -0.064, -0.028])
    own = 0.5 * draws.normal(size=5)
    arms = trials({5: (common + own).tolist(), 10: (common - own).tolist()})

    test = assessed(design(arms, about_noise=True)).noise_test

    assert test is not None
    mean = test.contrasts[0].assessment
    assert 2 * p_of(common) <= 0.05 < test.p_value  # significant over mean and trend alone
    assert mean.p_adjusted == pytest.approx(test.p_value)
    assert mean.verdict == "inconclusive"
    assert mean.interval.low <= 0 <= mean.interval.high


def test_contrasts_are_the_mean_of_the_arms_and_the_fitted_change_over_alpha() -> None:
    draws = np.random.default_rng(0)
    alphas, differences = (2.0, 5.0, 15.0), draws.normal(0.1, 0.05, (3, 6))

    found = assessed(design(trials(dict(zip(alphas, differences.tolist(), strict=True))), about_noise=True)).noise_test

    assert found is not None
    mean, trend = found.contrasts
    assert (mean.name, trend.name) == ("mean", "trend")
    assert mean.arms == trend.arms == found.arms == ("alpha=2", "alpha=5", "alpha=15")
    slopes = [stats.linregress(alphas, of_seed).slope * 13 for of_seed in differences.T]
    for contrast, values in ((mean, differences.mean(axis=0)), (trend, slopes)):
        expected = stats.ttest_1samp(values, 0)
        assert contrast.assessment.paired.difference == pytest.approx(np.mean(values))
        assert contrast.assessment.paired.p_value == pytest.approx(expected.pvalue)


def test_contrasts_use_items() -> None:
    by_seed = {0.0: np.ones(5), 5.0: 1 + np.array(SMALL_NOISE), 10.0: 1 + np.array(LARGE_NOISE)}
    arms = joined(*(arm(f"alpha={a:g}", a, {"eval_loss": with_items(one)}) for a, one in by_seed.items()))

    found = assessed(design(arms, about_noise=True)).noise_test

    assert found is not None
    assert [contrast.assessment.paired.items for contrast in found.contrasts] == [20, 20]


def test_single_arm_is_tested_without_a_contrast() -> None:
    found = assessed(design(trials({5: SMALL_NOISE}), about_noise=True))

    assert found.noise_test is None
    assert found.arms["alpha=5"].p_adjusted == pytest.approx(p_of(SMALL_NOISE))


def test_two_arms_with_the_same_alpha_have_no_trend() -> None:
    arms = joined(trials({5: SMALL_NOISE}), arm("gaussian", 5.0, {"eval_loss": 1 + np.array(LARGE_NOISE)}))

    found = assessed(design(arms, about_noise=True)).noise_test

    assert found is not None
    assert [contrast.name for contrast in found.contrasts] == ["mean"]


@pytest.mark.parametrize("alphas", [(5.0, 10.0, 15.0), (5.0, 10.0, 20.0)])
def test_equal_arms_have_no_trend_from_rounding_errors(alphas: tuple[float, ...]) -> None:
    noisy = with_items(1 + np.array(LARGE_NOISE))  # the weights of 5, 10 and 20 sum to 2e-16
    arms = joined(
        arm("alpha=0", 0.0, {"eval_loss": with_items(np.ones(5))}),
        *(arm(f"alpha={alpha:g}", alpha, {"eval_loss": noisy}) for alpha in alphas),
    )

    found = assessed(design(arms, about_noise=True)).noise_test

    assert found is not None
    trend = next(contrast for contrast in found.contrasts if contrast.name == "trend")
    assert trend.assessment.paired.difference == 0
    assert math.isnan(trend.assessment.paired.p_value)


def test_arm_with_few_seeds_is_no_part_of_the_test_of_noise() -> None:
    old = {5.0: [*SMALL_NOISE, -0.1, -0.1, -0.099], 10.0: [*SMALL_NOISE, -0.103, -0.1, -0.1]}
    new = [0.4, -0.5, 0.3]

    before, after = (assessed(design(trials(one), about_noise=True)) for one in (old, {**old, 15.0: new}))

    assert before.noise_test is not None
    assert after.noise_test == before.noise_test
    assert after.arms["alpha=15"].p_adjusted == pytest.approx(p_of(new))  # the largest of three, and not limited
    assert {after.arms[name].verdict for name in ("alpha=5", "alpha=10")} == {"better"}


def test_arm_that_diverged_is_no_part_of_the_test_of_noise() -> None:
    old = {5.0: SMALL_NOISE, 10.0: SMALL_NOISE[::-1]}

    found = assessed(design(trials({**old, 100.0: [*LARGE_NOISE[:4], math.inf]}), about_noise=True))

    assert found.noise_test is not None
    assert found.noise_test.arms == ("alpha=5", "alpha=10")
    assert found.noise_test.contrasts[0].assessment.paired.seeds == 5


def test_test_of_noise_goes_on_with_the_arms_that_are_not_decided() -> None:
    stopped, going_on = [*SMALL_NOISE[:3], 9.0, 9.0], [-0.09, -0.13, -0.10, -0.12, -0.11]
    of = design(trials({5: stopped, 10: going_on}), TWO_LOOKS, about_noise=True)

    found = of.assess(LOSS, MARGIN, {"alpha=5": 1, "alpha=10": 2}).noise_test

    assert found is not None
    mean, trend = np.mean([stopped[:3], going_on[:3]], axis=0), np.subtract(going_on[:3], stopped[:3])
    first = simes(p_of(mean), p_of(trend), p_of(stopped[:3]), p_of(going_on[:3]))
    # at the second look mean and arm are equal and there is no trend; the number of tests stays four
    assert found.p_value == pytest.approx(SequentialTest(LOOKS).p_value([first, 2 * p_of(going_on)]))
    # the estimates are those of the last look with both arms
    assert [contrast.assessment.paired.seeds for contrast in found.contrasts] == [3, 3]


# Roles


def test_controls_are_tested_alone_and_are_no_part_of_the_test_of_noise() -> None:
    noisy = trials({5: SMALL_NOISE, 10: LARGE_NOISE})
    controls = joined(
        arm("A/A", 0.0, {"eval_loss": 1 + np.array(LARGE_NOISE[::-1])}),
        arm("positive", 300.0, {"eval_loss": 1 + 10 * np.array([1.0, 1.1, 0.9, 1.05, 0.95])}),
    )
    plan = AnalysisPlan(controls=("A/A", "positive"))

    found = assessed(design(joined(noisy, controls), plan, about_noise=True))

    alone = assessed(design(noisy, about_noise=True))
    assert {arm: found.arms[arm] for arm in alone.arms} == alone.arms
    assert found.noise_test == alone.noise_test
    assert found.arms["A/A"].p_adjusted == pytest.approx(p_of(LARGE_NOISE))
    assert (found.arms["positive"].verdict, found.arms["positive"].role) == ("worse", "control")


def test_primary_arm_is_tested_alone_and_the_others_are_exploratory() -> None:
    arms = trials({5: SMALL_NOISE, 10: LARGE_NOISE, 15: [0.1, 0.2, 0.1, 0.3, 0.1]})

    found = assessed(design(arms, AnalysisPlan(primary_arm="alpha=5"), about_noise=True))

    assert found.noise_test is None
    assert [one.role for one in found.arms.values()] == ["primary", "exploratory", "exploratory"]
    assert found.arms["alpha=5"].p_adjusted == pytest.approx(p_of(SMALL_NOISE))
    assert found.arms["alpha=15"].p_adjusted == pytest.approx(2 * p_of([0.1, 0.2, 0.1, 0.3, 0.1]))


def test_other_arms_stay_exploratory_without_the_primary_arm() -> None:
    found = assessed(design(trials({5: SMALL_NOISE}), AnalysisPlan(primary_arm="alpha=20")))

    assert found.arms["alpha=5"].role == "exploratory"


def test_studied_trials_end_at_the_last_look_of_their_arm() -> None:
    arms = joined(
        trials({5: [*CLEAR, 5.0, 5.0], 10: [*UNCLEAR, 0.1, -0.3, 7.0]}), arm("A/A", 0.0, {"eval_loss": [1.0]})
    )
    of = design(arms, replace(TWO_LOOKS, controls=("A/A",)))

    studied = of.tested_trials({"alpha=5": 1, "alpha=10": 2, "A/A": 2})

    assert {name: tuple(of_arm) for name, of_arm in studied.items()} == {
        "alpha=0": (0, 1, 2, 3, 4),
        "alpha=5": (0, 1, 2),
        "alpha=10": (0, 1, 2, 3, 4),
    }


def test_a_look_tests_the_first_planned_seeds() -> None:
    plan = AnalysisPlan(looks=(3, 5), seeds=(7, 4, 0, 9, 2), looks_taken=1)

    assert [plan.seeds_until(looks) for looks in range(3)] == [(), (7, 4, 0), (7, 4, 0, 9, 2)]
    assert plan.seeds_taken == 3
