"""Runs of a sweep: the looks of a plan, the end of an interrupted sweep, and kept models, with a scripted executor."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.commands.request import PreparedSweep, plan_sweep
from neftune_cli.commands.run_plan import run_plan
from neftune_cli.config.run_settings import Keep, SweepSettings
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Event, Finished, Job
from neftune_cli.sweeps.inspection import Inspection, LoadedSizes
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.progress import NullObserver
from neftune_cli.sweeps.runner import SweepOutcome
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial import Trial
from tests.command_line import Neftune
from tests.finished_trials import trial_record, write_trial
from tests.scripted_executor import Act, ScriptedExecutor, fail
from tests.sweep_requests import request_for

LOOKS: dict[str, Any] = {"until_decided": True, "looks": "3,5", "analysis.margin": "0.02"}
CUT = "3 of 16 examples were cut."
SIZES = LoadedSizes(notes=(CUT,), trainable=10, weight_bytes=40, vocabulary=10, width=2, layers=1, longest=8)


@dataclass
class OfflineExecutor(ScriptedExecutor):
    """A scripted executor that plans with the bundled model and data. Alpha 5 is better than the other arms."""

    sizes: LoadedSizes = SIZES

    def inspect(self, spec: SweepSpec) -> Inspection:
        return TrialRunner().inspect(spec)

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        return self.sizes


def finish_with_model(job: Job, folder: SweepFolder) -> Event:
    """Finish a trial with its identity, a made-up loss and a kept model."""
    trial = job.trial
    spread = (0.010, -0.004, 0.007, -0.011, 0.002)[trial.seed or 0]
    levels = {"base": 3.0, "alpha=0": 1.0 + spread, "alpha=5": 0.5 + 0.4 * spread, "alpha=10": 1 - 15 * spread}
    level = levels[trial.arm]
    record = trial_record(trial.id, trial.arm, trial.seed, level, identity=trial.identity, alpha=trial.alpha)
    place = folder.trial(trial.id, trial.arm, trial.seed)
    write_trial(place, record, seconds=1.0)
    if not trial.is_base:
        place.model_path.mkdir()
    return Finished(trial, record, None, 1.0)


def finish_unreadably(job: Job, folder: SweepFolder) -> Event:
    """Finish a trial whose record cannot be read afterwards, because a folder has its name."""
    end = finish_with_model(job, folder)
    record = folder.trial(job.trial.id, job.trial.arm, job.trial.seed).path / "record.json"
    record.rename(record.with_name("moved.json"))
    record.mkdir()
    return end


@dataclass
class NotesObserver(NullObserver):
    """An observer that keeps the notes at the start of each run."""

    shown: list[str] = field(default_factory=list)

    def sweep_started(self, trials: Sequence[Trial], missing: Sequence[Trial], notes: Sequence[str]) -> None:
        self.shown += notes


def run(
    folder: Path,
    *acts: Act,
    settings: SweepSettings | None = None,
    observer: NullObserver | None = None,
    sizes: LoadedSizes = SIZES,
    **options: object,
) -> tuple[SweepOutcome, ScriptedExecutor]:
    """Run a sweep of three arms whose trials end by the given acts, and otherwise finish."""
    fields = {"train_examples": 16, "eval_examples": 4, "alphas": "0,5,10", **options}
    executor = OfflineExecutor([*acts, *[finish_with_model] * 40], sizes=sizes)
    request = request_for(folder, fields, settings=settings)
    sweep = PreparedSweep(request, *plan_sweep(request, executor.inspect), executor, Interrupts())
    return run_plan(sweep, lambda: nullcontext(observer or NullObserver()), lambda _: None), executor


@pytest.mark.parametrize(
    "others", [{"train.learning_rate": 1e-4}, {"alphas": "0,2.5", "seeds": "2"}, {"analysis.margin": "0.02"}]
)
def test_a_command_that_was_planned_beside_another_one_is_refused(tmp_path: Path, others: dict[str, Any]) -> None:
    folder, fields = tmp_path / "out", {"train_examples": 16, "eval_examples": 4, "alphas": "0,5", "seeds": "1"}
    executors = [OfflineExecutor([finish_with_model] * 40) for _ in range(3)]
    requests = [request_for(folder, fields), request_for(folder, fields), request_for(folder, fields | others)]
    sweeps = [
        PreparedSweep(one, *plan_sweep(one, executor.inspect), executor, Interrupts())
        for one, executor in zip(requests, executors, strict=True)
    ]
    outcomes = [run_plan(one, lambda: nullcontext(NullObserver()), lambda _: None) for one in sweeps[:2]]
    assert [(one.run_now, one.failed) for one in outcomes] == [(3, {}), (0, {})]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="Another command has written"):
        run_plan(sweeps[2], lambda: nullcontext(NullObserver()), lambda _: None)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def arms_and_seeds(folder: Path) -> list[tuple[str, int]]:
    return [(one.arm, one.seed) for one in SweepFolder(folder).records() if one.seed is not None]


def forget_end(folder: Path) -> None:
    """Leave the folder as a process does that was killed after its last record."""
    sweep = SweepFolder(folder)
    sweep.write_manifest(sweep.manifest().model_copy(update={"ended": None, "truth": None, "trials": {}}))


def test_notes_are_shown_once_and_not_before_each_look(tmp_path: Path) -> None:
    observer = NotesObserver()
    run(tmp_path, observer=observer, **LOOKS)
    assert SweepFolder(tmp_path).manifest().looks == (3, 5)
    assert observer.shown[0].startswith("Looks are planned at 3 and 5 seeds.")
    assert observer.shown.count(CUT) == 1
    assert len(observer.shown) == len({*observer.shown})


def planned_steps(folder: Path) -> dict[tuple[str, int | None], int]:
    return {(one.arm, one.seed): one.steps for one in SweepFolder(folder).manifest().plan}


def test_the_manifest_plans_no_steps_for_examples_that_are_too_long(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"alphas": "5", "train.batch_size": 4, "train.epochs": 3, "train.max_length": 64}
    run(tmp_path, sizes=replace(SIZES, training_examples={"64": 8}), seeds="1", **recipe)
    assert planned_steps(tmp_path) == {("base", None): 0, ("alpha=5", 0): 6}  # 8 of 16 examples, 4 a step, 3 epochs
    run(tmp_path, seeds="2", **recipe)  # sizes that an earlier version has remembered lack the number
    assert planned_steps(tmp_path) == {("base", None): 0, ("alpha=5", 0): 6, ("alpha=5", 1): 12}


def remove_manifest(job: Job, folder: SweepFolder) -> Event:
    """Finish a trial, while somebody removes the manifest."""
    (folder.path / "manifest.json").unlink()
    return finish_with_model(job, folder)


def test_a_manifest_that_is_removed_during_the_run_is_written_again(tmp_path: Path) -> None:
    run(tmp_path, finish_with_model, remove_manifest, alphas="0,5", seeds="1")
    manifest = SweepFolder(tmp_path).whole_manifest()
    assert [(one.arm, one.seed) for one in manifest.plan] == [("base", None), ("alpha=0", 0), ("alpha=5", 0)]
    assert {one.trial for one in manifest.plan} == set(manifest.trials)
    assert manifest.fingerprints
    assert manifest.looks == (1,)


def test_a_removed_manifest_of_a_finished_sweep_is_written_again(tmp_path: Path) -> None:
    run(tmp_path, alphas="0,5", seeds="1")
    before = SweepFolder(tmp_path).manifest()
    (tmp_path / "manifest.json").unlink()
    outcome, executor = run(tmp_path, alphas="0,5", seeds="1")
    manifest = SweepFolder(tmp_path).whole_manifest()
    assert (outcome.run_now, executor.jobs) == (0, [])
    assert manifest.plan == before.plan
    assert manifest.trials == before.trials
    assert manifest.looks == (1,)
    assert manifest.ended


@dataclass
class SlowCalibration(OfflineExecutor):
    """An executor whose calibration lasts until another command has taken a look, and then fails."""

    folder: Path = Path()

    def calibrate(self, trial: TrialSpec, seconds: float) -> list[Calibration]:
        SweepFolder(self.folder).add_look(3)
        SweepFolder(self.folder).note_excluded_trials([3], ["alpha=5,seed=1"])
        raise NeftuneError("The machine was too slow.")


def test_what_another_command_notes_during_the_calibration_stays_in_the_manifest(tmp_path: Path) -> None:
    executor = SlowCalibration([finish_with_model] * 40, folder=tmp_path)
    fields = {"train_examples": 16, "eval_examples": 4, "alphas": "0,5", "seeds": "5"}
    request = request_for(tmp_path, fields, settings=SweepSettings(estimate=True))
    sweep = PreparedSweep(request, *plan_sweep(request, executor.inspect), executor, Interrupts())
    run_plan(sweep, lambda: nullcontext(NullObserver()), lambda _: None)
    manifest = SweepFolder(tmp_path).manifest()
    assert manifest.looks == (3, 5)
    assert manifest.settled == {3: ("alpha=5,seed=1",)}
    assert manifest.estimate
    assert "The calibration with batch size 16 failed: The machine was too slow." in manifest.notes


@pytest.mark.parametrize(
    ("arms", "text"),
    [
        ("5", "1 finished trial has no kept model. To train it again, use another --output."),
        ("0,5", "2 finished trials have no kept model. To train them again, use another --output."),
    ],
)
def test_a_note_counts_the_trials_without_a_kept_model(tmp_path: Path, arms: str, text: str) -> None:
    run(tmp_path, alphas=arms, seeds="1")
    for model in tmp_path.glob("trials/*/model"):
        model.rmdir()
    observer = NotesObserver()
    run(tmp_path, alphas=arms, seeds="1", settings=SweepSettings(keep=Keep.ALL), observer=observer)
    assert text in observer.shown


def test_fail_fast_takes_no_look_and_runs_no_later_one(tmp_path: Path) -> None:
    outcome, executor = run(tmp_path, finish_with_model, fail, settings=SweepSettings(fail_fast=True), **LOOKS)
    assert len(executor.jobs) == 2
    assert (outcome.was_cut_short, len(outcome.failed), outcome.left) == (True, 1, 8)
    assert SweepFolder(tmp_path).manifest().looks == ()


def test_fail_fast_at_the_last_trial_of_a_look_runs_no_later_look(tmp_path: Path) -> None:
    acts = [*[finish_with_model] * 9, fail]
    outcome, executor = run(tmp_path, *acts, settings=SweepSettings(fail_fast=True), **LOOKS)
    assert len(executor.jobs) == 10
    assert (outcome.was_cut_short, outcome.left) == (True, 0)


def test_outcome_and_manifest_have_the_trials_of_all_looks(tmp_path: Path) -> None:
    outcome, executor = run(tmp_path, settings=SweepSettings(keep=Keep.ALL), **LOOKS)
    trained = arms_and_seeds(tmp_path)
    assert [seed for arm, seed in trained if arm == "alpha=5"] == [0, 1, 2]  # decided at the first look
    assert len(outcome.models) == len(trained) == 13
    manifest = SweepFolder(tmp_path).manifest()
    ids = {job.trial.id for job in executor.jobs}
    assert {one.trial for one in manifest.plan} == ids
    assert manifest.truth is not None
    assert (outcome.run_now, outcome.already_done) == (len(ids), 0)


def test_a_failed_trial_is_retried_once_per_command(tmp_path: Path) -> None:
    alpha_5_fails = (finish_with_model, *(finish_with_model, fail, finish_with_model) * 3)  # base model, then by seed
    run(tmp_path, *alpha_5_fails, **LOOKS)
    _, executor = run(tmp_path, fail, settings=SweepSettings(retry_failed=True), **LOOKS)
    assert [(job.trial.arm, job.trial.seed) for job in executor.jobs] == [("alpha=5", seed) for seed in range(5)]


def test_a_sweep_that_was_killed_after_its_last_record_is_ended(tmp_path: Path) -> None:
    run(tmp_path, seeds="3")
    forget_end(tmp_path)
    outcome, executor = run(tmp_path, seeds="3")
    manifest = SweepFolder(tmp_path).manifest()
    assert (outcome.run_now, executor.jobs) == (0, [])
    assert manifest.ended is not None
    assert manifest.truth is not None
    assert manifest.trials.keys() == {one.trial for one in SweepFolder(tmp_path).records()}


def test_only_the_best_model_is_kept_after_a_kill_at_the_end(tmp_path: Path) -> None:
    run(tmp_path, seeds="3", settings=SweepSettings(keep=Keep.ALL))
    forget_end(tmp_path)
    outcome, _ = run(tmp_path, seeds="3", settings=SweepSettings(keep=Keep.BEST))
    (model,) = outcome.models
    assert model.parent.name.startswith("alpha=5,seed=1-")


@pytest.mark.parametrize(("readable", "run_now", "left"), [(0, 1, 3), (2, 3, 1)])
def test_a_record_that_cannot_be_read_halts_the_sweep_and_the_same_command_resumes(
    neftune: Neftune, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, readable: int, run_now: int, left: int
) -> None:
    """It is read after the first trial, and at the end of the sweep. An unreadable trial counts as left."""
    executor = OfflineExecutor([*[finish_with_model] * readable, finish_unreadably, *[finish_with_model] * 3])
    monkeypatch.setattr("neftune_cli.sweeps.executors.local.LocalExecutor", lambda **_: executor)
    arguments = "sweep --alphas 0,5 --seeds 1 --train-examples 16 --eval-examples 4 --no-estimate --quiet --json"
    halted = neftune(*arguments.split())
    assert halted.code == 1
    (record,) = tmp_path.glob("results/*/trials/*/record.json/")
    relative = record.relative_to(tmp_path)
    reason, kept, resume = halted.err.splitlines()
    assert reason.startswith(f"{relative} cannot be read (")
    assert reason.endswith("Check the disk and the permissions of the file, and run the command again.")
    assert (kept, resume) == (
        "Finished trials are kept. After fixing the cause, resume with:",
        f"  neftune {arguments}",
    )
    summary = json.loads(halted.out)
    assert (summary["halted"], summary["run_now"], summary["left"]) == (reason, run_now, left)
    record.rmdir()
    record.with_name("moved.json").rename(record)
    resumed = neftune(*arguments.split())
    assert (resumed.code, json.loads(resumed.out)["run_now"]) == (0, left - 1)
