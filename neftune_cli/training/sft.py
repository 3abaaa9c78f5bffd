"""TRL's side of a trial: the SFTConfig a spec means, the fields a user may set, and the trainer built from it."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_cli.config.spec import TrainSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import Problem, UsageError
from neftune_cli.training.hardware import has_bfloat16

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

_OPTIONS = {
    "num_train_epochs": "--epochs",
    "per_device_train_batch_size": "--batch-size",
    "seed": "--seeds",
    "data_seed": "--seeds",
    "neftune_noise_alpha": "--alphas",
    "output_dir": "--output",
    "completion_only_loss": "",
    "assistant_only_loss": "",
    "dataset_kwargs": "",
    "model_init_kwargs": "",
    "trust_remote_code": "",
    "eval_strategy": "",
    "do_eval": "",
    "push_to_hub": "",
    "report_to": "",
    "save_strategy": "",
    "resume_from_checkpoint": "",
    "disable_tqdm": "",
}
"""SFTConfig fields this program sets itself, each with the option that stands for it."""


def check_sft_fields(settings: Mapping[str, Any]) -> None:
    """Check that SFTConfig has these fields, takes these values, and that they are the user's to set.

    Raises:
        UsageError: one problem a field.
    """
    if not settings:
        return
    from trl.trainer.sft_config import SFTConfig

    known = [field.name for field in fields(SFTConfig) if field.init]
    problems = [problem for name in settings for problem in _name_problems(name, known)]
    if problems:
        raise UsageError(*problems)
    try:
        _config(settings)
    except (ValueError, TypeError) as error:
        given = ", ".join(f"{name}={value}" for name, value in settings.items())
        raise UsageError(Problem(f"SFTConfig refuses --set {given}: {error}", "Change or drop it.")) from None


def _name_problems(name: str, known: list[str]) -> Iterable[Problem]:
    if name in _OPTIONS:
        fix = f"Use {_OPTIONS[name]}." if _OPTIONS[name] else "Leave it out: the comparison depends on it."
        yield Problem(f"--set {name}: this program sets that field itself.", fix)
    elif name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        fix = f"Did you mean {close[0]}?" if close else "TRL's documentation of SFTConfig lists the fields."
        yield Problem(f"--set {name}: SFTConfig has no such field.", fix)


def sft_config(train: TrainSpec, *, seed: int, device: str, work: Path) -> "SFTConfig":
    """Return the configuration of one trial.

    Args:
        train: the recipe; its `sft` fields win over this program's defaults.
        seed: decides the data order, dropout and adapter initialisation, and nothing else does.
        device: `cuda`, `mps` or `cpu`; where it has bfloat16, products run in it (weights and optimizer stay float32).
        work: a folder the trainer may write to.
    """
    return _config(
        {
            "output_dir": str(work),
            "num_train_epochs": train.epochs,
            "max_steps": train.max_steps or -1,
            "per_device_train_batch_size": train.batch_size,
            "learning_rate": train.learning_rate,
            "seed": seed,
            "data_seed": seed,
            "use_cpu": device == "cpu",
            "dataloader_pin_memory": device == "cuda",
            "bf16": has_bfloat16(device),
            "max_length": train.max_length if train.sft.get("packing") else None,
            "dataset_kwargs": None if train.sft.get("packing") else {"skip_prepare_dataset": True},
            **train.sft,
        }
    )


def _config(settings: Mapping[str, Any]) -> "SFTConfig":
    from trl.trainer.sft_config import SFTConfig

    ours = {
        "output_dir": "unused",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
    }
    return SFTConfig(**{**ours, **settings})


def build_trainer(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Iterable[TokenizedExample],
    config: "SFTConfig",
    *,
    lora_rank: int | None,
    callbacks: list["TrainerCallback"],
) -> "SFTTrainer":
    """Return a trainer over examples that are tokenized and labelled already: loss on completions alone."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = [{"input_ids": list(example.input_ids), "labels": example.labels} for example in examples]
    adapter = LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear") if lora_rank else None
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=callbacks,
    )
