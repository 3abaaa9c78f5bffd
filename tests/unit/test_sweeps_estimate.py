"""Cost estimates from calibrations and finished trials, compared with values computed by hand."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import BASE_ARM, ArmSpec, SweepSpec
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.records import CurvePoint, TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.manifest import Cost, Manifest
from neftune_cli.sweeps.cost_table import CostedPlan, costed_plan, price_of, states_of, total_lines
from neftune_cli.sweeps.estimate import (
    combined_estimate,
    measured_cost,
    recipes_to_calibrate,
)
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, resolved_evaluation
from neftune_cli.sweeps.manifest import unestimated, with_estimate
from neftune_cli.sweeps.plan import Plan, trial_folder
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.trial import Trial
from tests.finished_trials import start_trial, trial_record, write_trial
from tests.manifests import cost_estimate

GENERATION = GenerationDefaults(max_new_tokens=16, repetition_penalty=1.0)
GIB = 1 << 30


def spec(*arms: ArmSpec, seeds: int = 1) -> SweepSpec:
    return resolve_sweep(None, {"seeds": tuple(range(seeds))}).model_copy(update={"arms": arms})


def trials_of(one: SweepSpec) -> list[Trial]:
    evaluation = resolved_evaluation(one, GENERATION)
    base = Trial("base-id", BASE_ARM, one.trial(ArmSpec(name=BASE_ARM), 0, evaluation), {})
    named = [(seed, arm) for seed in one.seeds for arm in one.arms]
    return [base, *(Trial(f"{arm.name}-{seed}", arm.name, one.trial(arm, seed, evaluation), {}) for seed, arm in named)]


ZERO, FIVE = ArmSpec(name="alpha=0", alpha=0), ArmSpec(name="alpha=5", alpha=5)
SMALL = ArmSpec(name="small", alpha=0, train={"batch_size": 2})
ALPHAS = spec(ZERO, FIVE, seeds=2)
"""The recipe of `tiny`: batch size 16, 3 epochs."""
IN_PARALLEL = {"host": socket.gethostname(), "side_by_side": 2}


def calibration(trial: Trial, **values: Any) -> Calibration:
    found = {
        "setup": 1.0,
        "step": 0.1,
        "measurement": 2.0,
        "responses": 3.0,
        "longest_responses": 8.0,
        "steps_per_epoch": 10,
        "tokens_per_epoch": 500,
        "peak_memory": GIB,
    }
    return Calibration(recipe=recipe_key(trial.spec.train), **{**found, **values})


def write(folder: SweepFolder, trial: Trial, state: TrialState, **status: Any) -> TrialFolder:
    """Write a trial that trained on 999 tokens, in this state. A running one is written as by a killed process."""
    files = trial_folder(folder, trial)
    files.path.parent.mkdir(exist_ok=True)
    curve = [CurvePoint(step=1, epoch=1, tokens=999)]
    if state is TrialState.DONE:
        write_trial(files, trial_record(trial.id, trial.arm, trial.seed), curve=curve, **status)
        return files
    with start_trial(files, trial.id, **status) as leased:
        leased.rewrite_metrics(curve)
        if state is not TrialState.RUNNING:
            leased.end(state)
    return files


def test_a_trial_with_damaged_files_is_not_used(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    files = write(folder, trials[1], TrialState.DONE, seconds=20.0, **IN_PARALLEL)
    (files.path / "record.json").write_text("{")
    (files.path / "metrics.jsonl").write_text("garbage {{{\n")
    assert measured_cost(trials, folder, workers=2, seconds=1.0).trials == {}
    assert len(recipes_to_calibrate(trials[1:], trials, folder, workers=2)) == 1


def add_checkpoint(folder: SweepFolder, trial: Trial, *, seconds: float) -> None:
    """Write a checkpoint after this time of training."""
    checkpoints = trial_folder(folder, trial).checkpoints
    with checkpoints.new(20, seconds, {}, lambda: None) as files:
        (files / "weights").write_bytes(b"w")


def test_calibrations_of_several_workers_are_averaged(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    both = [calibration(trials[1]), calibration(trials[1], step=0.3, peak_memory=2 * GIB)]
    found = combined_estimate(trials, trials, folder, both, workers=2)
    one = 1.0 + 30 * 0.2 + 3 * 2.0 + 3.0
    assert found.trials == pytest.approx({"base-id": 10.0, **{trial.id: one for trial in trials[1:]}})
    assert found.seconds == pytest.approx(3 * one - 6.0)  # base, then two; the other worker two in that time
    assert found.tokens == {"base-id": 0, **{trial.id: 1500 for trial in trials[1:]}}
    assert (found.peak_memory, found.workers, found.source) == (2 * GIB, 2, "calibration")


def test_each_recipe_is_calibrated_once(tmp_path: Path) -> None:
    trials = trials_of(spec(ZERO, FIVE, ArmSpec(name="decay", alpha=0, train={"weight_decay": 0.1}), SMALL))
    chosen = recipes_to_calibrate(trials, trials, SweepFolder(tmp_path), workers=1)
    assert [one.train.batch_size for one in chosen] == [16, 2]
    assert [
        one.train.batch_size for one in recipes_to_calibrate(trials[:1], trials, SweepFolder(tmp_path), workers=1)
    ] == [16]


def test_a_recipe_without_calibration_has_no_estimate(tmp_path: Path) -> None:
    trials = trials_of(spec(ZERO, SMALL))
    found = combined_estimate(trials, trials, SweepFolder(tmp_path), [calibration(trials[1])], workers=1)
    assert set(found.trials) == {"base-id", "alpha=0-0"}


def test_finished_trials_of_the_same_kind_take_precedence(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    write(folder, trials[0], TrialState.DONE, seconds=4.0, **IN_PARALLEL)
    write(folder, trials[1], TrialState.DONE, seconds=20.0, peak_memory=5, **IN_PARALLEL)
    write(folder, trials[2], TrialState.DONE, seconds=30.0, peak_memory=7, **IN_PARALLEL)
    missing = trials[3:]
    assert recipes_to_calibrate(missing, trials, folder, workers=2) == []
    found = combined_estimate(missing, trials, folder, [calibration(trials[1])], workers=2)
    whole = dict.fromkeys([one.id for one in missing], 25.0)
    tokens = dict.fromkeys(whole, 999)
    assert found == cost_estimate(whole, 25.0, peak_memory=7, source="earlier trials", tokens=tokens)
    longer = [Trial("longer", "x", trials[1].spec.model_copy(update={"train": _epochs(trials[1], 6.0)}), {})]
    assert [one.train.epochs for one in recipes_to_calibrate(longer, [*trials, *longer], folder, workers=2)] == [6.0]


@pytest.mark.parametrize("changes", [{"side_by_side": 1}, {"host": "elsewhere"}, {"side_by_side": None}])
def test_trials_from_other_machines_or_with_other_workers_are_not_used(changes: dict[str, Any], tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    write(folder, trials[1], TrialState.DONE, seconds=20.0, **{**IN_PARALLEL, **changes})
    assert len(recipes_to_calibrate(trials[2:], trials, folder, workers=2)) == 1
    found = combined_estimate(trials[2:], trials, folder, [calibration(trials[1])], workers=2)
    assert found.source == "calibration"


def _epochs(trial: Trial, epochs: float) -> Any:
    return trial.spec.train.model_copy(update={"epochs": epochs})


def test_a_resumed_trial_needs_only_the_remaining_time(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    write(folder, trials[1], TrialState.STOPPED, step=20, steps=30, seconds=9.0)
    add_checkpoint(folder, trials[1], seconds=2.0)
    found = combined_estimate(trials[1:2], trials, folder, [calibration(trials[1])], workers=1)
    assert found.trials == pytest.approx({trials[1].id: 13.0})
    assert found.seconds == pytest.approx(11.0)


def test_work_without_a_checkpoint_is_repeated(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    write(folder, trials[1], TrialState.RUNNING, step=20, steps=30, seconds=9.0)
    found = combined_estimate(trials[1:2], trials, folder, [calibration(trials[1])], workers=1)
    assert found.seconds == pytest.approx(13.0)


def test_a_failed_trial_restarts(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    write(folder, trials[1], TrialState.FAILED, step=20, steps=30, seconds=9.0)
    found = combined_estimate(trials[1:2], trials, folder, [calibration(trials[1])], workers=1)
    assert found.seconds == pytest.approx(13.0)


def test_the_measured_cost_has_the_fields_of_the_estimate(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    write(folder, trials[1], TrialState.DONE, seconds=20.0, peak_memory=5)
    write(folder, trials[2], TrialState.RUNNING, seconds=1.0)
    measured = measured_cost(trials, folder, workers=2, seconds=33.0)
    trial = trials[1].id
    assert measured == cost_estimate({trial: 20.0}, 33.0, peak_memory=5, source="measured", tokens={trial: 999})
    assert measured.model_fields_set == set(Cost.model_fields)


def test_an_estimate_with_a_range_is_joined_and_delayed() -> None:
    certain = cost_estimate({"a": 5.0}, 5.0, peak_memory=GIB)
    wide = cost_estimate({"b": 4.0}, 4.0, lowest_seconds=2.0, highest_seconds=8.0)
    both = certain.joined(wide)
    assert (both.seconds, both.lowest_seconds, both.highest_seconds) == (9.0, 7.0, 13.0)
    assert both == wide.joined(certain)
    later = both.after(10.0)
    assert (later.seconds, later.lowest_seconds, later.highest_seconds) == (19.0, 17.0, 23.0)
    assert certain.after(10.0).highest_seconds is None


@pytest.mark.parametrize(
    ("first", "later", "both"),
    [
        ("calibration and earlier trials", "calibration", "calibration and earlier trials"),
        ("calibration", "earlier trials and calibration", "calibration and earlier trials"),
        ("nothing", "calibration", "calibration"),
        ("calibration", "nothing", "calibration"),
        ("nothing", "nothing", "nothing"),
    ],
)
def test_a_joined_estimate_names_each_source_once(first: str, later: str, both: str) -> None:
    joined = cost_estimate({"a": 5.0}, 5.0, source=first).joined(cost_estimate({"b": 4.0}, 4.0, source=later))
    assert joined.source == both


def test_the_manifest_joins_estimates_of_successive_commands(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    first, later = (
        combined_estimate(some, trials, folder, [calibration(trials[1], peak_memory=peak)], workers=1)
        for some, peak in ((trials[:3], 2 * GIB), (trials[3:], GIB))
    )
    manifest = with_estimate(Manifest(), first)
    assert unestimated(manifest, trials) == trials[3:]
    joined = with_estimate(manifest, later).estimate
    assert joined is not None
    assert list(joined.trials) == [trial.id for trial in trials]
    assert joined.seconds == first.seconds + later.seconds
    assert (joined.peak_memory, joined.source) == (2 * GIB, "calibration")
    assert unestimated(Manifest(estimate=joined), trials) == []


def test_the_rate_is_per_hour() -> None:
    assert price_of(5400.0, 2.0) == 3.0


def test_cost_estimates_do_not_import_torch() -> None:
    code = "import sys, neftune_cli.sweeps.cost_table as _; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def planned() -> Plan:
    data = DataFacts("d", "f", 160, 200, 120, True, GENERATION, ())
    found = Inspection(ALPHAS, (), (), "cpu", 0, "", {}, {}, ModelFacts("m", "f"), data)
    return Plan(ALPHAS, ModelFacts("m", "f"), data, tuple(trials_of(ALPHAS)), found)


def costed(folder: SweepFolder, calibrations: Sequence[Calibration], **given: Any) -> CostedPlan:
    plan = planned()
    states = states_of(plan, folder, retry_failed=False)
    missing = [trial for trial in plan.trials if states[trial.id] in ("to run", "to resume")]
    estimate = combined_estimate(missing, plan.trials, folder, calibrations, workers=2)
    defaults: dict[str, Any] = {"hourly_rate": None, "available_memory": None, "notes": (), "training_examples": {}}
    return costed_plan(plan, folder, states, estimate, **{**defaults, **given})


def test_examples_that_are_too_long_take_no_steps(tmp_path: Path) -> None:
    length = planned().trials[1].spec.train.max_length
    known = costed(SweepFolder(tmp_path), [], training_examples={str(length): 80})
    assert {line.steps for line in known.lines if line.arm != BASE_ARM} == {15}


def test_the_plan_has_the_state_and_the_cost_of_each_trial(tmp_path: Path) -> None:
    folder, trials = SweepFolder(tmp_path), trials_of(ALPHAS)
    (tmp_path / "trials").mkdir()
    leased = folder.trial(trials[0].id, BASE_ARM, None).acquire_lease(lease_seconds=120)
    assert leased is not None
    write(folder, trials[1], TrialState.FAILED)
    write(folder, trials[2], TrialState.STOPPED, step=15, steps=30)
    add_checkpoint(folder, trials[2], seconds=1.5)
    with leased:
        known = costed(folder, [calibration(trials[1])], hourly_rate=7200.0, available_memory=GIB)
    assert [(line.trial, line.steps, line.tokens, line.state, line.seconds) for line in known.lines] == [
        ("base-id", 0, None, "running elsewhere", None),
        ("alpha=0-0", 30, None, "failed", None),
        ("alpha=5-0", 30, 1500, "to resume", pytest.approx(13.0)),
        ("alpha=0-1", 30, 1500, "to run", pytest.approx(13.0)),
        ("alpha=5-1", 30, 1500, "to run", pytest.approx(13.0)),
    ]
    assert list(total_lines(known)) == [
        "3 of 4 trials to run, at most 90 optimizer steps.",
        "1 trial failed before. --retry failed runs it again.",
        "Training tokens: 4,500, without padding.",
        "Time: about 24 s with 2 workers, including startup.",  # 11.5 s, then 13 s on the same worker
        "Peak memory: about 1.0 GiB per worker, 2.0 GiB in all; 1.0 GiB available. "
        "This exceeds the available memory: use --workers 1.",
        "Cost: about 49.00, at 7200 per hour.",
        "Source of the estimates: a calibration with a few steps and responses.",
    ]


def test_without_estimates_the_json_has_no_cost(tmp_path: Path) -> None:
    exported = costed(SweepFolder(tmp_path), [], hourly_rate=2.0).as_json()
    assert (exported["price"], exported["tokens"], exported["estimate"]) == (None, None, None)
    assert (exported["to_run"], exported["without_estimate"]) == (5, 5)


def test_evaluation_fields_that_are_set_are_kept() -> None:
    given = {"max_length": 77, "max_new_tokens": 7, "repetition_penalty": 1.5, "decoding": "transformers"}
    given["curve_examples"], given["probe_examples"] = 3, 5
    found = resolved_evaluation(resolve_sweep(None, {"evaluation": given}), GENERATION)
    assert found.model_dump() == {**given, "lm_eval": None}
