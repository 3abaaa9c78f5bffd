"""Comparisons at planned looks: margins, notes, chances of a decision, and the best arm."""

import math
from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.results import Departure
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.evidence.measurements import AnalysisPlan, TrialOrigin
from neftune_cli.reporting.next_step import next_step
from tests.compared_looks import LOOKS, OPEN, evidence_of, looked_at


def test_margin_of_planned_looks_does_not_change_after_the_first_look() -> None:
    before = looked_at([0.3, -0.2, 0.1], replace(LOOKS, looks_taken=1), losses=[1.0, 1.0, 1.0])
    after = looked_at([0.3, -0.2, 0.1, 0.1, 0.1], losses=[1.0, 1.0, 1.0, 2.5, 2.5])

    for comparison in (before, after):
        assessment = comparison.assessment("alpha=5", "eval_loss")
        assert assessment is not None
        assert assessment.margin == pytest.approx(0.01 * (3 - 1))  # 1% of the gain of fine-tuning


def test_seeds_that_are_not_tested_are_noted() -> None:
    notes = looked_at([-0.100, -0.101, -0.099, 0.5, 0.5, 0.5]).notes

    assert notes == (
        "Seeds outside the plan are not tested: 5.",
        "Seeds after the look that decides an arm, or after the last look, are not tested. "
        "Tested: 3 of 5 seeds of alpha=5.",
    )


def test_outlook_is_that_of_improvements() -> None:
    found = looked_at([0.3, -0.2, 0.1], replace(LOOKS, looks_taken=1)).outlooks["alpha=5"]
    margin = 0.01 * (3 - 1)

    assert sorted({one.effect for one in found}) == pytest.approx([-2 * margin, -margin, 0])


@pytest.mark.parametrize("options", [ComparisonOptions(confidence=0.8), ComparisonOptions(baseline="alpha=5")])
@pytest.mark.parametrize("plan", [replace(LOOKS, looks_taken=1), None])
def test_no_outlook_where_further_looks_decide_otherwise(options: ComparisonOptions, plan: AnalysisPlan | None) -> None:
    evidence = evidence_of({5.0: [0.3, -0.2, 0.1]}, plan)

    assert compare_arms(evidence).outlooks["alpha=5"]
    assert compare_arms(evidence, options).outlooks == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": TrialOrigin(("results/s", "results/t"), is_sweep=True)},
        {"origin": TrialOrigin(("results/s",))},  # runs of another tool
        {"declared_arms": ("alpha=1", "alpha=0", "alpha=5")},
    ],
)
def test_no_outlook_where_no_command_continues(changes: dict[str, Any]) -> None:
    assert compare_arms(replace(evidence_of({5.0: [0.3, -0.2, 0.1]}, None), **changes)).outlooks == {}


@pytest.mark.parametrize("plan", [replace(LOOKS, looks_taken=1), None])
def test_a_baseline_without_trials_makes_the_comparison_exploratory(plan: AnalysisPlan | None) -> None:
    evidence = evidence_of({5.0: [0.3, -0.2, 0.1], 10.0: [0.2, -0.1, 0.3]}, plan)
    without = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if one.alpha),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
    )

    comparison = compare_arms(without)

    assert comparison.baseline == "alpha=5"
    sentence = (
        "The baseline of the sweep, alpha=0, has no finished trial in this comparison. "
        "The comparison with alpha=5 is exploratory."
    )
    assert comparison.departures == (Departure("missing baseline", sentence),)
    assert comparison.outlooks == {}
    step = next_step(comparison)
    if plan is None:  # nothing is known to be missing
        assert step is None
    else:
        assert step is not None
        assert step.command == ("neftune", "sweep", "results/s/sweep.yaml", "--output", "results/s")
        # 5 of the baseline, and 2 further ones of both arms
        assert step.cost == "at most 9 more trials (5 seeds in all)"


def test_the_declared_baseline_is_the_default_one() -> None:
    evidence = replace(evidence_of({5.0: [0.3, -0.2, 0.1]}, None), declared_arms=("alpha=5", "alpha=0"))

    assert compare_arms(evidence).baseline == "alpha=5"
    assert compare_arms(evidence).departures == ()


def test_outlook_starts_at_the_next_look_although_a_seed_failed() -> None:
    comparison = looked_at(
        [0.3, -0.2, math.nan, 0.1, 0.2], replace(LOOKS, looks=(3, 5, 8), looks_taken=2, seeds=tuple(range(8)))
    )

    assert comparison.outlooks == {}

    failed = looked_at([0.3, -0.2, 0.1, 0.1], replace(LOOKS, looks=(3, 5, 8), looks_taken=2, seeds=tuple(range(8))))
    assert {chance.seeds for chance in failed.outlooks["alpha=5"]} == {8}


def test_interval_of_the_best_arm_is_as_wide_as_that_of_a_planned_look() -> None:
    differences = {5.0: [-0.5, -0.3, -0.1, -0.2, -0.4], 10.0: [0.3, -0.2, 0.1, 0.2, -0.1]}
    plan = replace(LOOKS, looks=(4, 5))

    best = compare_arms(evidence_of(differences, plan)).best

    assert best is not None
    assert (best.arm, best.advantage.confidence) == ("alpha=5", 0.95)
    level = SequentialTest((4, 5)).level(0.05, 1)
    low, high = ttest_1samp(differences[5.0], 0).confidence_interval(1 - level)
    assert best.advantage.ci_high - best.advantage.ci_low == pytest.approx(high - low)
    assert level < 0.05


def test_best_arm_is_selected_at_the_first_look_that_decides_an_arm() -> None:
    differences = {5.0: [-0.5, -0.3, -0.1, -0.2, -0.4], 10.0: [0.300, 0.301, 0.299]}

    comparison = compare_arms(evidence_of(differences, LOOKS))
    best, decided = comparison.best, comparison.assessment("alpha=10", "eval_loss")

    assert decided is not None
    assert (decided.verdict, decided.looks_taken) == ("worse", 1)
    assert best is not None
    assert (best.arm, best.advantage.seeds) == ("alpha=5", 3)
    assert best.naive == pytest.approx(-0.3)
    level = SequentialTest((3, 5)).level(0.05, 0)
    low, high = ttest_1samp(differences[5.0][:3], 0).confidence_interval(1 - level)
    assert best.advantage.ci_high - best.advantage.ci_low == pytest.approx(high - low)
    assert (best_arm_sentences(comparison) or "").startswith(
        "On the 3 seeds that all arms share, alpha=5 has the best "
    )


def test_controls_are_not_part_of_best_arm_claims_and_checks_of_learning() -> None:
    comparison = looked_at([0.3, -0.2, 0.1, 0.1, 0.2])

    assert comparison.best is None  # only one arm is left
    assert "control" not in str([claim.here for claim in comparison.claims])
    assert comparison.learning.problems == ()
    assert [arm.name for arm in comparison.studied] == ["alpha=5"]


def test_seeds_that_were_added_after_a_comparison_are_a_departure() -> None:
    added = "s was compared with 3 and 5 seeds."

    comparison = compare_arms(replace(evidence_of({5.0: OPEN}, None), added_seeds=(added,)))

    assert comparison.departures == (Departure("added seeds", added),)
