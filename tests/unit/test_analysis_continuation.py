"""Continuation of a sweep after a comparison: missing and failed trials, further looks, and new sweeps."""

import math
from dataclasses import replace
from typing import get_args

import pytest

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.decision import arms_with_further_seeds, continuation, decide, excluded_trials
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.results import Departure, DepartureKind
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements
from neftune_cli.reporting.next_step import next_step, sentence_without_command
from tests.compared_looks import LOOKS, ONE_SWEEP, OPEN, evidence_of, with_failed, with_failures


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
    evidence = evidence_of({5.0: [0.0, 0.0, 0.0], 10.0: [other, 1.01 * other, 0.99 * other]}, None)
    without = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if one.alpha),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        unfinished=("alpha=0,seed=0 has not started",) if missing else (),
    )

    assert advice(compare_arms(without)).startswith(start)


def test_a_sweep_with_planned_looks_continues_by_its_first_comparison() -> None:
    evidence = evidence_of({5.0: [0.0, 0.0, 0.0], 10.0: [-0.1, -0.101, -0.099]}, replace(LOOKS, looks_taken=1))
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
    evidence = evidence_of({5.0: [0.3, -0.2, 0.1], 10.0: [0.2, -0.1, 0.3]}, None)
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
    evidence = evidence_of({5.0: [0.3, -0.2, 0.1, -0.1] * 5, 10.0: [0.001, -0.001, 0.002]}, None)

    comparison = compare_arms(
        replace(evidence, declared_seeds=tuple(range(declared)), unfinished=("alpha=10,seed=3 has not started",))
    )

    assert list(decide(comparison).open_arms) == ["alpha=5"]
    assert (next_step(comparison) is not None) == is_offered


def test_no_missing_trial_is_trained_if_every_arm_is_decided() -> None:
    evidence = evidence_of({5.0: [-0.100, -0.101, -0.099], 10.0: [-0.100, -0.101, -0.099, -0.102]}, None)
    unfinished = ("alpha=5,seed=3 failed: out of memory",)

    comparison = compare_arms(
        replace(evidence, declared_seeds=(0, 1, 2, 3), unfinished=unfinished, origin=with_failed("alpha=5,seed=3"))
    )

    assert headline(comparison).state == "DECIDED"
    assert next_step(comparison) is None


@pytest.mark.parametrize("is_missing", [True, False])
def test_missing_trials_come_before_a_new_sweep_if_an_arm_has_few_seeds(is_missing: bool) -> None:
    evidence = evidence_of({5.0: [0.3, -0.2], 10.0: [0.2, -0.1, 0.3]}, None)
    unfinished = ("alpha=5, seed 2 has not started",) if is_missing else ()

    comparison = compare_arms(replace(evidence, unfinished=unfinished))

    step = next_step(comparison)
    assert step is not None
    assert ("--until-decided" in step.command) != is_missing
    assert bool(comparison.outlooks) != is_missing


def test_failed_trials_are_retried() -> None:
    evidence = replace(
        evidence_of({5.0: [0.3, -0.2], 10.0: [0.2, -0.1, 0.3]}, None), origin=with_failed("alpha=5,seed=2")
    )

    step = next_step(compare_arms(replace(evidence, unfinished=("alpha=5, seed 2 failed: out of memory",))))

    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")


def test_an_arm_that_failed_in_all_trials_is_retried_after_the_planned_looks() -> None:
    better = [-0.100, -0.101, -0.099, -0.102, -0.098]
    evidence = replace(evidence_of({10.0: better}, LOOKS), declared_arms=("alpha=0", "alpha=5", "alpha=10"))
    unfinished = ("alpha=5, seed 0 failed: out of memory",)

    lost = next_step(compare_arms(replace(evidence, unfinished=unfinished)))
    assert lost is not None
    assert "--retry" not in lost.command
    step = next_step(compare_arms(replace(evidence, unfinished=unfinished, origin=with_failed("alpha=5,seed=0"))))
    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")
    assert step.cost == "at most 5 more trials (5 seeds in all)"


