"""Claim that training with noise is better at the best epochs, from verdicts on arms at their best epochs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.early_stopping import early_stopping
from neftune_cli.analysis.results import EarlyStopping, Status, StoppedArm, Verdict
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.evidence.measurements import ItemValues
from neftune_cli.metrics import METRICS
from tests.comparisons import assessment
from tests.measured_trials import arm, examine, item_values, joined, with_items

FLAT = with_items(np.full(5, 2.0))


def arms_of(*alphas: float) -> TrialsByArm:
    return joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": FLAT}) for alpha in alphas))


def stopping(*verdicts: Verdict | None, seeds: int = 3) -> EarlyStopping:
    """Return a baseline, and an arm for each verdict."""
    baseline = StoppedArm("alpha=0", 1.5, 1.4, 2.0, None, None)
    treated = [
        StoppedArm(f"alpha={5 * place}", 1.5, 1.4, 2.0, None, assessment(-0.02, 0.01, verdict, seeds=seeds))
        for place, verdict in enumerate(verdicts, start=1)
    ]
    return EarlyStopping((1, 2, 3), (baseline, *treated))


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (("better", "worse"), "supported"),
        (("equivalent", "worse"), "refuted"),
        (("equivalent", "inconclusive"), "inconclusive"),
    ],
)
def test_status_follows_from_the_verdicts(verdicts: tuple[Verdict, Verdict], status: Status) -> None:
    result = examine(arms_of(0, 5, 10), stopping=stopping(*verdicts))["gains-over-early-stopping"]

    assert result.status == status
    difference = "\N{MINUS SIGN}0.0200 nats [\N{MINUS SIGN}0.0300, \N{MINUS SIGN}0.0100]"
    assert f"alpha=5 {difference}, {verdicts[0]}; " in result.here
    assert result.paper.startswith("Not tested.")


def test_two_seeds_are_inconclusive() -> None:
    result = examine(arms_of(0, 5), stopping=stopping(None, seeds=2))["gains-over-early-stopping"]

    assert result.status == "inconclusive"
    assert "2 seeds; with fewer than three" in result.here


def test_arms_without_noise_are_not_used() -> None:
    found = stopping("worse", "better")
    decayed = replace(found.arms[2], name="decayed")
    arms = joined(arms_of(0, 5), arm("decayed", 0.0, {"eval_loss": FLAT}))

    result = examine(arms, stopping=replace(found, arms=(*found.arms[:2], decayed)))["gains-over-early-stopping"]

    assert result.status == "refuted"


@pytest.mark.parametrize("is_listed", [True, False], ids=["not finite", "no losses by epoch"])
def test_claim_is_not_refuted_without_a_comparison_of_every_arm(is_listed: bool) -> None:
    """The arm that is missing may be better than the early-stopped baseline."""
    found = stopping("worse", "worse")
    diverged = (replace(found.arms[2], best_loss=math.inf, best=None),) if is_listed else ()

    result = examine(arms_of(0, 5, 10), stopping=replace(found, arms=(*found.arms[:2], *diverged)))

    assert result["gains-over-early-stopping"].status == "inconclusive"
    excluded = "Excluded, because they are not compared at their best epochs: alpha=10."
    assert result["gains-over-early-stopping"].here.endswith(excluded)


def test_claim_needs_the_reference_as_baseline() -> None:
    result = examine(arms_of(5, 0), baseline="alpha=5", stopping=stopping("better"))

    assert (
        result["gains-over-early-stopping"].here
        == "This claim needs alpha=0 as the baseline: `neftune compare --baseline 0`."
    )


LOSSES = item_values([1.0, 2.0], ["a", "b"])


def by_epoch(arms: TrialsByArm, epochs: dict[str, int], losses: ItemValues = LOSSES) -> TrialsByArm:
    """Return the arms with held-out losses after this number of epochs."""
    return {
        name: {
            seed: replace(trial, held_out_by_epoch=dict.fromkeys(range(1, epochs.get(name, 0) + 1), losses))
            for seed, trial in of_arm.items()
        }
        for name, of_arm in arms.items()
    }


@pytest.mark.parametrize(
    ("epochs", "need"),
    [
        ({"alpha=5": 3}, "This claim needs held-out losses of alpha=0 by epoch and example"),
        (
            {"alpha=0": 1, "alpha=5": 3},
            "This claim needs held-out losses of at least two epochs in every trial of alpha=0",
        ),
        ({"alpha=0": 3}, "This claim needs held-out losses of another arm by epoch, with seeds of alpha=0"),
    ],
)
def test_missing_losses_are_named(epochs: dict[str, int], need: str) -> None:
    result = examine(by_epoch(arms_of(0, 5), epochs))["gains-over-early-stopping"]

    assert result.status == "not measured"
    assert (
        result.here == f"{need}: `neftune sweep --model NAME --dataset NAME --alphas 0,5,10,15 --seeds 5 --epochs 3`."
    )


def test_claim_needs_two_examples() -> None:
    one = LOSSES.of(("a",))

    result = examine(by_epoch(arms_of(0, 5), {"alpha=0": 3, "alpha=5": 3}, one))["gains-over-early-stopping"]

    assert result.here == "This claim needs at least two held-out examples on which all trials were measured."


def test_losses_that_are_never_finite_are_named() -> None:
    found = stopping("better")
    diverged = replace(found, arms=(found.arms[0], replace(found.arms[1], best_loss=math.inf, best=None)))

    result = examine(arms_of(0, 5), stopping=diverged)["gains-over-early-stopping"]

    assert result.status == "not measured"
    assert "a trial has no finite loss at any epoch" in result.here


def test_claim_is_not_tested_before_the_first_planned_look() -> None:
    found = early_stopping(
        by_epoch(arms_of(0, 5), {"alpha=0": 3, "alpha=5": 3}),
        "alpha=0",
        METRICS["eval_loss"],
        margin=0.01,
        confidence=0.95,
        test=SequentialTest((8, 12)),
        looks_by_arm={"alpha=5": 0},
    )

    result = examine(arms_of(0, 5), stopping=found)["gains-over-early-stopping"]

    assert result.status == "not measured"
    assert result.here == (
        "Held-out losses of alpha=0 and alpha=5 are not compared: the first planned look has not been taken."
    )


def test_arm_with_few_seeds_does_not_hide_the_result_of_another() -> None:
    found = stopping("better", None)
    few = replace(found.arms[2], best=assessment(-0.02, 0.01, None, seeds=2))

    result = examine(arms_of(0, 5, 10), stopping=replace(found, arms=(*found.arms[:2], few)))

    assert result["gains-over-early-stopping"].status == "supported"
    assert "Inconclusive for alpha=10: 2 seeds; with fewer than three" in result["gains-over-early-stopping"].here
