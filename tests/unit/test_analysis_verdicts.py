"""Verdicts and Holm-adjusted p-values, compared with scipy and statsmodels."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.verdicts import assess, equivalence_p_value, holm, holm_by_key
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
    assert [one.p_adjusted for one in assessed.values()] == pytest.approx(multipletests(raw, method="holm")[1])
    assert [one.p_equivalent for one in assessed.values()] == pytest.approx(multipletests(beyond, method="holm")[1])


def test_inconclusive_arm_has_a_number_of_needed_seeds() -> None:
    few = assess({"a": _compared([0.03, -0.01, 0.02, 0.01])}, LOSS, margin=0.001)["a"]

    assert few.verdict == "inconclusive"
    assert few.seeds_needed is not None
    assert few.seeds_needed > 4
    assert few.detectable > abs(few.comparison.difference)


def test_decided_arm_needs_no_more_seeds() -> None:
    assert assess({"a": _compared([0.10, 0.11, 0.12])}, LOSS, margin=0.01)["a"].seeds_needed is None


def test_checkpoints_have_no_verdict() -> None:
    two = paired_comparison(np.zeros((2, 50)), np.random.default_rng(0).normal(1, 0.1, (2, 50)))

    assessment = assess({"a": two}, LOSS, margin=0.01)["a"]

    assert assessment.verdict is None
    assert assessment.comparison.p_value < 0.001
    assert math.isnan(assessment.p_adjusted)


def test_comparison_without_standard_error_does_not_count_for_the_adjustment() -> None:
    alone = paired_comparison([[0.0]], [[1.0]])

    assessed = assess({"alone": alone, "three": _compared([0.10, 0.11, 0.12])}, LOSS, margin=0.01)

    assert assessed["alone"].verdict is None
    assert math.isnan(assessed["alone"].p_adjusted)
    assert assessed["three"].p_adjusted == assessed["three"].comparison.p_value


def test_equivalence_p_value_is_the_larger_one_sided_p_value() -> None:
    compared = _compared([0.02, 0.05, 0.04])

    assert equivalence_p_value(compared, 0.05) == pytest.approx(
        ttest_1samp([0.02, 0.05, 0.04], 0.05, alternative="less").pvalue
    )


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_holm_matches_statsmodels(count: int) -> None:
    for draw in range(5):
        p_values = (np.random.default_rng(draw).random(count) ** 3).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), rel=1e-12)


def test_holm_adjusts_ties_equally_and_stops_at_one() -> None:
    assert holm([0.02, 0.02, 0.9, 0.9]) == pytest.approx([0.08, 0.08, 1.0, 1.0])


def test_holm_of_no_p_values_is_empty() -> None:
    assert holm([]) == []


def test_holm_by_key_keeps_keys_and_order() -> None:
    adjusted = holm_by_key({"alpha=5": 0.03, "alpha=10": 0.01, "alpha=15": 0.04})
    assert list(adjusted) == ["alpha=5", "alpha=10", "alpha=15"]
    assert list(adjusted.values()) == pytest.approx([0.06, 0.03, 0.06])


def _compared(differences: list[float]) -> PairedComparison:
    return paired_comparison(np.zeros((len(differences), 1)), np.array(differences)[:, None])