def test_decided_arms_may_go_on_after_the_retry_of_an_arm_without_trials() -> None:
    plan = replace(LOOKS, looks_taken=1)
    evidence = evidence_of({10.0: [-0.100, -0.101, -0.099]}, plan)
    declared = replace(evidence, declared_arms=("alpha=0", "alpha=5", "alpha=10"), origin=with_failed("alpha=5,seed=0"))

    comparison = compare_arms(replace(declared, unfinished=("alpha=5, seed 0 failed: out of memory",)))

    assert arms_with_further_seeds(comparison) == ()
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 9 more trials (5 seeds in all)"  # 5 of alpha 5, and 2 further ones of both other arms


def test_missing_trials_of_the_baseline_are_trained_after_the_last_look() -> None:
    evidence = evidence_of({5.0: [0.3, -0.2, 0.1, 0.2, -0.1]}, LOOKS)
    lost = replace(evidence, trials=tuple(one for one in evidence.trials if one.alpha or (one.seed or 0) < 3))

    assert next_step(compare_arms(evidence)) is None
    step = next_step(compare_arms(lost))
    assert step is not None
    assert step.command == ("neftune", "sweep", "results/s/sweep.yaml", "--output", "results/s")
    assert step.cost == "at most 2 more trials (5 seeds in all)"


@pytest.mark.parametrize("lost", [{4}, {1}, {2, 4}])
def test_no_command_tests_the_last_look_again(lost: set[int]) -> None:
    evidence = replace(evidence_of({5.0: [0.3, -0.2, 0.1, 0.2, -0.1]}, LOOKS), origin=with_failed("alpha=0,seed=4"))
    kept = tuple(one for one in evidence.trials if one.alpha or one.seed not in lost)

    comparison = compare_arms(replace(evidence, trials=kept, unfinished=("alpha=0, seed 4 failed: out of memory",)))

    assert headline(comparison).state == "NOT DECIDED"
    assert next_step(comparison) is None


@pytest.mark.parametrize(("failed", "trials"), [((), 5), (("alpha=0,seed=1",), 4)])
def test_missing_trials_of_taken_looks_are_trained_with_the_further_ones(failed: tuple[str, ...], trials: int) -> None:
    evidence = evidence_of(
        {5.0: [0.3, -0.2, 0.1, 0.2]}, replace(LOOKS, looks=(4, 6), seeds=tuple(range(6)), looks_taken=1)
    )
    kept = tuple(one for one in evidence.trials if one.alpha or one.seed != 1)

    step = next_step(compare_arms(replace(evidence, trials=kept, origin=with_failed(*failed))))

    assert step is not None
    # 2 further ones of both arms, and one of the first look
    assert step.cost == f"at most {trials} more trials (6 seeds in all)"
    assert "--retry" not in step.command


def test_exploratory_arms_get_further_seeds_after_the_decision_on_the_primary_arm() -> None:
    better = [-0.100, -0.101, -0.099]
    plan = replace(LOOKS, looks_taken=1, primary_arm="alpha=5")

    comparison = compare_arms(evidence_of({5.0: better, 10.0: [0.3, -0.2, 0.1]}, plan))

    assert headline(comparison).state == "DECIDED"
    assert arms_with_further_seeds(comparison) == ("alpha=10",)
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 4 more trials (5 seeds in all)"


def test_no_arm_gets_further_seeds_if_fine_tuning_learned_nothing() -> None:
    plan = replace(LOOKS, looks_taken=1)
    evidence = evidence_of({5.0: [0.3, -0.2, 0.1]}, plan)
    base = Measurements("base", BASE_ARM, None, None, {"eval_loss": 0.5}, {}, {})

    comparison = compare_arms(replace(evidence, trials=(base, *evidence.trials)))

    assert headline(comparison).state == "NOTHING LEARNED"
    assert arms_with_further_seeds(comparison) == ()
    assert arms_with_further_seeds(compare_arms(evidence)) == ("alpha=5",)


