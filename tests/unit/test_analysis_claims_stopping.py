"""Whether noise gains more than stopping in time, by the verdicts on arms at their best epochs."""

from dataclasses import replace

import numpy as np
import pytest

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.results import EarlyStopping, Status, StoppedArm, Verdict
from neftune_cli.evidence.measurements import ItemValues
from tests.unit.claim_trials import arm, examine, joined, with_items
from tests.unit.comparisons import assessment

FLAT = with_items(np.full(5, 2.0))


def arms_of(*alphas: float) -> TrialsByArm:
    return joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": FLAT}) for alpha in alphas))


def stopping(*words: Verdict | None, seeds: int = 3) -> EarlyStopping:
    """Return a baseline and an arm for each word."""
    baseline = StoppedArm("alpha=0", 1.5, 1.4, 2.0, None, None)
    treated = [
        StoppedArm(f"alpha={5 * place}", 1.5, 1.4, 2.0, None, assessment(-0.02, 0.01, word, seeds=seeds))
        for place, word in enumerate(words, start=1)
    ]
    return EarlyStopping((1, 2, 3), (baseline, *treated))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("better", "worse"), "supported"),
        (("equivalent", "worse"), "refuted"),
        (("equivalent", "inconclusive"), "inconclusive"),
    ],
)
def test_one_arm_that_beats_the_stopped_baseline_is_enough(words: tuple[Verdict, Verdict], status: Status) -> None:
    result = examine(arms_of(0, 5, 10), stopping=stopping(*words))["gains-over-early-stopping"]

    assert result.status == status
    assert (
        f"alpha=5 \N{MINUS SIGN}0.0200 nats [\N{MINUS SIGN}0.0300, \N{MINUS SIGN}0.0100], {words[0]}; " in result.here
    )
    assert result.paper.startswith("Not tested.")


def test_two_seeds_decide_nothing_about_stopping() -> None:
    result = examine(arms_of(0, 5), stopping=stopping(None, seeds=2))["gains-over-early-stopping"]

    assert result.status == "inconclusive"
    assert "2 seeds; fewer than three" in result.here


def test_arms_without_noise_say_nothing_about_stopping() -> None:
    found = stopping("worse", "better")
    decayed = replace(found.arms[2], name="decayed")
    arms = joined(arms_of(0, 5), arm("decayed", 0.0, {"eval_loss": FLAT}))

    result = examine(arms, stopping=replace(found, arms=(*found.arms[:2], decayed)))["gains-over-early-stopping"]

    assert result.status == "refuted"


def test_a_noisy_baseline_that_was_stopped_is_no_baseline() -> None:
    result = examine(arms_of(5, 0), baseline="alpha=5", stopping=stopping("better"))

    assert result["gains-over-early-stopping"].here == "Needs alpha=0 as the baseline: `neftune compare --baseline 0`."


LOSSES = ItemValues(("a", "b"), ("a", "b"), np.array([1.0, 2.0]), np.ones(2))


def by_epoch(arms: TrialsByArm, epochs: dict[str, int], losses: ItemValues = LOSSES) -> TrialsByArm:
    """Return the arms with held-out losses of so many epochs."""
    return {
        name: {
            seed: replace(trial, held_out_by_epoch=dict.fromkeys(range(1, epochs.get(name, 0) + 1), losses))
            for seed, trial in of_arm.items()
        }
        for name, of_arm in arms.items()
    }


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        ({"alpha=5": 3}, "Needs held-out losses of alpha=0, epoch by epoch and example by example"),
        ({"alpha=0": 1, "alpha=5": 3}, "Needs held-out losses of two epochs or more in every trial of alpha=0"),
        ({"alpha=0": 3}, "Needs held-out losses, epoch by epoch, of another arm in seeds of alpha=0"),
    ],
)
def test_what_early_stopping_lacked_is_said(epochs: dict[str, int], words: str) -> None:
    result = examine(by_epoch(arms_of(0, 5), epochs))["gains-over-early-stopping"]

    assert result.status == "not measured"
    assert result.here == f"{words}: `neftune sweep --alphas 0,5,10,15 --seeds 5 --epochs 3`."


def test_a_single_example_is_too_few_to_stop_by() -> None:
    one = LOSSES.of(("a",))

    result = examine(by_epoch(arms_of(0, 5), {"alpha=0": 3, "alpha=5": 3}, one))["gains-over-early-stopping"]

    assert result.here == "Needs two held-out examples or more that all trials were measured on."


def test_losses_that_are_never_finite_are_not_said_to_be_missing() -> None:
    found = stopping("better")
    diverged = replace(found, arms=(found.arms[0], replace(found.arms[1], best=None)))

    result = examine(arms_of(0, 5), stopping=diverged)["gains-over-early-stopping"]

    assert result.status == "not measured"
    assert "in a trial no epoch has a finite one" in result.here


def test_one_arm_of_few_seeds_does_not_hide_what_another_shows() -> None:
    found = stopping("better", None)
    few = replace(found.arms[2], best=assessment(-0.02, 0.01, None, seeds=2))

    result = examine(arms_of(0, 5, 10), stopping=replace(found, arms=(*found.arms[:2], few)))

    assert result["gains-over-early-stopping"].status == "supported"
    assert "Undecided for alpha=10: 2 seeds; fewer than three" in result["gains-over-early-stopping"].here
