"""Evidence from trainer states that transformers wrote."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.errors import UsageError
from neftune_cli.evidence.trainer_state import find_trainer_runs, trainer_evidence

RUNS = ("alpha=0,seed=0", "alpha=0,seed=1", "alpha=5,seed=0", "alpha=5,seed=1")
Line = dict[str, Any]


def train(step: int, loss: float, *, per_epoch: int = 4, **values: float) -> Line:
    return {"step": step, "epoch": step / per_epoch, "loss": loss, "learning_rate": 1e-3 / step, **values}


def evaluation(step: int, loss: float, *, per_epoch: int = 4) -> Line:
    return {"step": step, "epoch": step / per_epoch, "eval_loss": loss, "eval_runtime": 0.1}


LINES = (train(2, 3.0), train(4, 2.0), evaluation(4, 2.5), train(6, 1.5), train(8, 0.5), evaluation(8, 2.0))


def save(folder: Path, lines: Sequence[Line] = LINES, *, checkpoint: bool = True, **fields: Any) -> Path:
    """Write a state with transformers."""
    last: Line = lines[-1] if lines else {"step": 8, "epoch": 2.0}
    values = {"max_steps": 8, "num_train_epochs": 2, "train_batch_size": 4, **fields}
    state = TrainerState(global_step=last["step"], epoch=last["epoch"], log_history=list(lines), **values)
    target = folder / f"checkpoint-{last['step']}" if checkpoint else folder
    target.mkdir(parents=True, exist_ok=True)
    state.save_to_json(str(target / "trainer_state.json"))
    return folder


def save_all(root: Path, names: Sequence[str] = RUNS) -> Path:
    for name in names:
        save(root / name)
    return root


class TwoWeights(nn.Module):
    """A minimal model."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(2, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        found = self.weights(x)
        return {"loss": ((found - labels) ** 2).mean(), "logits": found}


class LossRecorder(TrainerCallback):
    """Record the losses that a trainer reports, independently of its state."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, float]] = []

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" in logs:
            self.losses.append((float(state.epoch or 0), logs["loss"]))


class EvaluationRecorder(TrainerCallback):
    """Record the last metrics that a trainer reports for each of its evaluation data sets."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        self.metrics |= {key: value for key, value in metrics.items() if key.endswith("_loss")}


def run_trainer(output: Path, *, seed: int) -> tuple[list[tuple[float, float]], float]:
    """Train for three epochs of three steps; return the logged losses and the final loss on held-out rows."""
    torch.manual_seed(seed)
    rows = [{"x": torch.randn(2), "labels": torch.randn(1)} for _ in range(14)]
    arguments = TrainingArguments(
        str(output),
        per_device_train_batch_size=4,
        num_train_epochs=3,
        logging_steps=1,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=seed,
    )
    recorder = LossRecorder()
    trainer = Trainer(TwoWeights(), arguments, train_dataset=rows[:10], eval_dataset=rows[10:], callbacks=[recorder])
    trainer.train()
    return recorder.losses, trainer.evaluate()["eval_loss"]


def test_scores_equal_those_that_a_trainer_reported(tmp_path: Path) -> None:
    reported = {name: run_trainer(tmp_path / "runs" / name, seed=seed) for seed, name in enumerate(RUNS)}
    (evidence,) = trainer_evidence(tmp_path / "runs")
    assert [(trial.arm, trial.alpha, trial.seed) for trial in evidence.trials] == [
        ("alpha=0", 0.0, 0),
        ("alpha=0", 0.0, 1),
        ("alpha=5", 5.0, 0),
        ("alpha=5", 5.0, 1),
    ]
    for trial, (losses, eval_loss) in zip(evidence.trials, reported.values(), strict=True):
        last_epoch = [loss for epoch, loss in losses if epoch > 2]
        assert len(last_epoch) == 3
        assert trial.scores["train_loss"] == pytest.approx(sum(last_epoch) / 3)
        assert trial.scores["eval_loss"] == pytest.approx(eval_loss)
        assert [point.train_loss for point in trial.curve if point.train_loss is not None] == [one for _, one in losses]
        assert [point.step for point in trial.curve if point.eval_loss is not None] == [3, 6, 9]
    assert evidence.unfinished == ()
    assert len(evidence.notes) == 2
    assert evidence.setting.description == "a model on data (3 epochs)"