def test_an_arm_without_trials_is_trained_first_and_leaves_the_comparison_incomplete() -> None:
    better = [-0.100, -0.101, -0.099]
    evidence = replace(evidence_of({10.0: better}, None), declared_arms=("alpha=0", "alpha=5", "alpha=10"))

    comparison = compare_arms(replace(evidence, unfinished=("alpha=5, seed 0 has not started",)))

    assert comparison.arms_without_trials == ("alpha=5",)
    assert headline(comparison).state == "PARTLY DECIDED"
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 1 more trial"


def test_failed_trials_without_which_an_arm_was_tested_are_not_retried() -> None:
    """Alpha 15 has no trial, so its looks are still to be tested. Those of alpha 5 were tested without seed 1."""
    evidence = evidence_of({5.0: OPEN}, LOOKS)
    evidence = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if (one.alpha, one.seed) != (5.0, 1)),
        declared_arms=("alpha=0", "alpha=5", "alpha=15"),
        origin=with_failed("alpha=5,seed=1", *(f"alpha=15,seed={seed}" for seed in range(5))),
    )

    comparison = compare_arms(evidence)

    assert excluded_trials(comparison) == {"alpha=5,seed=1"}
    step = next_step(comparison)
    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")
    assert step.cost == "at most 5 more trials (5 seeds in all)"


def test_an_arm_with_too_few_pairs_for_any_look_is_retried_after_the_last_one() -> None:
    step = next_step(compare_arms(with_failures(2, 3, 4)))

    assert step is not None
    assert step.cost == "at most 3 more trials (5 seeds in all)"


def test_later_trials_of_an_arm_are_retried_if_it_was_tested_at_an_earlier_look_only() -> None:
    comparison = compare_arms(with_failures(3, 4))

    assert excluded_trials(comparison) == frozenset()
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 2 more trials (5 seeds in all)"


def test_a_primary_arm_without_trials_is_retried_before_exploratory_arms_go_on() -> None:
    plan = replace(LOOKS, looks_taken=1, primary_arm="alpha=5")
    evidence = replace(
        evidence_of({10.0: OPEN[:3]}, plan),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        origin=with_failed(*(f"alpha=5,seed={seed}" for seed in range(3))),
    )

    step = next_step(compare_arms(evidence))

    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")


def test_exploratory_arms_without_trials_are_not_retried_after_the_last_look() -> None:
    plan = replace(LOOKS, primary_arm="alpha=5")
    evidence = replace(
        evidence_of({5.0: OPEN}, plan),
        declared_arms=("alpha=0", "alpha=5", "alpha=10"),
        origin=with_failed(*(f"alpha=10,seed={seed}" for seed in range(5))),
    )

    assert next_step(compare_arms(evidence)) is None


def test_controls_without_trials_are_part_of_the_price() -> None:
    plan = replace(LOOKS, controls=("control",))
    failed = tuple(f"{arm},seed={seed}" for arm in ("alpha=10", "control") for seed in range(5))
    evidence = replace(
        evidence_of({5.0: OPEN}, plan), declared_arms=("alpha=0", "alpha=5", "alpha=10"), origin=with_failed(*failed)
    )

    step = next_step(compare_arms(evidence))

    assert step is not None
    assert step.cost == "at most 10 more trials (5 seeds in all)"


def test_trials_of_a_look_that_was_taken_without_them_stay_excluded() -> None:
    """A value that is not finite at a later look leaves the arm without a verdict, but the first look was taken."""
    evidence = with_failures(1)
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
    evidence = with_failures(3, 4)
    known = replace(evidence, plan=replace(LOOKS, looks=(5, 8), seeds=tuple(range(8)), looks_taken=1))

    assert excluded_trials(compare_arms(known)) == {"alpha=5,seed=3", "alpha=5,seed=4"}
    assert known.plan is not None
    noted = replace(known, plan=replace(known.plan, excluded=frozenset()))
    assert excluded_trials(compare_arms(noted)) == frozenset()


