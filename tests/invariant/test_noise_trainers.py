"""Trainings with the callback: exact resume, evaluation without noise, arms that differ in the noise only."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.errors import UsageError
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise import NEFTuneCallback
from tests.tiny_models import hooks_on, tiny_gpt2, weights_of

DROPOUT = 0.1
COMMON: dict[str, Any] = {
    "use_cpu": True,
    "per_device_train_batch_size": 2,
    "dataloader_pin_memory": False,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "learning_rate": 1e-2,
    "gradient_checkpointing": False,
}
ROWS = [{"input_ids": [1 + (start + step) % 18 for step in range(4 + start % 5)]} for start in range(24)]
TEXTS = [
    {"prompt": f"Who is {name}?", "completion": f" {name} is a painter."} for name in "Ada Bo Cy Di Ed Flo".split()
]
PREFERENCES = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": " A writer."} for row in TEXTS]


def gpt2(dropout: float = DROPOUT) -> Any:
    return tiny_gpt2(pad_token_id=0, embd_pdrop=dropout, attn_pdrop=dropout, resid_pdrop=dropout)


def padded(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
    labels = ids.where(ids != 0, -100)
    labels[:, 0] = -100  # has no prediction, but Trainer would count it in its mean
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def trainer(model: Any, folder: Path, *callbacks: TrainerCallback, **options: Any) -> Any:
    arguments = TrainingArguments(output_dir=str(folder), **COMMON | {"max_steps": 4} | options)
    data: Any = {"train_dataset": ROWS, "eval_dataset": ROWS[:4]}
    made: Any = Trainer(model, arguments, data_collator=padded, callbacks=list(callbacks), **data)
    made.remove_callback(PrinterCallback)
    return made


# Resume

RECIPE: dict[str, Any] = {"gradient_accumulation_steps": 2, "max_steps": 6, "save_steps": 2, "save_strategy": "steps"}


def linear_noise() -> NEFTuneCallback:
    return NEFTuneCallback(alpha=10.0, schedule="linear")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """Return the folder of an uninterrupted training with checkpoints, and the final weights."""
    folder = tmp_path_factory.mktemp("whole")
    model = gpt2()
    trainer(model, folder, linear_noise(), **RECIPE).train()
    return folder, weights_of(model)


@pytest.mark.parametrize("restore", [False, True])
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    restore: bool, whole: tuple[Path, Tensor], tmp_path: Path
) -> None:
    model, checkpoint = gpt2(), str(whole[0] / "checkpoint-2")
    options = RECIPE | {"restore_callback_states_from_checkpoint": restore}
    training = trainer(model, tmp_path, linear_noise(), **options)
    training.train(resume_from_checkpoint=checkpoint)
    assert torch.equal(weights_of(model), whole[1])
    (noise,) = (callback for callback in training.callback_handler.callbacks if isinstance(callback, NEFTuneCallback))
    assert noise.draws == 12
    assert hooks_on(model) == 0


def test_a_training_resumed_twice_ends_with_the_same_weights(whole: tuple[Path, Tensor], tmp_path: Path) -> None:
    trainer(gpt2(), tmp_path, linear_noise(), **RECIPE).train(resume_from_checkpoint=str(whole[0] / "checkpoint-2"))
    model = gpt2()
    trainer(model, tmp_path, linear_noise(), **RECIPE).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert torch.equal(weights_of(model), whole[1])


def test_a_checkpoint_without_the_state_of_the_noise_warns(whole: tuple[Path, Tensor], tmp_path: Path) -> None:
    trainer(gpt2(), tmp_path, **RECIPE).train()
    model, noise = gpt2(), linear_noise()
    with pytest.warns(UserWarning, match="checkpoint of step 2 holds no state of NEFTuneCallback"):
        trainer(model, tmp_path, noise, **RECIPE).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert noise.draws == 8
    assert not torch.equal(weights_of(model), whole[1])


def test_a_checkpoint_stores_the_number_of_draws(whole: tuple[Path, Tensor]) -> None:
    saved = json.loads((whole[0] / "checkpoint-2" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["NEFTuneCallback"]["attributes"] == {"resumed_draws": 4}


# Evaluation


def test_evaluation_during_training_has_no_noise_and_no_effect(tmp_path: Path) -> None:
    plain, model, noise = gpt2(dropout=0.0), gpt2(dropout=0.0), NEFTuneCallback(alpha=50.0)
    trainer(plain, tmp_path, NEFTuneCallback(alpha=50.0)).train()
    evaluated: list[tuple[float, float]] = []

    class Evaluating(TrainerCallback):
        def on_evaluate(self, *_: Any, metrics: Any = None, model: Any = None, **__: Any) -> None:
            evaluated.append((metrics["eval_loss"], clean_loss(model)))

    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4, "eval_on_start": True}
    trainer(model, tmp_path, noise, Evaluating(), **options).train()
    assert len(evaluated) == 5
    for seen, clean in evaluated:
        assert seen == pytest.approx(clean, rel=1e-5)
    assert noise.draws == 4
    assert torch.equal(weights_of(model), weights_of(plain))


def clean_loss(model: Any) -> float:
    """Return the evaluation loss of a copy of the weights in a new model without noise."""
    with torch.random.fork_rng():
        copy = gpt2()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        return float(copy.eval()(**padded(ROWS[:4])).loss)


def test_the_best_model_is_loaded_at_the_end_without_noise(tmp_path: Path) -> None:
    model = gpt2()
    steps = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    training = trainer(model, tmp_path, NEFTuneCallback(alpha=50.0), **steps, load_best_model_at_end=True)
    training.train()
    assert hooks_on(model) == 0
    assert training.evaluate()["eval_loss"] == pytest.approx(training.state.best_metric, rel=1e-5)


# Arms


def seen_in_training(folder: Path, alpha: float | None) -> tuple[list[str], list[str], Tensor]:
    """Return hashes of the batches and of the dropout masks, and the weights; alpha None has no callback."""
    model, batches, masks = gpt2(), [], []

    def note_batch(_: nn.Module, __: Any, call: dict[str, Any]) -> None:
        batches.append(digest(*(call[name] for name in ("input_ids", "labels"))))

    def note_mask(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        masks.append(digest((output == 0) & (inputs[0] != 0)))

    model.register_forward_pre_hook(note_batch, with_kwargs=True)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(note_mask)
    arguments = SFTConfig(output_dir=str(folder), **COMMON, max_steps=4, seed=3, dataset_kwargs=SKIP, max_length=None)
    callbacks: list[TrainerCallback] = [] if alpha is None else [NEFTuneCallback(alpha)]
    tokenizer = load_model(find_model("tiny")).tokenizer
    data = Dataset.from_list([row | {"labels": row["input_ids"]} for row in ROWS])
    SFTTrainer(
        model, arguments, train_dataset=data, data_collator=padded, processing_class=tokenizer, callbacks=callbacks
    ).train()
    return batches, masks, weights_of(model)


SKIP = {"skip_prepare_dataset": True}


def digest(*tensors: Tensor) -> str:
    return sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def test_arms_of_one_seed_have_the_same_batches_and_dropout(tmp_path: Path) -> None:
    batches, masks, weights = seen_in_training(tmp_path, alpha=None)
    assert len(set(batches)) == 4
    assert len(set(masks)) == len(masks) > 4
    for alpha in (0.0, 5.0, 10.0):
        arm = seen_in_training(tmp_path, alpha)
        assert arm[0] == batches
        assert arm[1] == masks
        assert torch.equal(arm[2], weights) == (alpha == 0)


# TRL


@pytest.fixture(scope="module")
def tiny() -> Callable[[], Any]:
    """Return a function that loads the bundled model and its tokenizer."""
    return lambda: load_model(find_model("tiny"))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("target", ["all", "completion"])
def test_sft_trains_with_noise_and_ends_without_hooks(
    packing: bool, target: Any, tiny: Callable[[], Any], tmp_path: Path
) -> None:
    loaded, noise = tiny(), NEFTuneCallback(alpha=5.0, target=target)
    arguments = SFTConfig(output_dir=str(tmp_path), **COMMON, max_steps=2, packing=packing, max_length=32)
    SFTTrainer(
        loaded.model,
        arguments,
        train_dataset=Dataset.from_list(TEXTS),
        processing_class=loaded.tokenizer,
        callbacks=[noise],
    ).train()
    assert noise.draws == 2
    assert noise.deviations == ()
    assert noise.attestation is not None
    assert noise.attestation.rms == pytest.approx(1, abs=0.02)
    assert noise.attestation.noised_padding in (0, None)
    assert (noise.attestation.noised_share == 1) == (target == "all")
    assert hooks_on(loaded.model) == 0


@pytest.mark.parametrize(("alpha", "scale"), [(5.0, "paper"), (5.0, "hf"), (0.0, "paper")])
def test_packing_that_hides_the_lengths_of_examples_is_refused(
    alpha: float, scale: Any, tiny: Callable[[], Any], tmp_path: Path
) -> None:
    loaded = tiny()
    arguments = SFTConfig(
        output_dir=str(tmp_path), **COMMON, max_steps=1, packing=True, packing_strategy="wrapped", max_length=32
    )
    trainer = SFTTrainer(
        loaded.model,
        arguments,
        train_dataset=Dataset.from_list(TEXTS),
        processing_class=loaded.tokenizer,
        callbacks=[NEFTuneCallback(alpha=alpha, noise_scale=scale)],
    )
    needs_lengths = alpha > 0 and scale == "paper"
    with pytest.raises(UsageError, match="packing_strategy=wrapped") if needs_lengths else nullcontext():
        trainer.train()
    assert hooks_on(loaded.model) == 0


def test_dpo_adds_noise_to_the_policy_and_not_to_the_reference(tiny: Callable[[], Any], tmp_path: Path) -> None:
    loaded, reference, noise = tiny(), tiny().model, NEFTuneCallback(alpha=5.0)
    modes: list[bool] = []
    reference.register_forward_pre_hook(lambda *_: modes.append(reference.training))
    arguments = DPOConfig(output_dir=str(tmp_path), **COMMON, max_steps=2)
    DPOTrainer(
        loaded.model,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_list(PREFERENCES),
        processing_class=loaded.tokenizer,
        callbacks=[noise],
    ).train()
    assert noise.draws == 2
    assert noise.deviations == ()
    assert hooks_on(loaded.model) == 0
    assert len(modes) == 2
