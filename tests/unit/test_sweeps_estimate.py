"""Estimates of plans, worked out by hand: from calibrations, from finished trials, and from both."""

import json
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
from neftune_cli.records import CurvePoint, TrialState, TrialStatus
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.cost_table import CostedPlan, costed_plan, total_lines, states_of
from neftune_cli.sweeps.estimate import CostEstimate, cost, estimate_of, measured, schedule, to_calibrate
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, resolved_evaluation
from neftune_cli.sweeps.manifest import unestimated, with_estimate
from neftune_cli.sweeps.plan import Plan
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.trial import Trial
from tests.sweep_in_progress import record

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
"""With the recipe of `tiny`: batches of 16, 3 epochs."""


IN_PAIRS = {"host": socket.gethostname(), "side_by_side": 2}


def calibration(trial: Trial, **values: Any) -> Calibration:
    found = {
        "setup": 1.0,
        "step": 0.1,
        "measurement": 2.0,
        "answers": 3.0,
        "longest_answers": 8.0,
        "steps_per_epoch": 10,
        "tokens_per_epoch": 500,
        "peak_memory": GIB,
    }
    return Calibration(recipe=recipe_key(trial.spec.train), **{**found, **values})


def leave(folder: SweepFolder, trial: Trial, **status: Any) -> None:
    place = folder.trial(trial.id, trial.arm, trial.seed)
    place.path.mkdir(parents=True, exist_ok=True)
    values = TrialStatus(trial=trial.id, **status)
    (place.path / "state.json").write_text(values.model_dump_json(), encoding="utf-8")
    (place.path / "metrics.jsonl").write_text(CurvePoint(step=1, epoch=1, tokens=999).model_dump_json() + "\n")
    if values.state is TrialState.DONE:
        done = record(trial.arm, trial.seed, 1.0).model_copy(update={"trial": trial.id})
        (place.path / "record.json").write_text(done.model_dump_json(), encoding="utf-8")


def test_a_trial_that_is_trained_again_as_a_file_is_damaged_tells_nothing(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[1], state=TrialState.DONE, seconds=20.0, **IN_PAIRS)
    place = folder.trial(trials[1].id, trials[1].arm, trials[1].seed)
    (place.path / "record.json").write_text("{")
    (place.path / "metrics.jsonl").write_text("garbage {{{\n")
    assert measured(trials, folder, workers=2, seconds=1.0).trials == {}
    assert len(to_calibrate(trials[1:], trials, folder, workers=2)) == 1


def keep(folder: SweepFolder, trial: Trial, *, seconds: float) -> None:
    """Leave a checkpoint that so much work went into."""
    checkpoints = folder.trial(trial.id, trial.arm, trial.seed).checkpoints
    with checkpoints.new(20, seconds, {}, lambda: None) as files:
        (files / "weights").write_bytes(b"w")


def test_trials_go_to_the_worker_that_is_free_first() -> None:
    assert schedule([5.0, 3.0, 2.0, 4.0], 2) == 9.0  # 5 + 4 on the first, 3 + 2 on the second
    assert schedule([5.0, 3.0, 2.0, 4.0], 1) == 14.0
    assert schedule([5.0, 3.0], 8) == 5.0
    assert schedule([], 2) == 0.0


