"""Whether noise gains more than stopping in time, by the verdicts on arms at their best epochs."""

from dataclasses import replace

import numpy as np
import pytest

from neftune_cli.analysis.aligned import TrialsByArm
from neftune_cli.analysis.results import EarlyStopping, Status, StoppedArm, Word
from tests.unit.claim_trials import arm, examine, joined, with_items
from tests.unit.comparisons import judgement

FLAT = with_items(np.full(5, 2.0))


def arms_of(*alphas: float) -> TrialsByArm:
    return joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": FLAT}) for alpha in alphas))


def stopping(*words: Word | None, seeds: int = 3) -> EarlyStopping:
    """Return a baseline and an arm for each word."""
    baseline = StoppedArm("alpha=0", 1.5, 1.4, 2.0, None, None)
    treated = [
        StoppedArm(f"alpha={5 * place}", 1.5, 1.4, 2.0, None, judgement(-0.02, 0.01, word, seeds=seeds))
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
def test_one_arm_that_beats_the_stopped_baseline_is_enough(words: tuple[Word, Word], status: Status) -> None:
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
