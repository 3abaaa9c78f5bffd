"""Planned looks: arms that are decided at a look get no further seeds."""

import inspect
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from neftune_cli.analysis.comparison import compare_sweep
from neftune_cli.commands.request import PreparedSweep, checked_request, plan_sweep
from neftune_cli.commands.routing import Destination, values_for
from neftune_cli.commands.run_plan import after_taken_looks, run_plan
from neftune_cli.commands.status import status
from neftune_cli.commands.sweep import sweep as sweep_command
from neftune_cli.config.run_settings import SweepSettings
from neftune_cli.errors import UsageError
from neftune_cli.reporting.next_step import next_step
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps import runner
from neftune_cli.sweeps.plan import Plan, missing_trials, trial_folder
from neftune_cli.sweeps.runner import SweepOutcome
from neftune_cli.sweeps.trial_runner import TrialRunner
from tests.finished_trials import trial_record, write_failed_trial, write_trial
from tests.sweep_requests import request_for

Losses = Callable[[str, int], float]
FIELDS = {
    "train_examples": 16,
    "eval_examples": 4,
    "alphas": "0,5,10",
    "until_decided": True,
    "looks": "3,5,8",
    "analysis.margin": "0.02",
}


def spread(seed: int) -> float:
    return (0.010, -0.004, 0.007, -0.011, 0.002, 0.005, -0.008, 0.001)[seed]


def one_better(arm: str, seed: int) -> float:
    """Alpha 5 is clearly better, and alpha 10 is close to the baseline with much noise."""
    return {
        "alpha=0": 1.0 + spread(seed),
        "alpha=5": 0.5 + 0.4 * spread(seed),
        "alpha=10": 1.0 - 15 * spread(seed),
    }[arm]


def all_better(arm: str, seed: int) -> float:
    return 1.0 + spread(seed) if arm == "alpha=0" else 0.5 + 0.3 * spread(seed)


def run(
    folder: Path,
    losses: Losses,
    monkeypatch: pytest.MonkeyPatch,
    failing: Sequence[str] = (),
    pause_at: int | None = None,
    *,
    retry_failed: bool = False,
    most: int | None = None,
    fields: dict[str, object] = FIELDS,
) -> tuple[SweepOutcome, list[str]]:
    """Run the looks with an executor that writes records with given losses. Return the outcome and the lines.

    The trials in `failing`, arms or labels of trials, fail. The sweep is interrupted after `most` trials.
    """
    settings = SweepSettings(retry_failed=retry_failed)
    request = request_for(folder, fields, pause_at=pause_at, settings=settings)
    planned = plan_sweep(request, TrialRunner().inspect)

    def run_sweep(plan: Plan, sweep: SweepFolder, *_: object, **__: object) -> SweepOutcome:
        missing = missing_trials(plan, sweep, retry_failed=retry_failed)
        sweep.open(plan.spec)
        for trial in missing[:most]:
            if {trial.arm, trial.label} & {*failing}:
                write_failed_trial(trial_folder(sweep, trial), trial.id, "out of memory")
                continue
            loss = 3.0 if trial.is_base else losses(trial.arm, trial.seed or 0)
            record = trial_record(trial.id, trial.arm, trial.seed, loss, alpha=trial.alpha, identity=trial.identity)
            write_trial(trial_folder(sweep, trial), record)
        stopped = most is not None and len(missing) > most
        return SweepOutcome(len(plan.trials) - len(missing), len(missing), 0, {}, stopped=stopped)

    monkeypatch.setattr(runner, "run_sweep", run_sweep)
    lines: list[str] = []
    prepared = PreparedSweep(request, *planned, None, None)  # type: ignore[arg-type]
    return run_plan(prepared, nullcontext, lines.append), lines  # type: ignore[arg-type]


