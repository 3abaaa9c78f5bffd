"""Verdict words from tests made by hand with scipy and statsmodels."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.verdicts import assess, equivalence_p_value
from neftune_cli.metrics import METRICS

LOSS, LENGTH = METRICS["eval_loss"], METRICS["response_chars"]


@pytest.mark.parametrize(
    ("differences", "goal", "word"),
    [
        ([-0.10, -0.11, -0.12, -0.10], "lower", "better"),
        ([0.10, 0.11, 0.12, 0.10], "lower", "worse"),
        ([0.10, 0.11, 0.12, 0.10], None, "higher"),
        ([-0.10, -0.11, -0.12, -0.10], None, "lower"),
        ([0.30, -0.20, 0.10, -0.25], "lower", "inconclusive"),
        ([0.001, -0.001, 0.002, -0.001], "lower", "equivalent"),
        ([0.0050, 0.0051, 0.0052, 0.0051], "lower", "equivalent"),  # surely not zero, and surely too small to matter
    ],
)
def test_words(differences: list[float], goal: str | None, word: str) -> None:
    metric = LOSS if goal else LENGTH

    assert assess({"alpha=5": _compared(differences)}, metric, margin=0.01)["alpha=5"].verdict == word


def test_p_values_are_those_of_scipy_and_statsmodels() -> None:
    arms = {"a": [0.02, 0.05, 0.04], "b": [-0.01, 0.03, 0.01], "c": [0.10, 0.12, 0.09]}

    judged = assess({arm: _compared(values) for arm, values in arms.items()}, LOSS, margin=0.2)

    raw = [ttest_1samp(values, 0).pvalue for values in arms.values()]
    beyond = [ttost_paired(np.array(values), np.zeros(3), -0.2, 0.2)[0] for values in arms.values()]
    assert [one.p_adjusted for one in judged.values()] == pytest.approx(multipletests(raw, method="holm")[1])
    assert [one.p_equivalent for one in judged.values()] == pytest.approx(multipletests(beyond, method="holm")[1])


def test_an_inconclusive_arm_says_how_many_seeds_would_do() -> None:
    few = assess({"a": _compared([0.03, -0.01, 0.02, 0.01])}, LOSS, margin=0.001)["a"]

    assert few.verdict == "inconclusive"
    assert few.seeds_needed is not None
    assert few.seeds_needed > 4
    assert few.detectable > abs(few.comparison.difference)


def test_a_settled_arm_needs_no_more_seeds() -> None:
    assert assess({"a": _compared([0.10, 0.11, 0.12])}, LOSS, margin=0.01)["a"].seeds_needed is None


def test_checkpoints_get_no_word() -> None:
    two = paired_comparison(np.zeros((2, 50)), np.random.default_rng(0).normal(1, 0.1, (2, 50)))

    assessment = assess({"a": two}, LOSS, margin=0.01)["a"]

    assert assessment.verdict is None
    assert assessment.comparison.p_value < 0.001
    assert math.isnan(assessment.p_adjusted)


def test_a_comparison_without_uncertainty_leaves_the_others_alone() -> None:
    alone = paired_comparison([[0.0]], [[1.0]])

    judged = assess({"alone": alone, "three": _compared([0.10, 0.11, 0.12])}, LOSS, margin=0.01)

    assert judged["alone"].verdict is None
    assert math.isnan(judged["alone"].p_adjusted)
    assert judged["three"].p_adjusted == judged["three"].comparison.p_value


def test_the_equivalence_test_looks_at_the_farther_side() -> None:
    compared = _compared([0.02, 0.05, 0.04])

    assert equivalence_p_value(compared, 0.05) == pytest.approx(
        ttest_1samp([0.02, 0.05, 0.04], 0.05, alternative="less").pvalue
    )


def _compared(differences: list[float]) -> PairedComparison:
    return paired_comparison(np.zeros((len(differences), 1)), np.array(differences)[:, None])