def test_an_arm_that_shares_no_seed_with_the_baseline_is_retried() -> None:
    evidence = evidence_of({5.0: OPEN, 10.0: OPEN}, LOOKS)
    lost = {(0.0, 1), (0.0, 2), *((10.0, seed) for seed in (0, 3, 4))}
    left = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if (one.alpha, one.seed) not in lost),
        origin=with_failed(*(f"alpha={alpha:g},seed={seed}" for alpha, seed in sorted(lost))),
    )

    comparison = compare_arms(left)

    assert comparison.assessment("alpha=10", "eval_loss") is None
    step = next_step(comparison)
    assert step is not None
    assert step.command[-2:] == ("--retry", "failed")


def test_decided_arms_may_go_on_if_an_arm_with_few_pairs_is_tested() -> None:
    plan = replace(LOOKS, looks_taken=1)
    evidence = evidence_of({5.0: [-0.100, -0.101, -0.099], 10.0: OPEN[:3]}, plan)
    few = replace(
        evidence,
        trials=tuple(one for one in evidence.trials if (one.alpha, one.seed) != (10.0, 2)),
        origin=with_failed("alpha=10,seed=2"),
    )

    comparison = compare_arms(few)

    assert comparison.arm("alpha=10").seeds == (0, 1)
    assert arms_with_further_seeds(comparison) == ("alpha=10",)
    step = next_step(comparison)
    assert step is not None
    assert step.cost == "at most 6 more trials (5 seeds in all)"  # 2 of each arm: alpha 5 may become open


def test_a_new_sweep_trains_the_controls_too() -> None:
    evidence = evidence_of({5.0: OPEN[:3]}, replace(AnalysisPlan(), controls=("A/A control", "positive control")))

    step = next_step(compare_arms(replace(evidence, declared_arms=("alpha=0", "alpha=5"))))

    assert step is not None
    assert step.cost == "at most 80 trials (20 seeds)"


@pytest.mark.parametrize(
    ("evidence", "departure", "cost"),
    [
        (
            replace(
                evidence_of({5.0: [-0.100, -0.101, -0.099]}, None),
                declared_seeds=(0, 1, 2, 3, 4),
                unfinished=("alpha=0,seed=3 has not started", "alpha=5,seed=3 has not started"),
                origin=replace(ONE_SWEEP.origin, lacks_declared_trials=True),
            ),
            "Not all trials of the declared 5 seeds have finished. Testing both now and",
            "at most 2 more trials",
        ),
        (
            replace(
                evidence_of({5.0: OPEN[:3]}, None),
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
    evidence = evidence_of({5.0: OPEN[:3]}, replace(LOOKS, looks_taken=1))
    without = replace(evidence, origin=replace(evidence.origin, lacks_base=True))

    steps = [next_step(compare_arms(one)) for one in (evidence, without)]

    assert steps[0] is not None
    assert steps[0] == steps[1]


@pytest.mark.parametrize("plan", [None, replace(LOOKS, looks_taken=1)])
def test_a_sweep_of_another_version_of_neftune_is_not_continued(plan: AnalysisPlan | None) -> None:
    missing = () if plan else ("alpha=5,seed=3 has not finished",)
    evidence = replace(evidence_of({5.0: OPEN[:3]}, plan), declared_seeds=(0, 1, 2, 3), unfinished=missing)
    other = replace(evidence, origin=replace(evidence.origin, of_other_version=True))

    own, foreign = compare_arms(evidence), compare_arms(other)

    assert next_step(own) is not None
    assert next_step(foreign) is None
    assert sentence_without_command(foreign).startswith("these trials are from another version of neftune, and only")


@pytest.mark.parametrize("kind", get_args(DepartureKind))
def test_planned_looks_continue_with_departures_that_missing_trials_end(kind: DepartureKind) -> None:
    comparison = compare_arms(evidence_of({5.0: OPEN[:3]}, replace(LOOKS, looks_taken=1)))
    departed = replace(comparison, departures=(Departure(kind, "One."), Departure(kind, "Two.")))
    expected = {"missing baseline": "missing trials", "missing base model": "looks"}

    assert (continuation(comparison), continuation(departed)) == ("looks", expected.get(kind))
