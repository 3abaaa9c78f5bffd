"""Verdicts, Hommel-adjusted p-values and simultaneous intervals, compared with scipy and statsmodels."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.analysis.verdicts import DOMINATING_CLUSTER, NO_VARIATION, assess, equivalence_p_value, untested_reason
from neftune_cli.metrics import METRICS

LOSS, LENGTH = METRICS["eval_loss"], METRICS["response_chars"]


@pytest.mark.parametrize(
    ("differences", "goal", "verdict"),
    [
        ([-0.10, -0.11, -0.12, -0.10], "lower", "better"),
        ([0.10, 0.11, 0.12, 0.10], "lower", "worse"),
        ([0.10, 0.11, 0.12, 0.10], None, "higher"),
        ([-0.10, -0.11, -0.12, -0.10], None, "lower"),
        ([0.30, -0.20, 0.10, -0.25], "lower", "inconclusive"),
        ([0.001, -0.001, 0.002, -0.001], "lower", "equivalent"),
        ([0.0050, 0.0051, 0.0052, 0.0051], "lower", "equivalent"),  # significant, but within the margin
    ],
)
def test_verdict_of_one_arm(differences: list[float], goal: str | None, verdict: str) -> None:
    metric = LOSS if goal else LENGTH

    assert assess({"alpha=5": _compared(differences)}, metric, margin=0.01)["alpha=5"].verdict == verdict


def test_adjusted_p_values_match_scipy_and_statsmodels() -> None:
    arms = {"a": [0.02, 0.05, 0.04], "b": [-0.01, 0.03, 0.01], "c": [0.10, 0.12, 0.09]}

    assessed = assess({arm: _compared(values) for arm, values in arms.items()}, LOSS, margin=0.2)

    raw = [ttest_1samp(values, 0).pvalue for values in arms.values()]
    beyond = [ttost_paired(np.array(values), np.zeros(3), -0.2, 0.2)[0] for values in arms.values()]
    assert [one.p_adjusted for one in assessed.values()] == pytest.approx(multipletests(raw, method="hommel")[1])
    assert [one.p_equivalent for one in assessed.values()] == pytest.approx(multipletests(beyond, method="hommel")[1])


def test_checkpoints_have_no_verdict() -> None:
    two = paired_comparison(np.zeros((2, 50)), np.random.default_rng(0).normal(1, 0.1, (2, 50)))

    assessment = assess({"a": two}, LOSS, margin=0.01)["a"]

    assert assessment.verdict is None
    assert assessment.paired.p_value < 0.001
    assert math.isnan(assessment.p_adjusted)


def test_comparison_without_standard_error_does_not_count_for_the_adjustment() -> None:
    alone = paired_comparison([[0.0]], [[1.0]])

    assessed = assess({"alone": alone, "three": _compared([0.10, 0.11, 0.12])}, LOSS, margin=0.01)

    assert assessed["alone"].verdict is None
    assert math.isnan(assessed["alone"].p_adjusted)
    assert assessed["three"].p_adjusted == assessed["three"].paired.p_value


def test_equivalence_p_value_is_the_larger_one_sided_p_value() -> None:
    compared = _compared([0.02, 0.05, 0.04])

    assert equivalence_p_value(compared, 0.05) == pytest.approx(
        ttest_1samp([0.02, 0.05, 0.04], 0.05, alternative="less").pvalue
    )


@pytest.mark.parametrize("draw", range(20))
def test_intervals_agree_with_the_verdicts(draw: int) -> None:
    draws = np.random.default_rng(draw)
    values = {name: draws.normal(shift, 0.05, 5).tolist() for name, shift in zip("abc", (0.0, 0.06, 0.12), strict=True)}

    for one in assess({arm: _compared(of_arm) for arm, of_arm in values.items()}, LOSS, margin=0.08).values():
        shown = one.p_adjusted <= 0.05
        assert shown == (not one.interval.low < 0 < one.interval.high)
        inside = one.equivalence_interval.low >= -0.08 and one.equivalence_interval.high <= 0.08
        assert inside == (one.verdict == "equivalent")


def test_intervals_are_simultaneous() -> None:
    arms = {"a": [0.02, 0.05, 0.04], "b": [-0.01, 0.03, 0.01]}

    assessed = assess({arm: _compared(values) for arm, values in arms.items()}, LOSS, margin=0.001)

    # Bonferroni: 97.5% for each of two arms, and 95% for each of two tests of equivalence
    for one, values in zip(assessed.values(), arms.values(), strict=True):
        of_difference, of_equivalence = (ttest_1samp(values, 0).confidence_interval(level) for level in (0.975, 0.95))
        assert (one.interval.low, one.interval.high) == pytest.approx(tuple(of_difference))
        assert (one.equivalence_interval.low, one.equivalence_interval.high) == pytest.approx(tuple(of_equivalence))


def test_interval_ends_at_zero_if_only_the_stepwise_test_excludes_it() -> None:
    large = [0.100, 0.101, 0.099, 0.100]
    small = [0.04, 0.05, 0.02, 0.08]
    (low, _) = ttest_1samp(small, 0).confidence_interval(0.975)
    assert 0.025 < ttest_1samp(small, 0).pvalue < 0.05
    assert low < 0

    found = assess({"large": _compared(large), "small": _compared(small)}, LOSS, margin=0.001)["small"]

    assert (found.verdict, found.interval.low) == ("worse", 0.0)


def test_gate_is_a_lower_bound_of_the_p_values_of_its_arms() -> None:
    arms = {arm: _compared([0.10, 0.11, 0.12, 0.10]) for arm in ("gated", "free")}

    assessed = assess(arms, LOSS, margin=0.2, gates={"gated": 0.3})

    assert (assessed["gated"].p_adjusted, assessed["gated"].interval.low) == (0.3, 0.0)
    assert assessed["free"].p_adjusted < 0.001
    assert assessed["gated"].p_equivalent == assessed["free"].p_equivalent  # the gate is about differences
    assert assessed["gated"].verdict == "equivalent"


def test_interval_of_a_look_contains_the_values_with_a_larger_sequential_p_value() -> None:
    test = SequentialTest((3, 5))
    values = [0.30, -0.20, 0.10, 0.4, 0.2]
    looks = [_compared(values[:3]), _compared(values)]

    interval = assess({"a": looks}, LOSS, margin=0.01, test=test)["a"].interval

    for bound in (interval.low, interval.high):
        # the second look alone, and the 600,000 simulated paths of the null distribution
        p_value = ttest_1samp(values, bound).pvalue
        assert test.p_value([math.nan, p_value]) == pytest.approx(0.05, abs=1e-4)


def test_verdict_has_the_direction_of_the_look_that_shows_it() -> None:
    """The interval of the last look, which is on the other side of zero, ends at zero."""
    higher, both = [0.050, 0.051, 0.049, 0.050, 0.050], [*[0.050, 0.051, 0.049, 0.050, 0.050], -0.4, -0.5, -0.6]
    looks = [_compared(higher), _compared(both)]

    assessment = assess({"a": looks}, LOSS, margin=0.001, test=SequentialTest((5, 8)))["a"]

    assert assessment.paired.difference < 0
    assert assessment.verdict == "worse"
    assert assessment.interval.low == 0.0
    assert assessment.interval.high >= 0.0


def test_interval_of_an_equivalent_arm_stays_in_order_beyond_the_margin() -> None:
    near, far = [0.001, -0.001, 0.002, -0.002, 0.0], [0.001, -0.001, 0.002, -0.002, 0.0, 0.06, 0.06, 0.06, 0.06, 0.06]
    looks = [_compared(near), _compared(far)]

    assessment = assess({"a": looks}, LOSS, margin=0.02, test=SequentialTest((5, 10)))["a"]

    assert assessment.verdict == "equivalent"
    assert assessment.paired.difference > 0.02
    assert -0.02 <= assessment.equivalence_interval.low <= assessment.equivalence_interval.high == 0.02


def test_reasons_for_missing_verdicts() -> None:
    constant = assess({"a": _compared([0.1, 0.1, 0.1])}, LOSS, margin=0.01)["a"]
    two = assess({"a": _compared([0.1, 0.2])}, LOSS, margin=0.01)

    assert untested_reason(constant) == NO_VARIATION
    dominated = paired_comparison(np.zeros((3, 9)), np.arange(27.0).reshape(3, 9) ** 2, weights=[100, *[1] * 8])
    assert untested_reason(assess({"a": dominated}, LOSS, margin=0.01)["a"]) == DOMINATING_CLUSTER
    assert untested_reason(two["a"]) == "fewer than three paired seeds"
    assert untested_reason(assess({"a": _compared([0.1, 0.2, 0.4])}, LOSS, margin=0.01)["a"]) == ""


def _compared(differences: list[float]) -> PairedComparison:
    return paired_comparison(np.zeros((len(differences), 1)), np.array(differences)[:, None])
