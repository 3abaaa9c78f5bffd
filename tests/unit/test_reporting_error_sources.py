"""Sentences on sources of standard errors and on the best arm, from comparisons of hand-made trials with times."""

# ruff: noqa: RUF001  (the sentences have typographic minus signs)

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import Evidence, Measurements, Setting
from neftune_cli.metrics import METRICS
from neftune_cli.reporting.footnotes import error_source_sentences, footnotes
from neftune_cli.reporting.markdown import summary_markdown
from tests.measured_trials import arm, joined, with_items

DIFFERENCES = {5.0: (-0.10, -0.12, -0.17), 10.0: (-0.05, 0.10, 0.04)}


def compared(
    differences: Mapping[float, Sequence[float]], *, seconds: float | None = 60.0, items: bool = True
) -> Comparison:
    """Return a comparison with a baseline of 1, and a base model whose evaluation took a fifth of these seconds."""
    count = len(next(iter(differences.values())))
    by_alpha = {0.0: np.ones(count)} | {alpha: 1 + np.array(of_arm) for alpha, of_arm in differences.items()}
    arms = joined(
        *(arm(f"alpha={a:g}", a, {"eval_loss": with_items(one) if items else one}) for a, one in by_alpha.items())
    )
    trials = [replace(trial, seconds=seconds) for of_arm in arms.values() for trial in of_arm.values()]
    base = Measurements(
        "base", BASE_ARM, None, None, {"eval_loss": 3.0}, {}, {}, seconds=seconds / 5 if seconds else None
    )
    return compare_arms(Evidence("s", Setting("m", "d", {}, {}), (base, *trials), METRICS))


def test_sources_and_times_are_the_last_footnote() -> None:
    comparison = compared(DIFFERENCES)

    narrower = 1 - stats.t.ppf(0.975, 4) / stats.t.ppf(0.975, 2) * math.sqrt(3 / 5)
    assert error_source_sentences(comparison) == [
        "Sources of the squared standard error of held-out loss: 100% seeds, 0% items and 0% the residual. "
        f"2 more seeds of 3 arms take 6 min and narrow the unadjusted intervals by {narrower:.0%}. "
        "Doubling the held-out examples takes about 12 s per trial and narrows them by 0%. "
        "For the same time, more seeds narrow the intervals most."
    ]
    assert footnotes(comparison)[-1] == error_source_sentences(comparison)[0]


def test_summary_has_no_times_because_they_differ_between_runs() -> None:
    summaries = [summary_markdown(compared(DIFFERENCES, seconds=seconds)) for seconds in (60.0, 90.0, None)]

    assert summaries[0] == summaries[1] == summaries[2]
    assert "2 more seeds of 3 arms narrow the unadjusted intervals by " in summaries[0]
    assert "Doubling the held-out examples narrows them by 0%." in summaries[0]


def test_unknown_times_are_said() -> None:
    (sentences,) = error_source_sentences(compared(DIFFERENCES, seconds=None))

    assert "2 more seeds of 3 arms take an unknown time and narrow the unadjusted intervals by " in sentences
    assert "Doubling the held-out examples takes an unknown time and narrows them by 0%." in sentences
    assert "same time" not in sentences


def test_metric_without_items_names_seeds_alone() -> None:
    (sentences,) = error_source_sentences(compared(DIFFERENCES, items=False))

    assert sentences.startswith("The standard error of held-out loss is over seeds only. 2 more seeds of 3 arms take ")
    assert "examples" not in sentences


@pytest.mark.parametrize("differences", [{5.0: (0.1, 0.2)}, {5.0: (0.1, 0.1, 0.1)}], ids=["two seeds", "constant"])
def test_no_sentence_without_a_standard_error_over_seeds(differences: Mapping[float, Sequence[float]]) -> None:
    assert error_source_sentences(compared(differences)) == []


def test_gain_of_the_best_arm_is_its_own() -> None:
    sentences = best_arm_sentences(compared(DIFFERENCES))

    # every pair of seeds selects alpha=5, so that its gain is its mean over the seeds that are left
    assert sentences is not None
    assert sentences.startswith(
        "alpha=5 has the best mean held-out loss of alpha=5 and alpha=10. Its difference from alpha=0 is −0.1300. This "
        "estimate is optimistic on average, because the arm was selected on the same seeds and items. The seeds "
        "and items were split into halves many times, and the best arm on one half was selected. In the splits that "
        "selected alpha=5, its difference on the other half was on average −0.1"
    )
    assert sentences.endswith(
        "If no arm is better than the others, about a third to a half of the bias remains. The selected arm was "
        "alpha=5 in 100% of the splits."
    )


def test_best_arm_is_not_called_better_than_the_baseline_that_all_arms_are_worse_than() -> None:
    worse = {alpha: (0.10, 0.12 + alpha / 100, 0.17) for alpha in (5.0, 10.0, 15.0)}
    many = {float(alpha): (0.10, 0.12 + alpha / 100, 0.17) for alpha in range(5, 12)}

    few, several = best_arm_sentences(compared(worse)), best_arm_sentences(compared(many))

    assert (few or "").startswith("alpha=5 has the best mean held-out loss of alpha=5, alpha=10 and alpha=15. Its diff")
    assert (several or "").startswith("alpha=5 has the best mean held-out loss of 7 arms. Its difference from alpha=0")


def test_range_over_the_selected_arms_if_no_arm_is_selected_often() -> None:
    # each pair of seeds selects the arm that is worst on the third seed; over all seeds alpha=20 is best
    unsettled = {5.0: (0.9, -0.1, -0.1), 10.0: (-0.1, 0.8, -0.1), 15.0: (-0.1, -0.1, 0.9), 20.0: (0.1, 0.2, 0.2)}

    sentences = best_arm_sentences(compared(unsettled, items=False))

    assert sentences is not None
    assert (
        "The seeds were split into halves many times, and the best arm on one half was selected. Fewer than a quarter "
        "of the splits selected alpha=20, so the data do not show which arm is best. On the other half, the mean "
        "difference of the selected arm was +0.8000 to +0.9000, depending on the arm. The selected arm was "
    ) in sentences