def test_calibrations_are_averaged_and_multiplied(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    both = [calibration(trials[1]), calibration(trials[1], step=0.3, peak_memory=2 * GIB)]
    found = estimate_of(trials, trials, folder, both, workers=2)
    one = 1.0 + 30 * 0.2 + 3 * 2.0 + 3.0
    assert found.trials == pytest.approx({"base-id": 10.0, **{trial.id: one for trial in trials[1:]}})
    assert found.seconds == pytest.approx(3 * one - 6.0)  # base, then two; the other worker two in that time
    assert found.tokens == {"base-id": 0, **{trial.id: 1500 for trial in trials[1:]}}
    assert (found.peak_memory, found.workers, found.source) == (2 * GIB, 2, "calibration")


def test_one_trial_is_calibrated_for_each_recipe(tmp_path: Path) -> None:
    trials = trials_of(spec(ZERO, FIVE, ArmSpec(name="decay", alpha=0, train={"weight_decay": 0.1}), SMALL))
    chosen = to_calibrate(trials, trials, SweepFolder(tmp_path), workers=1)
    assert [one.train.batch_size for one in chosen] == [16, 2]
    assert [one.train.batch_size for one in to_calibrate(trials[:1], trials, SweepFolder(tmp_path), workers=1)] == [16]


def test_a_recipe_without_calibration_is_left_out(tmp_path: Path) -> None:
    trials = trials_of(spec(ZERO, SMALL))
    found = estimate_of(trials, trials, SweepFolder(tmp_path), [calibration(trials[1])], workers=1)
    assert set(found.trials) == {"base-id", "alpha=0-0"}


def test_finished_trials_of_the_same_kind_win(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[0], state=TrialState.DONE, seconds=4.0, **IN_PAIRS)
    leave(folder, trials[1], state=TrialState.DONE, seconds=20.0, peak_memory=5, **IN_PAIRS)
    leave(folder, trials[2], state=TrialState.DONE, seconds=30.0, peak_memory=7, **IN_PAIRS)
    missing = trials[3:]
    assert to_calibrate(missing, trials, folder, workers=2) == []
    found = estimate_of(missing, trials, folder, [calibration(trials[1])], workers=2)
    whole = dict.fromkeys([one.id for one in missing], 25.0)
    assert found == CostEstimate(whole, 25.0, 7, 2, "earlier trials", dict.fromkeys(whole, 999))
    longer = [Trial("longer", "x", trials[1].spec.model_copy(update={"train": _epochs(trials[1], 6.0)}), {})]
    assert [one.train.epochs for one in to_calibrate(longer, [*trials, *longer], folder, workers=2)] == [6.0]


@pytest.mark.parametrize("otherwise", [{"side_by_side": 1}, {"host": "elsewhere"}, {"side_by_side": None}])
def test_trials_that_ran_otherwise_tell_nothing(otherwise: dict[str, Any], tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[1], state=TrialState.DONE, seconds=20.0, **{**IN_PAIRS, **otherwise})
    assert len(to_calibrate(trials[2:], trials, folder, workers=2)) == 1
    found = estimate_of(trials[2:], trials, folder, [calibration(trials[1])], workers=2)
    assert found.source == "calibration"


def _epochs(trial: Trial, epochs: float) -> Any:
    return trial.spec.train.model_copy(update={"epochs": epochs})


def test_a_trial_that_goes_on_has_the_rest_of_its_time_before_it(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[1], state=TrialState.STOPPED, step=20, steps=30, seconds=9.0)
    keep(folder, trials[1], seconds=2.0)
    found = estimate_of(trials[1:2], trials, folder, [calibration(trials[1])], workers=1)
    assert found.trials == pytest.approx({trials[1].id: 13.0})
    assert found.seconds == pytest.approx(11.0)


def test_what_is_in_no_checkpoint_is_before_it_again(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[1], state=TrialState.RUNNING, step=20, steps=30, seconds=9.0)
    found = estimate_of(trials[1:2], trials, folder, [calibration(trials[1])], workers=1)
    assert found.seconds == pytest.approx(13.0)


def test_a_failed_trial_begins_anew(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[1], state=TrialState.FAILED, step=20, steps=30, seconds=9.0)
    found = estimate_of(trials[1:2], trials, folder, [calibration(trials[1])], workers=1)
    assert found.seconds == pytest.approx(13.0)


def test_the_truth_has_the_shape_of_the_estimate(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    leave(folder, trials[1], state=TrialState.DONE, seconds=20.0, peak_memory=5)
    leave(folder, trials[2], state=TrialState.RUNNING, seconds=1.0)
    truth = measured(trials, folder, workers=2, seconds=33.0)
    assert truth == CostEstimate({trials[1].id: 20.0}, 33.0, 5, 2, "measured", {trials[1].id: 999})
    assert CostEstimate.from_json(json.loads(json.dumps({**truth.as_json(), "later": 1}))) == truth


def test_the_manifest_joins_the_estimates_of_trials_that_came_one_after_the_other(tmp_path: Path) -> None:
    trials, folder = trials_of(ALPHAS), SweepFolder(tmp_path)
    first, later = (
        estimate_of(some, trials, folder, [calibration(trials[1], peak_memory=peak)], workers=1)
        for some, peak in ((trials[:3], 2 * GIB), (trials[3:], GIB))
    )
    manifest = with_estimate({"trials": {}}, first)
    assert unestimated(manifest, trials) == trials[3:]
    joined = with_estimate(json.loads(json.dumps(manifest)), later)["estimate"]
    assert list(joined["trials"]) == [trial.id for trial in trials]
    assert joined["seconds"] == first.seconds + later.seconds
    assert (joined["peak_memory"], joined["source"]) == (2 * GIB, "calibration")
    assert unestimated({"estimate": joined}, trials) == []


def test_a_rate_is_for_an_hour() -> None:
    assert cost(5400.0, 2.0) == 3.0


def test_pricing_never_imports_torch() -> None:
    code = "import sys, neftune_cli.sweeps.cost_table as _; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def planned() -> Plan:
    data = DataFacts("d", "f", 160, 200, 120, True, GENERATION, ())
    found = Inspection(ALPHAS, (), (), "cpu", 0, {}, {}, ModelFacts("m", "f"), data)
    return Plan(ALPHAS, ModelFacts("m", "f"), data, tuple(trials_of(ALPHAS)), found)


def priced(folder: SweepFolder, calibrations: Sequence[Calibration], **given: Any) -> CostedPlan:
    plan = planned()
    states = states_of(plan, folder, retry_failed=False)
    missing = [trial for trial in plan.trials if states[trial.id] in ("to run", "to go on")]
    estimate = estimate_of(missing, plan.trials, folder, calibrations, workers=2)
    return costed_plan(plan, folder, states, estimate, **given)


def test_the_plan_tells_where_each_trial_stands(tmp_path: Path) -> None:
    folder, trials = SweepFolder(tmp_path), trials_of(ALPHAS)
    (tmp_path / "trials").mkdir()
    claimed = folder.trial(trials[0].id, BASE_ARM, None).claim()
    assert claimed is not None
    leave(folder, trials[1], state=TrialState.FAILED)
    leave(folder, trials[2], state=TrialState.STOPPED, step=15, steps=30)
    keep(folder, trials[2], seconds=1.5)
    with claimed:
        known = priced(folder, [calibration(trials[1])], hourly_rate=7200.0, available_memory=GIB)
    assert [(line.trial, line.steps, line.tokens, line.state, line.seconds) for line in known.lines] == [
        ("base-id", 0, None, "running elsewhere", None),
        ("alpha=0-0", 30, None, "failed", None),
        ("alpha=5-0", 30, 1500, "to go on", pytest.approx(13.0)),
        ("alpha=0-1", 30, 1500, "to run", pytest.approx(13.0)),
        ("alpha=5-1", 30, 1500, "to run", pytest.approx(13.0)),
    ]
    assert list(total_lines(known)) == [
        "3 of 5 trials to run, 90 optimizer steps at most.",
        "1 trial failed before; --retry failed runs what failed again.",
        "Training tokens: 4,500, padding left out.",
        "Time: about 24 s with 2 workers, start included.",  # 11.5 s, then 13 s on the same worker
        "Peak memory: about 1.0 GiB a worker, 2.0 GiB in all; 1.0 GiB available. "
        "That is more than there is: use fewer --workers.",
        "Price: about 49.00, at 7200 an hour.",
        "Source of the figures: a few steps and answers that were tried out just now.",
    ]


def test_what_nothing_is_known_of_has_no_price_in_json(tmp_path: Path) -> None:
    told = priced(SweepFolder(tmp_path), [], hourly_rate=2.0).as_json()
    assert (told["price"], told["tokens"], told["estimate"]) == (None, None, None)
    assert (told["to_run"], told["without_estimate"]) == (5, 5)
