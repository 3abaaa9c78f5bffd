"""Retries in sweeps with planned looks: no look that was tested is tested again, whichever trials failed."""

import random
from collections.abc import Set

import pytest

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.decision import excluded_trials
from neftune_cli.analysis.results import Comparison
from neftune_cli.errors import NothingToCompareError
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Setting, TrialOrigin
from neftune_cli.metrics import METRICS
from neftune_cli.reporting.next_step import next_step
from tests.measured_trials import arm, joined

Trial = tuple[str, int]
BASELINE, TREATED = "alpha=0", ("alpha=5", "alpha=10")
SEEDS, LOOKS = range(5), (3, 5)
PLAN = AnalysisPlan(looks=LOOKS, seeds=tuple(SEEDS), looks_taken=2)
LOSSES = {
    "alpha=0": (1.00, 1.10, 0.90, 1.05, 0.95),
    "alpha=5": (1.03, 1.06, 0.95, 1.03, 0.96),
    "alpha=10": (1.05, 1.08, 0.85, 1.07, 0.96),
}
"""No arm is decided at any look."""


def compared(failed: Set[Trial]) -> Comparison:
    arms = joined(*(arm(name, float(name[6:]), {"eval_loss": losses}) for name, losses in LOSSES.items()))
    return compare_arms(
        Evidence(
            "s",
            Setting("m", "d", {}, {}),
            tuple(one for of_arm in arms.values() for one in of_arm.values() if (one.arm, one.seed) not in failed),
            METRICS,
            TrialOrigin(
                ("results/s",),
                is_sweep=True,
                failed_trials=tuple(f"{name},seed={seed}" for name, seed in sorted(failed)),
            ),
            plan=PLAN,
            declared_arms=tuple(LOSSES),
            unfinished=("some trials failed",) if failed else (),
        )
    )


def pairs(failed: Set[Trial], name: str, look: int) -> set[int]:
    """Return the seeds until a look of which both trials have finished."""
    return {seed for seed in range(look) if not {(name, seed), (BASELINE, seed)} & failed}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_retries_test_no_look_again_and_are_offered_where_they_allow_a_test(share: float) -> None:
    draws, checked = random.Random(f"failures of {share}"), 0
    while checked < 100:
        failed = {(name, seed) for name in LOSSES for seed in SEEDS if draws.random() < share}
        try:
            comparison = compared(failed)
        except NothingToCompareError:
            continue
        if comparison.baseline != BASELINE:
            continue
        excluded = excluded_trials(comparison)
        still_failed = {(name, seed) for name, seed in failed if f"{name},seed={seed}" in excluded}
        allows_a_test = False
        for name in TREATED:
            one = comparison.assessments("eval_loss").get(name)
            tested = one.looks_taken if one and one.verdict else 0
            for number, look in enumerate(LOOKS, start=1):
                before, after = pairs(failed, name, look), pairs(still_failed, name, look)
                assert number > tested or before == after, (failed, name)
                allows_a_test |= number > tested and before != after and len(after) >= 3
        assert (next_step(comparison) is not None) == allows_a_test, failed
        checked += 1
