"""Decisions that follow from hand-made trials: the primary arm decides, and sweeps that learned nothing say so."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.decision import Action, decide
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements, Setting
from neftune_cli.metrics import METRICS
from tests.measured_trials import arm, joined

BETTER, WORSE = (-0.100, -0.101, -0.099, -0.102, -0.098), (0.100, 0.101, 0.099, 0.102, 0.098)
UNCLEAR, EQUAL = (0.30, -0.20, 0.10, -0.10, 0.05), (0.001, -0.001, 0.002, -0.002, 0.0)


def compared(
    differences: Mapping[float, Sequence[float]], plan: AnalysisPlan | None = None, *, base: float = 3.0
) -> Comparison:
    """Return a comparison with a baseline of 1 and these differences by alpha."""
    losses = {0.0: np.ones(5)} | {alpha: 1 + np.array(of_arm) for alpha, of_arm in differences.items()}
    arms = joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": one}) for alpha, one in losses.items()))
    trials = [trial for of_arm in arms.values() for trial in of_arm.values()]
    before = Measurements("base", BASE_ARM, None, None, {"eval_loss": base}, {}, {})
    return compare_arms(Evidence("s", Setting("m", "d", {}, {}), (before, *trials), METRICS, plan=plan))


@pytest.mark.parametrize(
    ("primary", "exploratory", "action"),
    [
        (UNCLEAR, BETTER, "undecided"),
        (WORSE, BETTER, "keep baseline"),
        (BETTER, WORSE, "use"),
        (EQUAL, UNCLEAR, "keep baseline"),
    ],
)
def test_primary_arm_decides_alone(primary: Sequence[float], exploratory: Sequence[float], action: Action) -> None:
    decision = decide(compared({5: primary, 10: exploratory}, AnalysisPlan(primary_arm="alpha=5")))

    assert decision.action == action
    assert decision.arm == ("alpha=5" if action == "use" else None)
    assert set(decision.with_verdict) == {"alpha=5", "alpha=10"}


@pytest.mark.parametrize(
    ("differences", "primary", "action", "sentence"),
    [
        (
            {10: BETTER, 15: BETTER},
            "alpha=5",
            "no evidence",
            "The primary arm alpha 5 has no verdict on held-out loss: it has no finished trial. "
            "Verdicts on the other arms are exploratory.",
        ),
        (
            {5: BETTER[:2], 10: BETTER},
            "alpha=5",
            "too few seeds",
            "With 2 paired seeds the differences of the primary arm alpha 5 describe these trained models, not the "
            "method. A verdict needs at least 3 seeds. Verdicts on the other arms are exploratory.",
        ),
        (
            {10: BETTER},
            "alpha=0",
            "no evidence",
            "The primary arm alpha 0 has no verdict on held-out loss: it is the baseline. "
            "Verdicts on the other arms are exploratory.",
        ),
    ],
)
def test_no_other_arm_decides_without_a_verdict_on_the_primary_arm(
    differences: Mapping[float, Sequence[float]], primary: str, action: Action, sentence: str
) -> None:
    comparison = compared(differences, AnalysisPlan(primary_arm=primary))

    assert decide(comparison).action == action
    assert (headline(comparison).state, headline(comparison).sentence) == ("NO VERDICT", sentence)
    text = advice(comparison)
    assert text.startswith(f"No verdict: {sentence}")
    assert "Use " not in text
    assert "is better" not in headline(comparison).sentence


def test_controls_do_not_decide() -> None:
    decision = decide(compared({5: UNCLEAR, 300: WORSE}, AnalysisPlan(controls=("alpha=300",))))

    assert decision.action == "undecided"
    assert set(decision.with_verdict) == {"alpha=5"}


def test_controls_alone_are_nothing_to_compare() -> None:
    comparison = compared({300: WORSE}, AnalysisPlan(controls=("alpha=300",)))

    only = "is the only finished arm besides the controls"
    assert headline(comparison).text == f"Nothing to compare: Alpha 0 {only}."
    assert advice(comparison).startswith(f"alpha=0 {only}, so")


def test_sweep_that_learned_nothing_has_no_other_decision() -> None:
    comparison = compared({5: BETTER}, base=0.5)

    assert decide(comparison).action == "not learned"
    text = advice(comparison)
    assert text.startswith("Nothing learned: ")
    assert "Fine-tuning with alpha=0 does not improve held-out loss" in text


def test_before_the_first_look_the_reason_is_the_look() -> None:
    plan = AnalysisPlan(looks=(4, 5), seeds=(0, 1, 2, 3, 4))

    found = headline(compared({5: UNCLEAR[:2]}, plan))

    assert (found.state, found.sentence) == ("NO VERDICT", "The first planned look, at 4 seeds, has not been taken.")