def test_custom_metrics_are_read_from_the_last_evaluation(tmp_path: Path) -> None:
    rouge = {"eval_rouge": 0.25, "eval_samples_per_second": 9.0, "eval_note": "none"}
    for name in RUNS:
        save(tmp_path / "runs" / name, [*LINES[:-1], {**evaluation(8, 2.0), **rouge}])

    (evidence,) = trainer_evidence(tmp_path / "runs")

    assert evidence.trials[0].scores["eval_rouge"] == 0.25
    assert list(evidence.metrics) == ["train_loss", "eval_loss", "eval_perplexity", "eval_rouge"]
    assert (evidence.metrics["eval_rouge"].name, evidence.metrics["eval_rouge"].goal) == ("Held-out rouge", None)


def test_all_evaluation_data_sets_of_a_trainer_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = [{"x": torch.randn(2), "labels": torch.randn(1)} for _ in range(12)]
    arguments = TrainingArguments(
        str(tmp_path / "alpha=0"),
        max_steps=2,
        logging_steps=1,
        eval_strategy="steps",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    recorder = EvaluationRecorder()
    data_sets = {"easy": rows[8:10], "hard": rows[10:]}
    trainer = Trainer(TwoWeights(), arguments, train_dataset=rows[:8], eval_dataset=data_sets, callbacks=[recorder])
    trainer.train()
    trainer.save_state()

    (evidence,) = trainer_evidence(tmp_path)

    assert list(recorder.metrics) == ["eval_easy_loss", "eval_hard_loss"]
    assert recorder.metrics.items() <= evidence.trials[0].scores.items()
    assert [evidence.metrics[key].name for key in recorder.metrics] == ["Held-out easy_loss", "Held-out hard_loss"]
    assert len(evidence.notes) == 2


def test_a_metric_of_several_data_sets_under_one_name_is_noted(tmp_path: Path) -> None:
    both = [
        {"step": 8, "epoch": 2.0, f"eval_{name}_loss": loss, "eval_entropy": entropy}
        for name, loss, entropy in (("easy", 1.0, 0.5), ("hard", 2.0, 0.75))
    ]
    save(tmp_path / "several" / "alpha=0", [train(8, 1.0), *both])
    save(tmp_path / "repeated" / "alpha=0", [train(8, 1.0), both[1] | {"eval_entropy": 0.25}, both[1]])

    (several,), (repeated,) = (trainer_evidence(tmp_path / name) for name in ("several", "repeated"))

    assert several.trials[0].scores["eval_entropy"] == repeated.trials[0].scores["eval_entropy"] == 0.75
    assert several.notes[2:] == (
        "The trainers logged eval_entropy for several evaluation data sets under one name: the value of the last data "
        "set is compared.",
    )
    assert repeated.notes[2:] == ()


def test_the_step_of_an_evaluation_without_eval_loss_is_noted(tmp_path: Path) -> None:
    for name, step in (("alpha=0", 8), ("alpha=5", 4)):
        earlier = {"step": 2, "epoch": 0.5, "eval_easy_loss": 3.0, "eval_rouge": 0.5}
        last = {"step": step, "epoch": step / 4, "eval_easy_loss": 1.0}
        save(tmp_path / name, [earlier, last, train(8, 1.0)])

    (evidence,) = trainer_evidence(tmp_path)

    assert list(evidence.metrics) == ["train_loss", "eval_easy_loss"]
    assert evidence.notes[2:] == ("Held-out metrics are from the last evaluation in the states, at step 4 to 8.",)


def test_scores_and_curve_are_read_from_the_log(tmp_path: Path) -> None:
    (evidence,) = trainer_evidence(save_all(tmp_path / "runs"))
    trial = evidence.trials[0]
    assert trial.scores == {"train_loss": 1.0, "eval_loss": 2.0, "eval_perplexity": pytest.approx(math.e**2)}
    assert trial.items == {}
    assert trial.held_out_by_epoch == {}
    assert [(point.step, point.train_loss, point.eval_loss) for point in trial.curve] == [
        (2, 3.0, None),
        (4, 2.0, None),
        (4, None, 2.5),
        (6, 1.5, None),
        (8, 0.5, None),
        (8, None, 2.0),
    ]
    assert trial.curve[0].learning_rate == 5e-4
    assert evidence.name == "runs"
    assert list(evidence.metrics) == ["train_loss", "eval_loss", "eval_perplexity"]
    assert evidence.origin.folders == tuple(str(tmp_path / "runs" / name) for name in RUNS)
    assert evidence.notes == (
        "These runs come from trainer states, which do not show whether the runs differ only in noise and seed. Arm "
        "and seed come from folder names or run files.",
        "Trainer states have no losses per example. Intervals are over seeds only.",
    )


def test_a_logged_loss_is_the_mean_since_the_previous_one(tmp_path: Path) -> None:
    # one epoch of six steps: a loss for the first step, then for three and for two
    lines = [train(1, 6.0, per_epoch=6), train(4, 2.0, per_epoch=6), train(6, 1.0, per_epoch=6)]
    (evidence,) = trainer_evidence(save(tmp_path / "alpha=5", lines, max_steps=6, num_train_epochs=1))
    assert evidence.trials[0].scores["train_loss"] == pytest.approx((1 * 6.0 + 3 * 2.0 + 2 * 1.0) / 6)


def test_tokens_are_read_if_trl_logged_them(tmp_path: Path) -> None:
    save(tmp_path / "alpha=5", [train(8, 0.5, num_tokens=5120.0)])
    (evidence,) = trainer_evidence(tmp_path)
    assert [point.tokens for point in evidence.trials[0].curve] == [5120]


def test_the_latest_state_is_used(tmp_path: Path) -> None:
    run = save(tmp_path / "alpha=0", LINES[:3])
    save(run, LINES)
    (evidence,) = trainer_evidence(tmp_path)
    assert evidence.trials[0].scores["eval_loss"] == 2.0
    save(run, [*LINES[:-1], evaluation(8, 1.75)], checkpoint=False)  # as `save_state()` after training does
    (evidence,) = trainer_evidence(tmp_path)
    assert evidence.trials[0].scores["eval_loss"] == 1.75
    save(run, LINES[:3], checkpoint=False)
    (evidence,) = trainer_evidence(tmp_path)
    assert evidence.trials[0].scores["eval_loss"] == 2.0


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    run = save(tmp_path / "alpha=0", [train(20, 1.0)], max_steps=100)
    save(run, [train(20, 1.0), train(100, 0.25)], max_steps=100)
    (evidence,) = trainer_evidence(tmp_path)
    assert evidence.trials[0].curve[-1].step == 100


def test_runs_are_found_at_any_depth_but_not_in_sweeps_and_hidden_folders(tmp_path: Path) -> None:
    inside, outside = tmp_path / "mine" / "alpha=0", tmp_path / "theirs" / "deep" / "alpha=0"
    for folder in (inside, outside, tmp_path / ".cache" / "alpha=0"):
        save(folder)
    save(tmp_path / "theirs", checkpoint=False)
    assert find_trainer_runs(tmp_path) == [inside, tmp_path / "theirs", outside]
    (tmp_path / "mine" / "sweep.yaml").write_text("program: train.py\n")  # other tools write files of that name
    assert find_trainer_runs(tmp_path) == [inside, tmp_path / "theirs", outside]
    (tmp_path / "mine" / "trials").mkdir()
    assert find_trainer_runs(tmp_path) == [tmp_path / "theirs", outside]
    assert find_trainer_runs(inside) == []


def test_a_linked_folder_is_found_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "run 17")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "alpha=5").symlink_to(tmp_path / "elsewhere" / "run 17")
    (tmp_path / "runs" / "again").symlink_to(tmp_path / "runs")
    save(tmp_path / "around" / "alpha=0")
    (tmp_path / "runs" / "up").symlink_to("..")
    assert find_trainer_runs(tmp_path / "runs") == [tmp_path / "runs" / "alpha=5"]
    (evidence,) = trainer_evidence(tmp_path / "runs")
    assert evidence.trials[0].arm == "alpha=5"


