"""Calibrations within a time limit, and those that the cache remembers, with an executor of fixed times."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import BASE_ARM, ArmSpec, TrialSpec
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.errors import NeftuneError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps import estimate, measurement_cache
from neftune_cli.sweeps.estimate import CostEstimate, estimate_cost
from neftune_cli.sweeps.inspection import DataFacts, Inspection, LoadedSizes, ModelFacts, resolved_evaluation
from neftune_cli.sweeps.measurement_cache import (
    FOLDER,
    remember_machine,
    remember_sizes,
    remembered_inspection,
    remembered_sizes,
)
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.resources import WorkerAllocation
from neftune_cli.training.cost import CALIBRATION_SECONDS, FULLY_MEASURED, Calibration, recipe_key
from neftune_cli.training.trial import Trial

GIB = 1 << 30
GENERATION = GenerationDefaults(max_new_tokens=16, repetition_penalty=1.0)
SIZES = LoadedSizes(("a note",), 1000, 4000, vocabulary=100, width=8, layers=1, longest=10)
TWO_WORKERS = WorkerAllocation(2, 1, 0, SIZES, 8 * GIB, 2, 2, 2, is_automatic=True, startup=7.0)


@dataclass
class FixedExecutor:
    """An executor whose trials take 14 s, and whose calibrations take all of their time, up to `needed` seconds."""

    needed: float = 1.0
    peak: int = GIB
    limits: list[float] = field(default_factory=list)
    failing: Callable[[TrialSpec], bool] = lambda _: False

    def start(self, workers: int, threads: int, gpus: int) -> None:
        self.started = (workers, threads, gpus)

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        self.limits.append(seconds)
        if self.failing(trial):
            raise NeftuneError("It failed.")
        one = Calibration(
            recipe_key(trial.train),
            setup=1.0,
            step=0.1,
            measurement=2.0,
            responses=4.0,
            longest_responses=8.0,
            steps_per_epoch=10,
            tokens_per_epoch=500,
            peak_memory=self.peak,
            uncertainty=FULLY_MEASURED if seconds >= self.needed else 2.0,
            seconds=min(seconds, self.needed),
        )
        return [one] * self.started[0]


def planned(*trains: dict[str, Any], data: str = "data") -> Plan:
    """Return a plan with one trial of 30 steps for each recipe."""
    arms = [ArmSpec(name=f"arm {number}", alpha=0, train=train) for number, train in enumerate(trains or ({},))]
    spec = resolve_sweep(None, {"seeds": (0,)}).model_copy(update={"arms": tuple(arms)})
    evaluation = resolved_evaluation(spec, GENERATION)
    trials = [Trial("base", BASE_ARM, spec.trial(ArmSpec(name=BASE_ARM), 0, evaluation), {})]
    trials += [Trial(f"id-{arm.name}", arm.name, spec.trial(arm, 0, evaluation), {}) for arm in arms]
    model, facts = ModelFacts("m", "model"), DataFacts("d", data, 160, 200, 120, True, GENERATION, ())
    return Plan(spec, model, facts, tuple(trials), Inspection(spec, (), (), "cpu", 0, "", {}, {}, model, facts))


def cost_of(
    plan: Plan, executor: FixedExecutor, folder: Path, allocation: WorkerAllocation = TWO_WORKERS
) -> CostEstimate:
    missing = [trial for trial in plan.trials if not trial.is_base]
    return estimate_cost(plan, missing, SweepFolder(folder), cast(Any, executor), allocation, lambda _: None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of remembered calibrations, in an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "neftune" / FOLDER


def of_kind(cache: Path, kind: str) -> Path:
    (path,) = cache.glob(f"{kind}-*.json")
    return path


def test_the_recipes_of_a_sweep_share_the_time_limit(tmp_path: Path) -> None:
    executor = FixedExecutor(needed=10.0)
    recipes: Sequence[dict[str, Any]] = [{"batch_size": size} for size in (1, 2, 4, 8)]
    found = cost_of(planned(*recipes), executor, tmp_path)
    # by hand: a quarter of 30 s each
    assert executor.limits == [7.5] * 4
    assert found.cost.seconds == 28.0
    assert (found.cost.lowest_seconds, found.cost.highest_seconds) == (14.0, 56.0)


def test_time_that_a_recipe_leaves_goes_to_the_next_ones(tmp_path: Path) -> None:
    executor = FixedExecutor(needed=4.0)
    found = cost_of(planned({"batch_size": 1}, {"batch_size": 2}, {"batch_size": 4}), executor, tmp_path)
    assert executor.limits == [10.0, 13.0, 22.0]
    assert (found.cost.lowest_seconds, found.cost.highest_seconds) == (None, None)


def test_without_time_a_recipe_is_estimated_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 16.0)
    executor = FixedExecutor(needed=10.0)
    found = cost_of(planned({"batch_size": 10}, {"batch_size": 20}, {"batch_size": 40}), executor, tmp_path)
    assert executor.limits == [7.5, 7.5]  # the last second is too short for the third recipe
    trials = found.cost.trials
    # from batch size 10: 4 times as many seconds per step, a quarter of the steps, three measurements of the losses
    # from batch size 20: twice as many seconds per step, half of the steps
    first, second = 1 + 9 * 0.4 + 3 * 2 + 4, 1 + 15 * 0.2 + 3 * 2 + 4
    assert trials["id-arm 2"] == pytest.approx((first + second) / 2)
    low, high = found.cost.lowest_seconds, found.cost.highest_seconds
    assert low == pytest.approx(14 / 2 + trials["id-arm 2"] / 2)
    assert high == pytest.approx(14 * 2 + trials["id-arm 2"] * 2)


def test_a_failed_calibration_has_no_estimate_and_a_note(tmp_path: Path) -> None:
    executor = FixedExecutor(failing=lambda trial: trial.train.batch_size == 2)
    found = cost_of(planned({"batch_size": 1}, {"batch_size": 2}), executor, tmp_path)
    assert set(found.cost.trials) == {"id-arm 0"}
    assert found.notes == ["The calibration with batch size 2 failed: It failed."]


def test_the_second_command_does_not_calibrate(tmp_path: Path, cache: Path) -> None:
    first = cost_of(planned(), FixedExecutor(), tmp_path)
    again = FixedExecutor()
    second = cost_of(planned(), again, tmp_path)
    assert again.limits == []
    assert second.cost == first.cost.model_copy(update={"calibrated": second.cost.calibrated})
    written = json.loads(of_kind(cache, "CalibratedRecipe").read_text())["written"]
    assert (first.cost.calibrated, second.cost.calibrated) == ("", written)
    assert (first.startup, second.startup) == (0.0, TWO_WORKERS.startup)


def test_a_range_is_remembered(tmp_path: Path) -> None:
    first, second = (cost_of(planned(), FixedExecutor(needed=99.0), tmp_path).cost for _ in range(2))
    assert first.highest_seconds == second.highest_seconds == 28.0
    assert second.calibrated


@pytest.mark.parametrize(
    ("plan", "allocation"),
    [
        (planned({"batch_size": 5}), TWO_WORKERS),
        (planned({"precision": "bfloat16"}), TWO_WORKERS),
        (planned(data="other"), TWO_WORKERS),
        (planned(), replace(TWO_WORKERS, workers=1)),
        (planned(), replace(TWO_WORKERS, threads=2)),
    ],
)
def test_another_recipe_data_set_or_number_of_workers_is_calibrated(
    plan: Plan, allocation: WorkerAllocation, tmp_path: Path
) -> None:
    cost_of(planned(), FixedExecutor(), tmp_path)
    executor = FixedExecutor()
    cost_of(plan, executor, tmp_path, allocation)
    assert executor.limits == [CALIBRATION_SECONDS]


@pytest.mark.parametrize("part", ["processor", "cores", "gpus", "versions", "format"])
def test_another_machine_or_version_is_calibrated(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost_of(planned(), FixedExecutor(), tmp_path)
    here = measurement_cache.machine_key()
    assert here[part] != "other"
    monkeypatch.setattr(measurement_cache, "machine_key", lambda: {**here, part: "other"})
    executor = FixedExecutor()
    cost_of(planned(), executor, tmp_path)
    assert executor.limits == [CALIBRATION_SECONDS]


def test_alpha_seeds_epochs_and_examples_of_the_curves_do_not_matter(tmp_path: Path) -> None:
    cost_of(planned(), FixedExecutor(), tmp_path)
    plan, executor = planned({"epochs": 6.0, "learning_rate": 0.5}), FixedExecutor()
    spec = plan.trials[1].spec
    evaluation = spec.evaluation.model_copy(update={"curve_examples": 3})
    changed = spec.model_copy(update={"evaluation": evaluation, "seed": 5})
    found = cost_of(replace(plan, trials=(plan.trials[0], replace(plan.trials[1], spec=changed))), executor, tmp_path)
    assert executor.limits == []
    assert found.cost.seconds == 1 + 60 * 0.1 + 6 * 2 + 4


def _without_end(text: str) -> str:
    return text[:-20]


def _of_another_key(text: str) -> str:
    values = json.loads(text)
    return json.dumps({**values, "key": {**values["key"], "data": "other"}})


def _with_another_number(text: str) -> str:
    return text.replace('"step": 0.1', '"step": 99.0')


@pytest.mark.parametrize(
    "damage", [_without_end, _of_another_key, _with_another_number, lambda _: "", lambda _: "[1]", lambda _: "{}"]
)
def test_a_damaged_or_foreign_file_is_ignored_and_replaced(
    damage: Callable[[str], str], tmp_path: Path, cache: Path
) -> None:
    expected = cost_of(planned(), FixedExecutor(), tmp_path).cost
    path = of_kind(cache, "CalibratedRecipe")
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    executor = FixedExecutor()
    assert cost_of(planned(), executor, tmp_path).cost == expected
    assert executor.limits == [CALIBRATION_SECONDS]
    assert json.loads(path.read_text())["value"] == json.loads(text)["value"]
    assert not list(cache.glob(".*"))


def test_without_a_writable_cache_every_command_calibrates(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    for _ in range(2):
        executor = FixedExecutor()
        cost_of(planned(), executor, tmp_path)
        assert executor.limits == [CALIBRATION_SECONDS]


def test_automatic_workers_are_lowered_to_those_that_fit_the_measured_memory(tmp_path: Path) -> None:
    for _ in range(2):  # measured, and remembered
        found = cost_of(planned(), FixedExecutor(peak=5 * GIB), tmp_path)
        assert (found.allocation.workers, found.allocation.threads, found.cost.workers) == (1, 2, 1)
        assert found.notes == [
            "--workers auto: 1 instead of 2 workers, because a worker needs 5.0 GiB, and 8.0 GiB are available."
        ]
    given = cost_of(planned(), FixedExecutor(peak=5 * GIB), tmp_path, replace(TWO_WORKERS, is_automatic=False))
    assert (given.allocation.workers, given.notes) == (2, [])


def test_the_inspection_of_a_known_machine_is_made_without_a_worker() -> None:
    spec = resolve_sweep(None, {"train_examples": 5, "eval_examples": 7})
    assert remembered_inspection(spec) is None
    facts = planned().inspection
    remember_machine(replace(facts, device="cpu", gpus=0, environment={"device": "cpu", "torch": "1"}))
    found = remembered_inspection(spec)
    assert found is not None
    assert (found.environment, found.problems) == ({"device": "cpu", "torch": "1"}, ())
    assert found.data is not None
    assert (found.data.train_examples, found.data.held_out_examples) == (5, 7)


def test_damaged_facts_about_the_machine_are_ignored_and_replaced(cache: Path) -> None:
    spec, facts = resolve_sweep(None, {}), planned().inspection
    remember_machine(facts)
    path = of_kind(cache, "MachineFacts")
    text = path.read_text()
    path.write_text(text[:50])
    assert remembered_inspection(spec) is None
    remember_machine(facts)
    assert json.loads(path.read_text())["value"] == json.loads(text)["value"]
    assert remembered_inspection(spec) is not None


@pytest.mark.parametrize(
    "given",
    [
        {"train": {"weight_decay": 0.1}},
        {"alphas": [0.0], "snr": [10.0]},
        {"load_in_4bit": True, "train": {"lora_rank": 2}},
        {"model": "./no-such-model"},
    ],
)
def test_an_inspection_that_needs_torch_or_has_a_problem_is_left_to_a_worker(given: dict[str, Any]) -> None:
    remember_machine(planned().inspection)
    assert remembered_inspection(resolve_sweep(None, given)) is None


def test_sizes_are_remembered_for_the_same_recipes() -> None:
    plan = planned({"batch_size": 1}, {"batch_size": 2})
    specs = [trial.spec for trial in plan.trials[1:]]
    assert remembered_sizes(plan, specs) is None
    remember_sizes(plan, specs, SIZES)
    assert remembered_sizes(plan, specs) == remembered_sizes(plan, [*specs, *specs]) == SIZES
    assert remembered_sizes(plan, specs[:1]) is None
