"""TRL's side of a trial: the SFTConfig a spec means, the fields a user may set, and the trainer built from it."""

import difflib
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_cli.config.spec import TrainSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import Problem, TrialError, UsageError
from neftune_cli.training.hardware import device_name, has_bfloat16

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig

    from neftune_cli.training.checkpointing import ResumableTrainer

_OPTIONS = {
    "num_train_epochs": "--epochs",
    "per_device_train_batch_size": "--batch-size",
    "seed": "--seeds",
    "data_seed": "--seeds",
    "neftune_noise_alpha": "--alphas",
    "output_dir": "--output",
}
"""SFTConfig fields that this program has an option for."""

_RESERVED = frozenset(
    "assistant_only_loss auto_find_batch_size chat_template_path completion_only_loss dataset_kwargs deepspeed "
    "disable_tqdm do_eval eos_token eval_on_start eval_strategy fsdp ignore_data_skip load_best_model_at_end "
    "logging_first_step logging_nan_inf_filter logging_steps logging_strategy model_init_kwargs push_to_hub "
    "report_to restore_callback_states_from_checkpoint resume_from_checkpoint save_strategy trust_remote_code "
    "use_cpu".split()
)
"""SFTConfig fields that this program sets itself: what it measures, or compares, depends on them."""


def check_recipe(train: TrainSpec) -> None:
    """Check that SFTConfig has the fields a recipe names, that they are the user's to set, and takes their values.

    Raises:
        UsageError: one problem a field.
    """
    if not train.sft:
        return
    problems = [problem for name, value in train.sft.items() for problem in _field_problems(name, value)]
    if problems:
        raise UsageError(*problems)
    try:
        with warnings.catch_warnings(action="ignore"):
            sft_config(train, seed=0, device=device_name(), work=Path("unused"))
    except Exception as error:  # SFTConfig's checks, and those of the packages its fields ask for, share no root
        given = ", ".join(f"{name}={value}" for name, value in train.sft.items())
        raise UsageError(Problem(f"SFTConfig refuses --set {given}: {error}", "Change or drop it.")) from None


def _field_problems(name: str, value: Any) -> Iterator[Problem]:
    from trl.trainer.sft_config import SFTConfig

    known = {field.name: field for field in fields(SFTConfig) if field.init}
    if name in _OPTIONS:
        yield Problem(f"--set {name}: this program sets that field itself.", f"Use {_OPTIONS[name]}.")
    elif name in _RESERVED:
        fix = "Leave it out: what is measured depends on it."
        yield Problem(f"--set {name}: this program sets that field itself.", fix)
    elif name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        fix = f"Did you mean {close[0]}?" if close else "TRL's documentation of SFTConfig lists the fields."
        yield Problem(f"--set {name}: SFTConfig has no such field.", fix)
    elif wanted := _wanted_instead(known[name], value):
        yield Problem(f"--set {name}={value}: that is not {wanted}.", "Give another value.")


def _wanted_instead(field: Field[Any], value: Any) -> str | None:
    """Return what kind of value a field wants if this is none, as far as its default and its choices tell."""
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        return f"one of {', '.join(map(str, choices))}"
    if isinstance(field.default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(field.default, int | float):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if is_number else "a number"
    return None if isinstance(value, str | bool | int | float | list | dict | None) else "a number or a text"


def sft_config(train: TrainSpec, *, seed: int, device: str, work: Path, halvings: int = 0) -> "SFTConfig":
    """Return the configuration of one trial.

    Args:
        train: the recipe; its `sft` fields win over this program's defaults.
        seed: decides the data order, dropout and adapter initialisation, and nothing else does.
        device: `cuda`, `mps` or `cpu`; where it has bfloat16, products run in it (weights and optimizer stay float32).
        work: a folder the trainer may write to.
        halvings: how often to halve the batch that is computed at once; as many more of them make up a step.

    Raises:
        TrialError: the batch can't be halved so often.
    """
    from trl.trainer.sft_config import SFTConfig

    packing = bool(train.sft.get("packing"))
    at_once, accumulated = micro_batches(train, halvings)
    fixed = {
        "output_dir": str(work),
        "num_train_epochs": train.epochs,
        "max_steps": train.max_steps or -1,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": train.learning_rate,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": device == "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
        "max_length": train.max_length if packing else None,
        "dataset_kwargs": None if packing else {"skip_prepare_dataset": True},
    }
    defaults = {
        "bf16": has_bfloat16(device) and not train.sft.get("fp16"),
        "gradient_checkpointing": False,
        "dataloader_pin_memory": device == "cuda",
    }
    config = SFTConfig(**{**defaults, **train.sft, **fixed})
    if config.n_gpu > 1:  # otherwise Trainer splits each batch over all GPUs, whatever the batch size says
        config._n_gpu = 1
    return config


def micro_batches(train: TrainSpec, halvings: int) -> tuple[int, int]:
    """Return how many examples are computed at once, and how many times that makes up one step.

    Raises:
        TrialError: the batch can't be halved so often.
    """
    at_once, rest = divmod(train.batch_size, 2**halvings)
    if rest:
        raise TrialError(
            f"Batches of {train.batch_size} can't be halved {halvings} times; choose another --batch-size."
        )
    return at_once, train.sft.get("gradient_accumulation_steps", 1) * 2**halvings


def build_trainer(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Iterable[TokenizedExample],
    config: "SFTConfig",
    *,
    lora_rank: int | None,
    callbacks: list["TrainerCallback"],
) -> "ResumableTrainer":
    """Return a trainer over examples that are tokenized and labelled already: loss on completions alone."""
    from datasets import Dataset
    from peft import LoraConfig

    from neftune_cli.training.checkpointing import ResumableTrainer

    rows = [{"input_ids": list(example.input_ids), "labels": example.labels} for example in examples]
    adapter = LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear") if lora_rank else None
    return ResumableTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=callbacks,
    )