def test_an_empty_folder_gives_no_evidence(tmp_path: Path) -> None:
    assert trainer_evidence(tmp_path) == []


def test_separately_given_folders_are_compared(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs")
    (evidence,) = trainer_evidence(*sorted(root.iterdir()))
    assert evidence.name == "runs"
    assert [trial.arm for trial in evidence.trials] == ["alpha=0", "alpha=0", "alpha=5", "alpha=5"]


def test_runs_of_another_recipe_are_separate(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs")
    save(root / "longer" / "alpha=5,seed=0", [*LINES, train(12, 0.25)], max_steps=12, num_train_epochs=3)
    first, second = trainer_evidence(root)
    assert (first.name, first.difference_from_first, len(first.trials)) == ("runs, part 1", "", 4)
    assert (second.name, len(second.trials)) == ("runs, part 2", 1)
    assert second.difference_from_first.startswith(
        "Not compared with runs, part 1, because more than the noise differs: num_train_epochs 3.0 instead of 2.0; "
        "max_steps 12 instead of 8; "
    )


def test_runs_with_another_learning_rate_are_separate(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs")
    save(root / "alpha=5,seed=2", [{**line, "learning_rate": 1e-4} if "loss" in line else line for line in LINES])
    _, second = trainer_evidence(root)
    assert second.difference_from_first == (
        "Not compared with runs, part 1, because more than the noise differs: "
        "learning rate 0.0001 at most, 0.0001 at the end instead of 0.0005 at most, 0.000125 at the end."
    )


def test_logging_at_other_steps_is_not_another_recipe(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs")
    save(root / "alpha=5,seed=2", [train(8, 1.0), evaluation(8, 2.0)])
    assert len(trainer_evidence(root)) == 1


def test_model_and_data_are_read_from_model_cards_and_adapters(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs", RUNS[:1])
    card = "---\nbase_model: HuggingFaceTB/SmolLM2-135M\ndatasets:\n- tatsu-lab/alpaca\n---\n\n# Model Card\n"
    (root / RUNS[0] / "README.md").write_text(card)
    adapter = {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-360M", "r": 8}
    (root / RUNS[0] / "checkpoint-8" / "adapter_config.json").write_text(json.dumps(adapter))
    (evidence,) = trainer_evidence(root)
    assert evidence.setting.description == "SmolLM2-360M on alpaca (2 epochs, LoRA rank 8)"


def test_runs_of_models_that_are_known_to_differ_are_separate(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs")
    for name, model in zip(RUNS[1:], ("a/one", "a/one", "a/two"), strict=True):  # the model of the first run is unknown
        (root / name / "README.md").write_text(f"---\nbase_model: {model}\n---\n")
    first, second = trainer_evidence(root)
    assert [trial.trial_id for trial in first.trials] == [str(root / name) for name in RUNS[:3]]
    expected = "because more than the noise differs: model a/two instead of a/one."
    assert second.difference_from_first.endswith(expected)


def test_an_unfinished_run_is_listed_as_unfinished(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs", RUNS[:3])
    save(root / RUNS[3], LINES[:3])
    (evidence,) = trainer_evidence(root)
    assert [trial.trial_id for trial in evidence.trials] == [str(root / name) for name in RUNS[:3]]
    assert evidence.unfinished == (f"{root / RUNS[3]} has not finished: step 4 of 8",)


def test_a_run_that_a_callback_stopped_early_is_compared(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs", RUNS[:3])
    control = TrainerControl(should_training_stop=True)
    save(root / RUNS[3], LINES[:3], stateful_callbacks={"TrainerControl": control.state()})
    (evidence,) = trainer_evidence(root)
    assert len(evidence.trials) == 4
    assert evidence.notes[2:] == ("Held-out metrics are from the last evaluation in the states, at step 4 to 8.",)


def test_unfinished_runs_are_compared_if_all_are_at_the_same_step(tmp_path: Path) -> None:
    for name in RUNS:
        save(tmp_path / name, LINES[:3])
    (evidence,) = trainer_evidence(tmp_path)
    assert len(evidence.trials) == 4
    assert evidence.notes[2:] == ("The last saved state is of step 4 of 8.",)
    assert evidence.setting.description == "a model on data (8 steps)"


def test_a_run_without_evaluation_has_a_training_loss_only(tmp_path: Path) -> None:
    save(tmp_path / "alpha=0", [train(8, 1.0)])
    (evidence,) = trainer_evidence(tmp_path)
    assert list(evidence.metrics) == ["train_loss"]
    assert evidence.trials[0].scores == {"train_loss": 1.0, "eval_loss": None, "eval_perplexity": None}


def test_nan_losses_are_kept_and_perplexities_are_finite(tmp_path: Path) -> None:
    save(tmp_path / "alpha=0", [train(4, 1.0), train(8, math.nan), evaluation(8, math.nan)])
    save(tmp_path / "alpha=5", [train(8, 1.0), evaluation(8, 1000.0)])
    (evidence,) = trainer_evidence(tmp_path)
    undefined, diverged = evidence.trials
    assert all(math.isnan(undefined.scores[key] or 0) for key in ("train_loss", "eval_loss", "eval_perplexity"))
    assert (diverged.scores["eval_loss"], diverged.scores["eval_perplexity"]) == (1000.0, math.exp(700))


def test_every_invalid_state_is_named_with_a_fix(tmp_path: Path) -> None:
    root = save_all(tmp_path / "runs")
    save(root / "alpha=5,seed=1", [])
    truncated = root / "alpha=0,seed=0" / "checkpoint-8" / "trainer_state.json"
    truncated.write_text(truncated.read_text()[:40])
    mistyped = root / "alpha=5,seed=0" / "checkpoint-8" / "trainer_state.json"
    mistyped.write_text('{"global_step": 8, "log_history": [{"step": 1, "loss": "low"}]}')
    with pytest.raises(UsageError) as raised:
        trainer_evidence(root)
    fix = "Restore the file, or move its folder elsewhere."
    assert str(raised.value).replace(f"{root}/", "").splitlines() == [
        "alpha=0,seed=0/checkpoint-8/trainer_state.json is not valid (Invalid JSON: EOF while parsing a string at line "
        f"3 column 10). {fix}",
        "alpha=5,seed=0/checkpoint-8/trainer_state.json is not valid (log_history.0.loss: Input should be a valid "
        f"number, unable to parse string as a number). {fix}",
        "alpha=5,seed=1/checkpoint-8/trainer_state.json has no loss in its log history. Train with a smaller "
        "logging_steps, or leave out the run.",
    ]


def test_a_run_without_an_arm_raises(tmp_path: Path) -> None:
    save(tmp_path / "runs" / "first")
    with pytest.raises(UsageError, match=r"^The arm and seed of this run are unknown: .*first\."):
        trainer_evidence(tmp_path / "runs")
