"""Comparisons at planned looks: margins, notes, chances of a decision, and the best arm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.decision import arms_with_further_seeds, continuation, decide, excluded_trials
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.results import Comparison, Departure, DepartureKind
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements, Setting, TrialOrigin
from neftune_cli.metrics import METRICS
from neftune_cli.reporting.next_step import next_step, sentence_without_command
from tests.measured_trials import arm, joined

LOOKS = AnalysisPlan(looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=2)
ONE_SWEEP = Evidence("s", Setting("m", "d", {}, {}), (), METRICS, TrialOrigin(("results/s",), is_sweep=True))


def _with_failed(*trials: str) -> TrialOrigin:
    return replace(ONE_SWEEP.origin, failed_trials=trials)


def _looked_at(
    differences: Sequence[float], plan: AnalysisPlan = LOOKS, losses: Sequence[float] | None = None
) -> Comparison:
    """Compare an arm, and a positive control of seed 0, with the given losses of the baseline."""
    baseline = np.ones(len(differences)) if losses is None else np.array(losses)
    arms = joined(
        arm("alpha=0", 0.0, {"eval_loss": baseline}),
        arm("alpha=5", 5.0, {"eval_loss": baseline[: len(differences)] + np.array(differences)}),
        arm("control", 99.0, {"eval_loss": [7.0, 7.2, 7.1]}),
    )
    trials = tuple(trial for of_arm in arms.values() for trial in of_arm.values())
    base = Measurements("base", BASE_ARM, None, None, {"eval_loss": 3.0}, {}, {})
    plan = replace(plan, controls=("control",))
    return compare_arms(replace(ONE_SWEEP, trials=(base, *trials), plan=plan))


def test_margin_of_planned_looks_does_not_change_after_the_first_look() -> None:
    before = _looked_at([0.3, -0.2, 0.1], replace(LOOKS, looks_taken=1), losses=[1.0, 1.0, 1.0])
    after = _looked_at([0.3, -0.2, 0.1, 0.1, 0.1], losses=[1.0, 1.0, 1.0, 2.5, 2.5])

    for comparison in (before, after):
        assessment = comparison.assessment("alpha=5", "eval_loss")
        assert assessment is not None
        assert assessment.margin == pytest.approx(0.01 * (3 - 1))  # 1% of the gain of fine-tuning


def test_seeds_that_are_not_tested_are_noted() -> None:
    notes = _looked_at([-0.100, -0.101, -0.099, 0.5, 0.5, 0.5]).notes

    assert notes == (
        "Seeds outside the plan are not tested: 5.",
        "Seeds after the look that decides an arm, or after the last look, are not tested. "
        "Tested: 3 of 5 seeds of alpha=5.",
    )


def test_outlook_is_that_of_improvements() -> None:
    found = _looked_at([0.3, -0.2, 0.1], replace(LOOKS, looks_taken=1)).outlooks["alpha=5"]
    margin = 0.01 * (3 - 1)

    assert sorted({one.effect for one in found}) == pytest.approx([-2 * margin, -margin, 0])


@pytest.mark.parametrize("options", [ComparisonOptions(confidence=0.8), ComparisonOptions(baseline="alpha=5")])
@pytest.mark.parametrize("plan", [replace(LOOKS, looks_taken=1), None])
def test_no_outlook_where_further_looks_decide_otherwise(options: ComparisonOptions, plan: AnalysisPlan | None) -> None:
    evidence = _evidence({5.0: [0.3, -0.2, 0.1]}, plan)

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
    assert compare_arms(replace(_evidence({5.0: [0.3, -0.2, 0.1]}, None), **changes)).outlooks == {}


@pytest.mark.parametrize("plan", [replace(LOOKS, looks_taken=1), None])
def test_a_baseline_without_trials_makes_the_comparison_exploratory(plan: AnalysisPlan | None) -> None:
    evidence = _evidence({5.0: [0.3, -0.2, 0.1], 10.0: [0.2, -0.1, 0.3]}, plan)
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


@pytest.mark.parametrize(
    ("other", "missing", "start"),
    [
        (0.1, True, "Train the baseline alpha 0 first. Compared with alpha 5, "),
        (0.1, False, "Compared with alpha 5, "),
        (-0.1, True, "Train the baseline alpha 0 before you use alpha 10. "),
        (-0.1, False, "Test alpha 10 in a new sweep before you use it. "),  # trained in a comparison of its own
    ],
)
def test_the_advice_without_the_baseline_names_it_if_the_sweep_command_trains_it(
    other: float, missing: bool, start: str
) -> None:
    evidence = _evidence({5.0: [0.0, 0.0, 0.0], 10.0: [other, 1.01 * other, 0.99 * other]}, None)
    without = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if one.alpha),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        unfinished=("alpha=0,seed=0 has not started",) if missing else (),
    )

    assert advice(compare_arms(without)).startswith(start)


def test_a_sweep_with_planned_looks_continues_by_its_first_comparison() -> None:
    evidence = _evidence({5.0: [0.0, 0.0, 0.0], 10.0: [-0.1, -0.101, -0.099]}, replace(LOOKS, looks_taken=1))
    of_second_setting = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if one.alpha),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        origin=replace(ONE_SWEEP.origin, decides_looks=False),
    )

    comparison = compare_arms(of_second_setting)

    assert next_step(comparison) is None
    assert advice(comparison).startswith("Test alpha 10 in a new sweep before you use it. ")


def test_next_step_trains_missing_trials_where_new_seeds_decide_nothing() -> None:
    evidence = _evidence({5.0: [0.3, -0.2, 0.1], 10.0: [0.2, -0.1, 0.3]}, None)
    baseline = tuple(one for one in evidence.trials if one.alpha == 0)
    others = tuple(one for one in evidence.trials if one.alpha)
    missing = ("alpha=0, seed 0 has not started", "alpha=0, seed 1: out of memory")

    for trials in (others, baseline):
        step = next_step(
            compare_arms(replace(evidence, trials=trials, declared_arms=("alpha=0", "alpha=5"), unfinished=missing))
        )
        assert step is not None
        assert step.command == ("neftune", "sweep", "results/s/sweep.yaml", "--output", "results/s")
        assert step.cost == "at most 2 more trials"


@pytest.mark.parametrize(("declared", "is_offered"), [(20, False), (21, True)])
def test_missing_trials_are_trained_only_if_they_can_decide_an_open_arm(declared: int, is_offered: bool) -> None:
    evidence = _evidence({5.0: [0.3, -0.2, 0.1, -0.1] * 5, 10.0: [0.001, -0.001, 0.002]}, None)

    comparison = compare_arms(
        replace(evidence, declared_seeds=tuple(range(declared)), unfinished=("alpha=10,seed=3 has not started",))
    )

    assert list(decide(comparison).open_arms) == ["alpha=5"]
    assert (next_step(comparison) is not None) == is_offered


def test_no_missing_trial_is_trained_if_every_arm_is_decided() -> None:
    evidence = _evidence({5.0: [-0.100, -0.101, -0.099], 10.0: [-0.100, -0.101, -0.099, -0.102]}, None)
    unfinished = ("alpha=5,seed=3 failed: out of memory",)

    comparison = compare_arms(
        replace(evidence, declared_seeds=(0, 1, 2, 3), unfinished=unfinished, origin=_with_failed("alpha=5,seed=3"))
    )

    assert headline(comparison).state == "DECIDED"
    assert next_step(comparison) is None


@pytest.mark.parametrize("is_missing", [True, False])
def test_missing_trials_come_before_a_new_sweep_if_an_arm_has_few_seeds(is_missing: bool) -> None:
    evidence = _evidence({5.0: [0.3, -0.2], 10.0: [0.2, -0.1, 0.3]}, None)
    unfinished = ("alpha=5, seed 2 has not started",) if is_missing else ()

    comparison = compare_arms(replace(evidence, unfinished=unfinished))

    step = next_step(comparison)
    assert step is not None
    assert ("--until-decided" in step.command) != is_missing
    assert bool(comparison.outlooks) != is_missing


def test_failed_trials_are_retried() -> None:
    evidence = replace(
        _evidence({5.0: [0.3, -0.2], 10.0: [0.2, -0.1, 0.3]}, None), origin=_with_failed("alpha=5,seed=2")
    )

    step = next_step(compare_arms(replace(evidence, unfinished=("alpha=5, seed 2 failed: out of memory",))))

    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")


def test_an_arm_that_failed_in_all_trials_is_retried_after_the_planned_looks() -> None:
    better = [-0.100, -0.101, -0.099, -0.102, -0.098]
    evidence = replace(_evidence({10.0: better}, LOOKS), declared_arms=("alpha=0", "alpha=5", "alpha=10"))
    unfinished = ("alpha=5, seed 0 failed: out of memory",)

    lost = next_step(compare_arms(replace(evidence, unfinished=unfinished)))
    assert lost is not None
    assert "--retry" not in lost.command
    step = next_step(compare_arms(replace(evidence, unfinished=unfinished, origin=_with_failed("alpha=5,seed=0"))))
    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")
    assert step.cost == "at most 5 more trials (5 seeds in all)"


def test_decided_arms_may_go_on_after_the_retry_of_an_arm_without_trials() -> None:
    plan = replace(LOOKS, looks_taken=1)
    evidence = _evidence({10.0: [-0.100, -0.101, -0.099]}, plan)
    declared = replace(
        evidence, declared_arms=("alpha=0", "alpha=5", "alpha=10"), origin=_with_failed("alpha=5,seed=0")
    )

    comparison = compare_arms(replace(declared, unfinished=("alpha=5, seed 0 failed: out of memory",)))

    assert arms_with_further_seeds(comparison) == ()
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 9 more trials (5 seeds in all)"  # 5 of alpha 5, and 2 further ones of both other arms


def test_missing_trials_of_the_baseline_are_trained_after_the_last_look() -> None:
    evidence = _evidence({5.0: [0.3, -0.2, 0.1, 0.2, -0.1]}, LOOKS)
    lost = replace(evidence, trials=tuple(one for one in evidence.trials if one.alpha or (one.seed or 0) < 3))

    assert next_step(compare_arms(evidence)) is None
    step = next_step(compare_arms(lost))
    assert step is not None
    assert step.command == ("neftune", "sweep", "results/s/sweep.yaml", "--output", "results/s")
    assert step.cost == "at most 2 more trials (5 seeds in all)"


@pytest.mark.parametrize("lost", [{4}, {1}, {2, 4}])
def test_no_command_tests_the_last_look_again(lost: set[int]) -> None:
    evidence = replace(_evidence({5.0: [0.3, -0.2, 0.1, 0.2, -0.1]}, LOOKS), origin=_with_failed("alpha=0,seed=4"))
    kept = tuple(one for one in evidence.trials if one.alpha or one.seed not in lost)

    comparison = compare_arms(replace(evidence, trials=kept, unfinished=("alpha=0, seed 4 failed: out of memory",)))

    assert headline(comparison).state == "NOT DECIDED"
    assert next_step(comparison) is None


@pytest.mark.parametrize(("failed", "trials"), [((), 5), (("alpha=0,seed=1",), 4)])
def test_missing_trials_of_taken_looks_are_trained_with_the_further_ones(failed: tuple[str, ...], trials: int) -> None:
    evidence = _evidence(
        {5.0: [0.3, -0.2, 0.1, 0.2]}, replace(LOOKS, looks=(4, 6), seeds=tuple(range(6)), looks_taken=1)
    )
    kept = tuple(one for one in evidence.trials if one.alpha or one.seed != 1)

    step = next_step(compare_arms(replace(evidence, trials=kept, origin=_with_failed(*failed))))

    assert step is not None
    # 2 further ones of both arms, and one of the first look
    assert step.cost == f"at most {trials} more trials (6 seeds in all)"
    assert "--retry" not in step.command


def test_exploratory_arms_get_further_seeds_after_the_decision_on_the_primary_arm() -> None:
    better = [-0.100, -0.101, -0.099]
    plan = replace(LOOKS, looks_taken=1, primary_arm="alpha=5")

    comparison = compare_arms(_evidence({5.0: better, 10.0: [0.3, -0.2, 0.1]}, plan))

    assert headline(comparison).state == "DECIDED"
    assert arms_with_further_seeds(comparison) == ("alpha=10",)
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 4 more trials (5 seeds in all)"


def test_no_arm_gets_further_seeds_if_fine_tuning_learned_nothing() -> None:
    plan = replace(LOOKS, looks_taken=1)
    evidence = _evidence({5.0: [0.3, -0.2, 0.1]}, plan)
    base = Measurements("base", BASE_ARM, None, None, {"eval_loss": 0.5}, {}, {})

    comparison = compare_arms(replace(evidence, trials=(base, *evidence.trials)))

    assert headline(comparison).state == "NOTHING LEARNED"
    assert arms_with_further_seeds(comparison) == ()
    assert arms_with_further_seeds(compare_arms(evidence)) == ("alpha=5",)


def test_an_arm_without_trials_is_trained_first_and_leaves_the_comparison_incomplete() -> None:
    better = [-0.100, -0.101, -0.099]
    evidence = replace(_evidence({10.0: better}, None), declared_arms=("alpha=0", "alpha=5", "alpha=10"))

    comparison = compare_arms(replace(evidence, unfinished=("alpha=5, seed 0 has not started",)))

    assert comparison.arms_without_trials == ("alpha=5",)
    assert headline(comparison).state == "PARTLY DECIDED"
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 1 more trial"


def test_the_declared_baseline_is_the_default_one() -> None:
    evidence = replace(_evidence({5.0: [0.3, -0.2, 0.1]}, None), declared_arms=("alpha=5", "alpha=0"))

    assert compare_arms(evidence).baseline == "alpha=5"
    assert compare_arms(evidence).departures == ()


def test_outlook_starts_at_the_next_look_although_a_seed_failed() -> None:
    comparison = _looked_at(
        [0.3, -0.2, math.nan, 0.1, 0.2], replace(LOOKS, looks=(3, 5, 8), looks_taken=2, seeds=tuple(range(8)))
    )

    assert comparison.outlooks == {}

    failed = _looked_at([0.3, -0.2, 0.1, 0.1], replace(LOOKS, looks=(3, 5, 8), looks_taken=2, seeds=tuple(range(8))))
    assert {chance.seeds for chance in failed.outlooks["alpha=5"]} == {8}


def _evidence(differences: Mapping[float, Sequence[float]], plan: AnalysisPlan | None) -> Evidence:
    """Return trials with a loss of 1 without noise, and with these differences from it by alpha."""
    seeds = max(map(len, differences.values()))
    losses = {0.0: np.ones(seeds)} | {alpha: 1 + np.array(of_arm) for alpha, of_arm in differences.items()}
    arms = joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": one}) for alpha, one in losses.items()))
    trials = tuple(trial for of_arm in arms.values() for trial in of_arm.values())
    return replace(ONE_SWEEP, trials=trials, plan=plan)


def test_interval_of_the_best_arm_is_as_wide_as_that_of_a_planned_look() -> None:
    differences = {5.0: [-0.5, -0.3, -0.1, -0.2, -0.4], 10.0: [0.3, -0.2, 0.1, 0.2, -0.1]}
    plan = replace(LOOKS, looks=(4, 5))

    best = compare_arms(_evidence(differences, plan)).best

    assert best is not None
    assert (best.arm, best.advantage.confidence) == ("alpha=5", 0.95)
    level = SequentialTest((4, 5)).level(0.05, 1)
    low, high = ttest_1samp(differences[5.0], 0).confidence_interval(1 - level)
    assert best.advantage.ci_high - best.advantage.ci_low == pytest.approx(high - low)
    assert level < 0.05


def test_best_arm_is_selected_at_the_first_look_that_decides_an_arm() -> None:
    differences = {5.0: [-0.5, -0.3, -0.1, -0.2, -0.4], 10.0: [0.300, 0.301, 0.299]}

    comparison = compare_arms(_evidence(differences, LOOKS))
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
    comparison = _looked_at([0.3, -0.2, 0.1, 0.1, 0.2])

    assert comparison.best is None  # only one arm is left
    assert "control" not in str([claim.here for claim in comparison.claims])
    assert comparison.learning.problems == ()
    assert [arm.name for arm in comparison.studied] == ["alpha=5"]


OPEN = [0.3, -0.2, 0.1, 0.2, -0.1]


def _with_failures(*seeds: int) -> Evidence:
    """Return the evidence of an open arm whose trials with these seeds failed."""
    evidence = _evidence({5.0: OPEN}, LOOKS)
    trials = tuple(one for one in evidence.trials if not one.alpha or one.seed not in seeds)
    return replace(evidence, trials=trials, origin=_with_failed(*(f"alpha=5,seed={seed}" for seed in seeds)))


def test_failed_trials_without_which_an_arm_was_tested_are_not_retried() -> None:
    """Alpha 15 has no trial, so its looks are still to be tested. Those of alpha 5 were tested without seed 1."""
    evidence = _evidence({5.0: OPEN}, LOOKS)
    evidence = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if (one.alpha, one.seed) != (5.0, 1)),
        declared_arms=("alpha=0", "alpha=5", "alpha=15"),
        origin=_with_failed("alpha=5,seed=1", *(f"alpha=15,seed={seed}" for seed in range(5))),
    )

    comparison = compare_arms(evidence)

    assert excluded_trials(comparison) == {"alpha=5,seed=1"}
    step = next_step(comparison)
    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")
    assert step.cost == "at most 5 more trials (5 seeds in all)"


def test_an_arm_with_too_few_pairs_for_any_look_is_retried_after_the_last_one() -> None:
    step = next_step(compare_arms(_with_failures(2, 3, 4)))

    assert step is not None
    assert step.cost == "at most 3 more trials (5 seeds in all)"


def test_later_trials_of_an_arm_are_retried_if_it_was_tested_at_an_earlier_look_only() -> None:
    comparison = compare_arms(_with_failures(3, 4))

    assert excluded_trials(comparison) == frozenset()
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 2 more trials (5 seeds in all)"


def test_a_primary_arm_without_trials_is_retried_before_exploratory_arms_go_on() -> None:
    plan = replace(LOOKS, looks_taken=1, primary_arm="alpha=5")
    evidence = replace(
        _evidence({10.0: OPEN[:3]}, plan),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        origin=_with_failed(*(f"alpha=5,seed={seed}" for seed in range(3))),
    )

    step = next_step(compare_arms(evidence))

    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")


def test_exploratory_arms_without_trials_are_not_retried_after_the_last_look() -> None:
    plan = replace(LOOKS, primary_arm="alpha=5")
    evidence = replace(
        _evidence({5.0: OPEN}, plan),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        origin=_with_failed(*(f"alpha=10,seed={seed}" for seed in range(5))),
    )

    assert next_step(compare_arms(evidence)) is None


def test_controls_without_trials_are_part_of_the_price() -> None:
    plan = replace(LOOKS, controls=("control",))
    failed = tuple(f"{arm},seed={seed}" for arm in ("alpha=10", "control") for seed in range(5))
    evidence = replace(
        _evidence({5.0: OPEN}, plan), declared_arms=("alpha=0", "alpha=5", "alpha=10"), origin=_with_failed(*failed)
    )

    step = next_step(compare_arms(evidence))

    assert step is not None
    assert step.cost == "at most 10 more trials (5 seeds in all)"


def test_trials_of_a_look_that_was_taken_without_them_stay_excluded() -> None:
    """A value that is not finite at a later look leaves the arm without a verdict, but the first look was taken."""
    evidence = _with_failures(1)
    known = replace(evidence, plan=replace(LOOKS, excluded=frozenset({"alpha=5,seed=1"})))
    later = tuple(
        replace(one, scores={"eval_loss": math.nan}, items={}) if (one.alpha, one.seed) == (5.0, 4) else one
        for one in known.trials
    )

    comparison = compare_arms(replace(known, trials=later))

    assert comparison.assessment("alpha=5", "eval_loss") is None
    assert excluded_trials(comparison) == {"alpha=5,seed=1"}
    assert next_step(comparison) is None


def test_retries_that_were_interrupted_go_on() -> None:
    """The look was taken without alpha 5. Three of its trials have been retried since, and two still failed."""
    evidence = _with_failures(3, 4)
    known = replace(evidence, plan=replace(LOOKS, looks=(5, 8), seeds=tuple(range(8)), looks_taken=1))

    assert excluded_trials(compare_arms(known)) == {"alpha=5,seed=3", "alpha=5,seed=4"}
    assert known.plan is not None
    noted = replace(known, plan=replace(known.plan, excluded=frozenset()))
    assert excluded_trials(compare_arms(noted)) == frozenset()


def test_an_arm_that_shares_no_seed_with_the_baseline_is_retried() -> None:
    evidence = _evidence({5.0: OPEN, 10.0: OPEN}, LOOKS)
    lost = {(0.0, 1), (0.0, 2), *((10.0, seed) for seed in (0, 3, 4))}
    left = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if (one.alpha, one.seed) not in lost),
        origin=_with_failed(*(f"alpha={alpha:g},seed={seed}" for alpha, seed in sorted(lost))),
    )

    comparison = compare_arms(left)

    assert comparison.assessment("alpha=10", "eval_loss") is None
    step = next_step(comparison)
    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")


def test_decided_arms_may_go_on_if_an_arm_with_few_pairs_is_tested() -> None:
    plan = replace(LOOKS, looks_taken=1)
    evidence = _evidence({5.0: [-0.100, -0.101, -0.099], 10.0: OPEN[:3]}, plan)
    few = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if (one.alpha, one.seed) != (10.0, 2)),
        origin=_with_failed("alpha=10,seed=2"),
    )

    comparison = compare_arms(few)

    assert comparison.arm("alpha=10").seeds == (0, 1)
    assert arms_with_further_seeds(comparison) == ("alpha=10",)
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 6 more trials (5 seeds in all)"  # 2 of each arm: alpha 5 may become open


def test_a_new_sweep_trains_the_controls_too() -> None:
    evidence = _evidence({5.0: OPEN[:3]}, replace(AnalysisPlan(), controls=("A/A control", "positive control")))

    step = next_step(compare_arms(replace(evidence, declared_arms=("alpha=0", "alpha=5"))))

    assert step is not None
    assert step.cost == "at most 80 trials (20 seeds)"


@pytest.mark.parametrize(
    ("evidence", "departure", "cost"),
    [
        (
            replace(
                _evidence({5.0: [-0.100, -0.101, -0.099]}, None),
                declared_seeds=(0, 1, 2, 3, 4),
                unfinished=("alpha=0,seed=3 has not started", "alpha=5,seed=3 has not started"),
                origin=replace(ONE_SWEEP.origin, lacks_declared_trials=True),
            ),
            "Not all trials of the declared 5 seeds have finished. Testing both now and",
            "at most 2 more trials",
        ),
        (
            replace(
                _evidence({5.0: OPEN[:3]}, None),
                unfinished=("base has not started",),
                origin=replace(ONE_SWEEP.origin, lacks_base=True),
            ),
            "The base model has no finished trial. Margins that are a share of the",
            "at most 1 more trial",
        ),
    ],
)
def test_a_sweep_whose_trials_are_missing_is_finished_first(evidence: Evidence, departure: str, cost: str) -> None:
    comparison = compare_arms(evidence)

    assert comparison.departures[0].sentence.startswith(departure)
    step = next_step(comparison)
    assert step is not None
    assert step.cost == cost


def test_a_missing_base_model_does_not_end_planned_looks() -> None:
    evidence = _evidence({5.0: OPEN[:3]}, replace(LOOKS, looks_taken=1))
    without = replace(evidence, origin=replace(evidence.origin, lacks_base=True))

    steps = [next_step(compare_arms(one)) for one in (evidence, without)]

    assert steps[0] is not None
    assert steps[0] == steps[1]


@pytest.mark.parametrize("plan", [None, replace(LOOKS, looks_taken=1)])
def test_a_sweep_of_another_version_of_neftune_is_not_continued(plan: AnalysisPlan | None) -> None:
    missing = () if plan else ("alpha=5,seed=3 has not finished",)
    evidence = replace(_evidence({5.0: OPEN[:3]}, plan), declared_seeds=(0, 1, 2, 3), unfinished=missing)
    other = replace(evidence, origin=replace(evidence.origin, of_other_version=True))

    own, foreign = compare_arms(evidence), compare_arms(other)

    assert next_step(own) is not None
    assert next_step(foreign) is None
    assert sentence_without_command(foreign).startswith("these trials are from another version of neftune, and only")


@pytest.mark.parametrize("kind", get_args(DepartureKind))
def test_planned_looks_continue_with_departures_that_missing_trials_end(kind: DepartureKind) -> None:
    comparison = compare_arms(_evidence({5.0: OPEN[:3]}, replace(LOOKS, looks_taken=1)))
    departed = replace(comparison, departures=(Departure(kind, "One."), Departure(kind, "Two.")))
    expected = {"missing baseline": "missing trials", "missing base model": "looks"}

    assert (continuation(comparison), continuation(departed)) == ("looks", expected.get(kind))


def test_seeds_that_were_added_after_a_comparison_are_a_departure() -> None:
    added = "s was compared with 3 and 5 seeds."

    comparison = compare_arms(replace(_evidence({5.0: OPEN}, None), added_seeds=(added,)))

    assert comparison.departures == (Departure("added seeds", added),)
