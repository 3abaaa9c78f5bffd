"""A plan against the folder it is for: what may be joined is joined, what would mix is refused."""

from pathlib import Path

import pytest

from neftune_cli.commands.request import plan_sweep
from neftune_cli.errors import UsageError
from neftune_cli.records import EvalMetrics, LossMetrics, TrialRecord
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps import trial_runner as workbench
from neftune_cli.sweeps.plan import Plan, missing_trials, place_of, steps_of
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training.trial import Trial
from tests.finished_trials import leave

LOSS = LossMetrics(train_loss=None, train_loss_clean=1.0, eval_loss=1.0, eval_perplexity=2.7)
EVAL = EvalMetrics.model_validate(dict.fromkeys(EvalMetrics.model_fields))


def planned(folder: Path, **options: object) -> Plan:
    return plan_sweep(None, {"train_examples": 16, "eval_examples": 4, **options}, folder, TrialRunner().inspect).plan


def finish(folder: SweepFolder, trial: Trial) -> None:
    place = place_of(folder, trial)
    record = TrialRecord(
        trial=trial.id,
        arm=trial.arm,
        alpha=trial.alpha,
        seed=trial.seed,
        loss=LOSS,
        eval=EVAL,
        identity=trial.identity,
    )
    leave(place, record)


def finished(folder: Path, **options: object) -> SweepFolder:
    plan, sweep = planned(folder, **options), SweepFolder(folder)
    sweep.open(plan.spec)
    for trial in plan.trials:
        finish(sweep, trial)
    return sweep


def test_the_base_comes_first_and_then_round_by_round_of_seeds(tmp_path: Path) -> None:
    trials = planned(tmp_path / "out", alphas="0,5", seeds="2").trials
    assert [(one.arm, one.alpha, one.seed) for one in trials] == [
        ("base", None, None),
        ("alpha=0", 0.0, 0),
        ("alpha=5", 5.0, 0),
        ("alpha=0", 0.0, 1),
        ("alpha=5", 5.0, 1),
    ]


def test_what_is_finished_is_not_missing_and_what_is_added_is(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="1")
    assert missing_trials(planned(sweep.path, alphas="5,0", seeds="1"), sweep) == []
    grown = missing_trials(planned(sweep.path, alphas="0,2.5", seeds="2"), sweep)
    assert {(one.alpha, one.seed) for one in grown} == {(2.5, 0), (0.0, 1), (2.5, 1), (5.0, 1)}


def test_what_an_earlier_command_asked_for_is_said_to_be_trained_too(tmp_path: Path) -> None:
    sweep = finished(tmp_path / "out", alphas="0,5", seeds="2")
    assert planned(sweep.path, alphas="0,5", seeds="2").notes == ()
    (note,) = planned(sweep.path, alphas="0", seeds="1").notes
    begun = f"{sweep.path} has been begun with alpha=5, seed 1 as well"
    assert note == f"{begun}: what is missing of that is trained, too."


def test_alphas_in_any_order_have_the_smallest_as_baseline(tmp_path: Path) -> None:
    assert [arm.alpha for arm in planned(tmp_path / "out", alphas="5,0").spec.arms] == [0.0, 5.0]


def test_another_version_of_a_library_is_refused_beside_old_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = finished(tmp_path / "out", alphas="0", seeds="1")
    monkeypatch.setattr(workbench, "environment", lambda *, lora: {"device": "cpu", "torch": "99"})
    with pytest.raises(UsageError, match="base was run with another environment"):
        planned(sweep.path, alphas="0", seeds="1")


def test_a_data_file_that_changed_under_its_name_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [f'{{"prompt": "What follows {n}?", "completion": "{n + 1}"}}\n' for n in range(30)]
    data.write_text("".join(rows))
    sweep = finished(tmp_path / "out", dataset=str(data), alphas="0", seeds="1")
    assert missing_trials(planned(sweep.path, dataset=str(data), alphas="0", seeds="1"), sweep) == []
    data.write_text("".join(rows).replace("follows 3?", "comes after 3?"))
    with pytest.raises(UsageError, match="was run with another data"):
        planned(sweep.path, dataset=str(data), alphas="0", seeds="1")


def test_two_arms_that_are_the_same_training_are_refused(tmp_path: Path) -> None:
    experiment = tmp_path / "twins.yaml"
    experiment.write_text("arms:\n  - {alpha: 0}\n  - {name: without, alpha: 0, noise: gaussian}\n")
    with pytest.raises(UsageError, match="'alpha=0' and 'without' are the same training"):
        plan_sweep(experiment, {}, tmp_path / "out", TrialRunner().inspect)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 3),  # 16 examples, 16 per step, 3 epochs
        ({"train.batch_size": 6}, 9),
        ({"train.batch_size": 4, "train.epochs": 0.5}, 2),
        ({"train.sft": ["gradient_accumulation_steps=2"], "train.batch_size": 4}, 6),
        ({"train.max_steps": 5}, 5),
    ],
)
def test_steps_are_what_the_trainer_will_take(tmp_path: Path, options: dict[str, object], steps: int) -> None:
    plan = planned(tmp_path / "out", alphas="5", seeds="1", **options)
    assert [steps_of(trial, plan.data.train) for trial in plan.trials] == [0, steps]