def seeds_of(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in SweepFolder(folder).records():
        if record.seed is not None:
            found.setdefault(record.arm, []).append(record.seed)
    return found


def test_a_decided_arm_gets_no_further_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, lines = run(tmp_path / "out", one_better, monkeypatch)
    seeds = seeds_of(tmp_path / "out")
    assert seeds["alpha=0"] == seeds["alpha=10"] == list(range(8))
    assert seeds["alpha=5"] in (list(range(3)), list(range(5)))
    assert SweepFolder(tmp_path / "out").manifest().looks == (3, 5, 8)
    assert outcome.run_now == 1 + sum(map(len, seeds.values()))
    assert lines[-1] == "Look 3 of 3, 8 seeds: not decided: alpha=10."
    (compared,) = compare_sweep(SweepFolder(tmp_path / "out"))
    assert compared.comparison.assessment("alpha=5", "eval_loss").verdict == "better"  # type: ignore[union-attr]


def test_the_sweep_ends_when_every_arm_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lines = run(tmp_path / "out", all_better, monkeypatch)
    assert lines[-1].endswith("no arm gets further seeds.")
    assert len(seeds_of(tmp_path / "out")["alpha=0"]) < 8


def test_a_finished_sweep_that_runs_again_names_its_last_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpha 5 is decided at the second look only: its differences at the first three seeds have a large spread."""

    def late(arm: str, seed: int) -> float:
        return 1.0 + (spread(seed) if arm == "alpha=0" else (-0.9, -0.1, -0.5, -0.5, -0.5)[seed])

    fields = {**FIELDS, "alphas": "0,5", "looks": "3,5"}
    _, lines = run(tmp_path, late, monkeypatch, fields=fields)
    outcome, again = run(tmp_path, late, monkeypatch, fields=fields)

    assert lines == ["Look 1 of 2, 3 seeds: not decided: alpha=5.", "Look 2 of 2, 5 seeds: no arm gets further seeds."]
    assert again == lines[-1:]
    assert outcome.run_now == 0


def test_the_sweep_ends_when_fine_tuning_learned_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worse_than_base(arm: str, seed: int) -> float:
        return 3.0 + one_better(arm, seed)

    _, lines = run(tmp_path / "out", worse_than_base, monkeypatch)

    assert lines == ["Look 1 of 3, 3 seeds: no arm gets further seeds."]


def test_a_paused_sweep_continues_with_the_same_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "whole", one_better, monkeypatch)
    _, lines = run(tmp_path / "paused", one_better, monkeypatch, pause_at=5)
    assert lines[-1].startswith("Look 2 of 3")
    assert SweepFolder(tmp_path / "paused").manifest().looks == (3, 5)
    before = len(SweepFolder(tmp_path / "paused").records())
    outcome, _ = run(tmp_path / "paused", one_better, monkeypatch)
    after = len(SweepFolder(tmp_path / "paused").records())
    assert (outcome.already_done, outcome.run_now) == (before, after - before)
    assert seeds_of(tmp_path / "paused") == seeds_of(tmp_path / "whole")


def test_the_trials_that_are_left_are_those_of_arms_that_are_not_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left() -> tuple[dict[str, list[int]], tuple[str, ...]]:
        whole, folder = plan_sweep(request_for(tmp_path, FIELDS), TrialRunner().inspect)
        plan = after_taken_looks(whole, folder, retry_failed=False)
        found: dict[str, list[int]] = {}
        for trial in missing_trials(plan, folder):
            if trial.seed is not None:
                found.setdefault(trial.arm, []).append(trial.seed)
        return found, plan.notes[len(whole.notes) :]

    assert left() == ({arm: list(range(8)) for arm in ("alpha=0", "alpha=5", "alpha=10")}, ())
    run(tmp_path, one_better, monkeypatch, pause_at=5)
    assert left() == (
        {arm: [5, 6, 7] for arm in ("alpha=0", "alpha=10")},
        ("Look 2 of 3, 5 seeds: not decided: alpha=10.",),
    )


def test_no_look_is_taken_without_a_trial_of_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lines = run(tmp_path, all_better, monkeypatch, failing=("alpha=0",))

    assert lines == ["Look 1 is not taken: the baseline alpha=0 has no finished trial."]
    assert SweepFolder(tmp_path).manifest().looks == ()
    assert seeds_of(tmp_path) == {"alpha=5": [0, 1, 2], "alpha=10": [0, 1, 2]}


def test_no_arm_is_decided_if_the_trials_of_the_baseline_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, all_better, monkeypatch)
    for lost in SweepFolder(tmp_path).trials():
        if lost.folder_label.startswith("alpha=0,"):
            shutil.rmtree(lost.path)

    whole, folder = plan_sweep(request_for(tmp_path, FIELDS), TrialRunner().inspect)
    plan = after_taken_looks(whole, folder, retry_failed=False)

    assert plan.notes[-1].endswith("not decided: alpha=5 and alpha=10.")
    assert {trial.arm for trial in missing_trials(plan, folder)} == {"alpha=0", "alpha=5", "alpha=10"}


def test_a_retried_arm_without_trials_can_reopen_the_decided_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, all_better, monkeypatch, failing=("alpha=10",))
    plan, folder = plan_sweep(request_for(tmp_path, FIELDS), TrialRunner().inspect)
    finished = sum(map(len, seeds_of(tmp_path).values()))

    as_is, retried = (after_taken_looks(plan, folder, retry_failed=retry) for retry in (False, True))

    assert as_is.notes[-1].endswith("no arm gets further seeds.")
    assert missing_trials(as_is, folder) == []
    assert retried == plan
    left = [one for one in missing_trials(retried, folder, retry_failed=True) if not one.is_base]
    assert len(left) == 3 * 8 - finished
    (compared,) = compare_sweep(folder)
    step = next_step(compared.comparison)
    assert step is not None
    assert step.cost.startswith(f"at most {len(left)} more trials (8 seeds in all)")


def test_failed_trials_of_tested_looks_are_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, one_better, monkeypatch, failing=("alpha=5", "alpha=10, seed 1"))
    whole, folder = plan_sweep(request_for(tmp_path, FIELDS), TrialRunner().inspect)
    left = missing_trials(after_taken_looks(whole, folder, retry_failed=True), folder, retry_failed=True)

    _, lines = run(tmp_path, one_better, monkeypatch, retry_failed=True)

    assert {trial.arm for trial in left} == {"alpha=5"}
    seeds = seeds_of(tmp_path)
    assert seeds["alpha=10"] == [0, *range(2, 8)]
    assert seeds["alpha=5"] in (list(range(3)), list(range(5)))
    assert lines[0] == "Not run again, because their arm was tested at a planned look without them: alpha=10, seed 1."
    assert whole.notes[-1] != lines[0]


@pytest.mark.parametrize("failing", ["alpha=10", "alpha=0"])
def test_an_interrupted_retry_goes_on_with_the_trials_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """No look has tested the arm. After three retried trials it could be tested, but no look was taken of them."""
    fields = {**FIELDS, "looks": "5,8"}
    some = [f"{failing}, seed {seed}" for seed in ((0, 1, 2, 3, 4) if failing == "alpha=10" else (2, 3, 4))]
    run(tmp_path, one_better, monkeypatch, failing=some, pause_at=5, fields=fields)

    run(tmp_path, one_better, monkeypatch, retry_failed=True, most=len(some) - 2, fields=fields)
    _, lines = run(tmp_path, one_better, monkeypatch, retry_failed=True, fields=fields, pause_at=5)

    assert seeds_of(tmp_path)[failing] == [0, 1, 2, 3, 4]
    assert not any(line.startswith("Not run again") for line in lines)


def test_nothing_is_left_if_every_arm_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, all_better, monkeypatch)
    whole, folder = plan_sweep(request_for(tmp_path, FIELDS), TrialRunner().inspect)
    plan = after_taken_looks(whole, folder, retry_failed=False)
    assert missing_trials(plan, folder) == []
    assert plan.notes[-1].endswith("no arm gets further seeds.")


def test_before_the_first_look_there_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "out", one_better, monkeypatch, pause_at=3)
    folder = SweepFolder(tmp_path / "out")
    folder.write_manifest(folder.manifest().model_copy(update={"looks": ()}))
    (compared,) = compare_sweep(folder)
    assessment = compared.comparison.assessment("alpha=5", "eval_loss")
    assert assessment is not None
    assert (assessment.verdict, assessment.looks_taken) == (None, 0)


NO_LOOK = "--pause-at 6: no look is planned at 6 seeds."
UNPLANNED = "--pause-at has no effect without --until-decided."


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({}, [NO_LOOK]),
        ({"looks": None, "until_decided": None}, [UNPLANNED]),
        # together with the problems of an option, of the declared analysis, and of the model
        ({"train.epochs": -1}, ["--epochs must be larger than 0; -1 was given.", NO_LOOK]),
        ({"analysis.metric": "eval_los"}, [NO_LOOK, "--metric: no metric has the key 'eval_los'."]),
        ({"model": "./nothing-here"}, [NO_LOOK, "There is no model directory './nothing-here'."]),
        # looks with a problem of their own are not known
        ({"looks": "8,5"}, ["--looks: the numbers of seeds must increase; 8,5 was given."]),
        ({"until_decided": None}, ["--looks has no effect without --until-decided."]),
    ],
)
def test_a_pause_that_is_not_at_a_planned_look_is_a_problem_among_others(
    tmp_path: Path, options: dict[str, object], problems: list[str]
) -> None:
    fields = {name: value for name, value in {**FIELDS, **options}.items() if value is not None}

    with pytest.raises(UsageError) as raised:
        plan_sweep(request_for(tmp_path / "out", fields, pause_at=6), TrialRunner().inspect)

    assert [one.what for one in raised.value.problems] == problems


def problems_beside_a_wrong_number_of_workers(fields: dict[str, object], pause_at: int | None = None) -> list[str]:
    """Return the problems of a request that come with the one of `--workers two`."""
    defaults = {name: one.default for name, one in inspect.signature(sweep_command).parameters.items()}
    run = values_for(Destination.RUN, sweep_command, {**defaults, "workers": "two"})
    with pytest.raises(UsageError) as raised:
        checked_request(fields, run, pause_at=pause_at)
    of_workers, *others = [one.what for one in raised.value.problems]
    assert of_workers.startswith("--workers: ")
    return others


def test_a_pause_is_checked_together_with_the_run_options() -> None:
    assert problems_beside_a_wrong_number_of_workers(FIELDS, pause_at=6) == [NO_LOOK]


def test_the_declared_analysis_is_checked_together_with_the_run_options() -> None:
    wrong = {**FIELDS, "analysis.metric": "eval_los", "analysis.margin": "much"}
    assert problems_beside_a_wrong_number_of_workers(wrong) == [
        "--metric: no metric has the key 'eval_los'.",
        "--margin: 'much' is not a margin larger than 0.",
    ]
    (of_function,) = problems_beside_a_wrong_number_of_workers({**FIELDS, "analysis.metric": "no_such_module:score"})
    assert "no_such_module" in of_function


def test_a_pause_is_at_a_planned_look(tmp_path: Path) -> None:
    plan, _ = plan_sweep(request_for(tmp_path / "out", FIELDS, pause_at=5), TrialRunner().inspect)
    assert plan.spec.analysis.looks == (3, 5, 8)


def statuses(folder: Path) -> tuple[str, dict[str, object]]:
    """Return what `neftune status` prints about a sweep, as text and in its JSON document."""
    sweep = SweepFolder(folder)
    sweep.write_manifest(sweep.manifest().model_copy(update={"started": "2026-01-01T10:00:00+00:00", "command": ()}))
    app = typer.Typer()
    app.command()(status)
    text, document = (CliRunner().invoke(app, [str(folder), *more]).stdout for more in ((), ("--json",)))
    (shown,) = json.loads(document)["sweeps"]
    return text, shown


def test_status_of_a_paused_sweep_has_the_look_and_the_command_that_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    run(folder, one_better, monkeypatch, pause_at=5)
    command = ["neftune", "sweep", f"{folder}/sweep.yaml", "--output", str(folder)]

    text, shown = statuses(folder)

    assert text.endswith(f"Look 2 of 3 (5 seeds) was taken last. Continue with the next look:\n  {' '.join(command)}\n")
    assert shown["over"] is False
    assert shown["looks"] == {"planned": [3, 5, 8], "taken": 2, "command": command}


@pytest.mark.parametrize(
    ("losses", "failing", "sentence", "taken"),
    [
        (one_better, (), "Look 3 of 3 (8 seeds) was taken last.", 3),
        (all_better, (), "Look 1 of 3 (3 seeds) was taken last.", 1),  # every arm is decided
        (one_better, ("alpha=0",), "None of the 3 planned looks has been taken yet.", 0),
    ],
)
def test_status_of_looks_that_have_ended_has_no_command_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: Losses, failing: Sequence[str], sentence: str, taken: int
) -> None:
    run(tmp_path, losses, monkeypatch, failing)

    text, shown = statuses(tmp_path)

    assert f"\n{sentence}\n" in text
    assert "next look" not in text
    assert (shown["over"], shown["looks"]) == (True, {"planned": [3, 5, 8], "taken": taken, "command": []})
