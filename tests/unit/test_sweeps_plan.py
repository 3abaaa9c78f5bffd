"""Plans and existing results folders: arms and seeds are added, and different sweeps are refused."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.commands.request import plan_sweep
from neftune_cli.config import identity
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import UsageError
from neftune_cli.store import SweepFolder, folder_label
from neftune_cli.sweeps import trial_runner
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.plan import Plan, missing_trials, steps_of, trial_folder
from neftune_cli.sweeps.trial_runner import TrialRunner
from tests.finished_trials import trial_record, write_trial
from tests.sweep_requests import request_for


def planned(folder: Path, **options: object) -> Plan:
    fields = {"train_examples": 16, "eval_examples": 4, **options}
    return plan_sweep(request_for(folder, fields), TrialRunner().inspect)[0]


def finished(folder: Path, **options: object) -> SweepFolder:
    plan, sweep = planned(folder, **options), SweepFolder(folder)
    sweep.open(plan.spec, replaces=plan.stored)
    for trial in plan.trials:
        record = trial_record(trial.id, trial.arm, trial.seed, alpha=trial.alpha, identity=trial.identity)
        write_trial(trial_folder(sweep, trial), record)
    return sweep


def test_the_base_trial_is_first_and_then_all_arms_of_each_seed(tmp_path: Path) -> None:
    trials = planned(tmp_path / "out", alphas="0,5", seeds="2").trials
    assert [(one.arm, one.alpha, one.seed) for one in trials] == [
        ("base", None, None),
        ("alpha=0", 0.0, 0),
        ("alpha=5", 5.0, 0),
        ("alpha=0", 0.0, 1),
        ("alpha=5", 5.0, 1),
    ]


def test_finished_trials_are_not_missing_and_added_ones_are(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="1")
    assert missing_trials(planned(sweep.path, alphas="5,0", seeds="1"), sweep) == []
    grown = missing_trials(planned(sweep.path, alphas="0,2.5", seeds="2"), sweep)
    assert {(one.alpha, one.seed) for one in grown} == {(2.5, 0), (0.0, 1), (2.5, 1), (5.0, 1)}


def test_a_folder_with_a_damaged_manifest_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="1")
    (sweep.path / "manifest.json").write_text('{"looks": [3')
    before = (sweep.path / "sweep.yaml").read_bytes()

    with pytest.raises(UsageError, match=r"manifest.json is damaged. Restore it from a backup."):
        planned(sweep.path, alphas="0,5", seeds="2")

    assert (sweep.path / "sweep.yaml").read_bytes() == before


def test_the_command_of_a_sweep_restores_its_lost_spec(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="3")
    text = sweep.spec_text()
    (sweep.path / "sweep.yaml").unlink()

    plan = planned(sweep.path, alphas="0,5", seeds="3")
    sweep.open(plan.spec, replaces=plan.stored)

    assert f"{sweep.path / 'sweep.yaml'} is missing. This command writes it again" in plan.notes[0]
    assert missing_trials(plan, sweep) == []
    assert sweep.spec_text() == text


def test_a_finished_trial_that_lacks_a_file_is_named_in_a_note(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="1")
    trial = next(one for one in sweep.trials() if one.folder_label == "alpha=5,seed=0")
    (trial.path / "generations.jsonl").unlink()

    plan = planned(sweep.path, alphas="0,5", seeds="1")

    expected = "alpha=5,seed=0 cannot be used: its generations.jsonl is missing; the sweep command trains it again."
    assert expected in plan.notes
    assert [one.label for one in missing_trials(plan, sweep)] == ["alpha=5, seed 0"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"alphas": "0"}, "alpha=5,seed=0, alpha=5,seed=1 and alpha=5,seed=2"),
        ({"seeds": "2"}, "alpha=0,seed=2, alpha=5,seed=2 and a look at 3 seeds"),
        ({"seeds": None, "until_decided": True, "looks": "4,5"}, "a look at 3 seeds"),
    ],
)
def test_a_lost_spec_is_not_replaced_by_one_without_its_trials_and_looks(
    tmp_path: Path, options: dict[str, object], what: str
) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="3")
    sweep.add_look(3)
    (sweep.path / "sweep.yaml").unlink()
    given = {name: value for name, value in {"alphas": "0,5", "seeds": "3", **options}.items() if value is not None}

    with pytest.raises(
        UsageError, match=f"these parts of it do not belong to the sweep of this command: {what}\\. Use the options"
    ):
        planned(sweep.path, **given)


def test_trials_of_an_earlier_command_are_named_in_a_note(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="5")
    assert planned(sweep.path, alphas="0,5", seeds="5").notes == ()
    (note,) = planned(sweep.path, alphas="0", seeds="4").notes
    also = f"{sweep.path} also has alpha=5, seed 4 from an earlier command."
    assert note == f"{also} These are compared, too, and missing trials of that command are run."


def test_another_order_of_arms_keeps_the_baseline_and_says_so(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="5", noises="uniform,gaussian", seeds="5")
    first = SweepFolder(sweep.path).spec().arms[0].name  # type: ignore[union-attr]

    plan = planned(sweep.path, alphas="5", noises="gaussian,uniform", seeds="5")

    assert plan.spec.arms[0].name == first
    (note,) = [note for note in plan.notes if note.startswith("The baseline stays ")]
    assert note.startswith(f"The baseline stays {first}, the first arm in {sweep.path}.")
    assert f"`neftune compare {sweep.path} --baseline " in note


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"seeds": "2"}, "There will be no verdict"),
        ({"seeds": "3"}, "3 seeds can show only large differences"),
        ({"until_decided": True}, "Looks are planned at 5, 8, 12 and 20 seeds"),
    ],
)
def test_numbers_of_seeds_that_rarely_decide_are_named_in_a_note(
    tmp_path: Path, options: dict[str, object], note: str
) -> None:
    assert note in planned(tmp_path / "out", alphas="0,5", **options).notes[0]


@pytest.mark.parametrize("has_clock", [True, False])
def test_a_sweep_keeps_the_time_that_its_chat_template_sees(tmp_path: Path, has_clock: bool) -> None:
    def inspect(spec: SweepSpec) -> Inspection:
        found = TrialRunner().inspect(spec)
        assert found.model is not None
        return replace(found, model=replace(found.model, has_clock=has_clock))

    def time_in(folder: Path, **options: object) -> str | None:
        fields = {"train_examples": 16, "eval_examples": 4, "alphas": "0", "seeds": "1", **options}
        return plan_sweep(request_for(folder, fields), inspect)[0].spec.template_time

    earlier = finished(tmp_path / "out", alphas="0", seeds="1", template_time="2020-01-02T03:04:05").path
    assert time_in(earlier) == time_in(earlier, seeds="2") == "2020-01-02T03:04:05"
    with pytest.raises(UsageError, match="template_time is '2020-01-02T03:04:05' in the folder and '2021-01"):
        time_in(earlier, template_time="2021-01-02T03:04:05")
    started = time_in(tmp_path / "new")
    assert (started is not None) == has_clock
    assert time_in(tmp_path / "other", template_time="2021-01-02T03:04:05") == "2021-01-02T03:04:05"


@pytest.mark.parametrize(("alphas", "is_named"), [("5,10", True), ("0,5", False), ("5", False)])
def test_a_sweep_without_an_arm_without_noise_is_named(tmp_path: Path, alphas: str, is_named: bool) -> None:
    notes = planned(tmp_path / "out", alphas=alphas, seeds="5").notes
    note = "Every arm has noise, including the baseline alpha=5. Add alpha 0 to measure the effect of the noise."
    assert (note in notes) == is_named


def test_a_folder_with_other_planned_looks_is_refused(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", until_decided=True, looks="3,4")
    for options in ({"until_decided": True}, {"seeds": "5"}, {"until_decided": True, "looks": "3,5"}):
        with pytest.raises(UsageError, match=r"analysis\.looks is"):
            planned(sweep.path, alphas="0,5", **options)
    with pytest.raises(UsageError, match="planned looks for other arms"):
        planned(sweep.path, alphas="0,5,10", until_decided=True, looks="3,4")
    with pytest.raises(UsageError, match="planned looks for other seeds: 0, 1, 2, 3"):
        planned(sweep.path, alphas="0,5", until_decided=True, looks="3,4", seeds="4,5,6,7")
    in_other_order = planned(sweep.path, alphas="0,5", until_decided=True, looks="3,4", seeds="3,2,1,0")
    assert in_other_order.spec.seeds == (0, 1, 2, 3)


def test_planned_looks_of_a_ratio_continue_with_its_alpha(tmp_path: Path) -> None:
    options = {"alphas": "0", "snr": "20", "until_decided": True, "looks": "3,4", "analysis.primary_arm": "snr=20"}
    sweep = finished(tmp_path / "out", **options)
    again = planned(sweep.path, **options)
    assert missing_trials(again, sweep) == []
    (_, arm) = again.spec.arms
    assert arm.name == again.spec.analysis.primary_arm == f"alpha={arm.alpha:g}"


def test_a_ratio_with_the_alpha_of_another_arm_is_refused(tmp_path: Path) -> None:
    (_, arm) = planned(tmp_path / "out", alphas="0", snr="20").spec.arms
    with pytest.raises(UsageError, match="signal-to-noise ratio is replaced by its alpha, two arms have the same name"):
        planned(tmp_path / "out", alphas=f"0,{arm.alpha}", snr="20")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"analysis.metric": "eval_los"}, "Did you mean 'eval_loss'"),
        ({"analysis.margin": "0"}, "'0' is not a margin larger than 0"),
        ({"analysis.margin": "-1%"}, "'-1%' is not a margin larger than 0"),
        ({"alphas": "0", "until_decided": True}, "Planned looks need at least one arm besides the baseline"),
    ],
)
def test_problems_of_the_declared_analysis(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned(tmp_path / "out", **{"alphas": "0,5", **options})


def test_alphas_are_sorted_so_that_the_smallest_is_the_baseline(tmp_path: Path) -> None:
    assert [arm.alpha for arm in planned(tmp_path / "out", alphas="5,0").spec.arms] == [0.0, 5.0]


def test_another_version_of_a_library_is_refused_if_there_are_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = finished(tmp_path / "out", alphas="0", seeds="1")
    monkeypatch.setattr(trial_runner, "environment", lambda **_: {"device": "cpu", "torch": "99"})
    with pytest.raises(UsageError, match="the finished trial base differs from its plan in environment") as raised:
        planned(sweep.path, alphas="0", seeds="1")
    assert f"torch {version('torch')} in the folder and 99 in this command" in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"train": {"epochs": 2.0}}])
def test_a_sweep_of_another_version_of_neftune_is_refused_as_such(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(identity, "METHOD_VERSION", identity.METHOD_VERSION - 1)
        sweep = finished(tmp_path / "out", alphas="0", seeds="1")
    with pytest.raises(UsageError) as raised:
        planned(sweep.path, alphas="0", seeds="1", **options)
    assert str(raised.value) == (
        f"{sweep.path}: the finished trial base is from another version of neftune. "
        "Use --output with another folder, or that version of neftune."
    )


def test_another_version_of_a_library_is_refused_while_another_command_runs_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, plan = SweepFolder(tmp_path / "out"), planned(tmp_path / "out", alphas="0", seeds="1")
    sweep.open(plan.spec)
    leased = trial_folder(sweep, plan.trials[0]).acquire_lease(lease_seconds=120)
    assert leased
    with leased:
        planned(sweep.path, alphas="0", seeds="1")
        monkeypatch.setattr(trial_runner, "environment", lambda **_: {"device": "cpu", "torch": "99"})
        with pytest.raises(UsageError, match="another command runs the trial base with another model, other data"):
            planned(sweep.path, alphas="0", seeds="1")
    planned(sweep.path, alphas="0", seeds="1")  # without a finished trial, the versions may change


def test_a_changed_data_file_with_the_same_name_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [f'{{"prompt": "What follows {n}?", "completion": "{n + 1}"}}\n' for n in range(30)]
    data.write_text("".join(rows))
    sweep = finished(tmp_path / "out", dataset=str(data), alphas="0", seeds="1")
    assert missing_trials(planned(sweep.path, dataset=str(data), alphas="0", seeds="1"), sweep) == []
    data.write_text("".join(rows).replace("follows 3?", "comes after 3?"))
    with pytest.raises(UsageError, match="differs from its plan in data"):
        planned(sweep.path, dataset=str(data), alphas="0", seeds="1")


def test_two_arms_with_the_same_settings_are_refused(tmp_path: Path) -> None:
    experiment = tmp_path / "twins.yaml"
    experiment.write_text("arms:\n  - {alpha: 0}\n  - {name: without, alpha: 0, noise: gaussian}\n")
    with pytest.raises(UsageError, match="'alpha=0' and 'without' have the same settings"):
        plan_sweep(request_for(tmp_path / "out", {}, file=experiment), TrialRunner().inspect)


def with_arms(folder: Path, *names: str) -> Plan:
    """Return the plan of a sweep of the baseline and of arms with these names."""
    arms = [f"  - {{name: '{name}', alpha: {place + 1}}}\n" for place, name in enumerate(names)]
    experiment = folder.parent / "named.yaml"
    experiment.write_text(f"train_examples: 16\neval_examples: 4\narms:\n  - {{alpha: 0}}\n{''.join(arms)}")
    return plan_sweep(request_for(folder, {}, file=experiment), TrialRunner().inspect)[0]


@pytest.mark.parametrize("names", [("weight decay", "weight_decay"), ("x" * 80 + "1", "x" * 80 + "2")])
def test_two_arms_with_the_same_folder_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    message = (
        f"The arms '{names[0]}' and '{names[1]}' have the same folder name, '{folder_label(names[1])}'. Rename one"
    )
    with pytest.raises(UsageError, match=message):
        with_arms(tmp_path / "out", *names)

    SweepFolder(tmp_path / "later").open(with_arms(tmp_path / "later", names[0]).spec)
    with pytest.raises(UsageError, match=message):
        with_arms(tmp_path / "later", *names)


def test_arms_of_an_earlier_version_with_the_same_folder_name_can_be_resumed(tmp_path: Path) -> None:
    plan, folder = with_arms(tmp_path / "out", "weight decay", "another"), SweepFolder(tmp_path / "out")
    arms = (*plan.spec.arms[:2], plan.spec.arms[2].model_copy(update={"name": "weight_decay"}))
    folder.open(plan.spec.model_copy(update={"arms": arms}))

    again = with_arms(folder.path, "weight decay", "weight_decay")

    assert [arm.name for arm in again.spec.arms] == ["alpha=0", "weight decay", "weight_decay"]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 3),  # 16 examples, 16 per step, 3 epochs
        ({"train.batch_size": 6}, 9),
        ({"train.batch_size": 4, "train.epochs": 0.5}, 2),
        ({"train.sft": ["gradient_accumulation_steps=2"], "train.batch_size": 4}, 6),
        ({"train.sft": ["dataloader_drop_last=true"], "train.batch_size": 6}, 6),
        ({"train.sft": ["dataloader_drop_last=true", "gradient_accumulation_steps=2"], "train.batch_size": 5}, 6),
        ({"train.max_steps": 5}, 5),
        ({"train.sft": ["packing=true"], "train.max_steps": 5}, 5),
        ({"train.sft": ["packing=true"]}, 0),  # unknown: it depends on the lengths of the examples
    ],
)
def test_the_number_of_steps_is_that_of_the_trainer(tmp_path: Path, options: dict[str, object], steps: int) -> None:
    plan = planned(tmp_path / "out", alphas="5", seeds="1", **options)
    assert [steps_of(trial, {}, plan.data.train_examples) for trial in plan.trials] == [0, steps]


def test_a_batch_larger_than_the_data_is_refused_if_only_full_batches_are_used(tmp_path: Path) -> None:
    sft = {"train.sft": ["dataloader_drop_last=true"]}
    with pytest.raises(UsageError) as caught:
        planned(tmp_path / "out", alphas="0,5", seeds="1", **sft, **{"train.batch_size": 17})
    (problem,) = caught.value.problems
    assert problem.what == (
        "--set dataloader_drop_last: there are only 16 training examples, fewer than a batch of 17, so no step would "
        "be taken."
    )
    planned(tmp_path / "out", alphas="0,5", seeds="1", **sft, **{"train.batch_size": 16})
    planned(tmp_path / "out", alphas="0,5", seeds="1", **{"train.batch_size": 17})
