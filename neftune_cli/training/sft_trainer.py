"""Build TRL's SFTConfig and trainer from a recipe."""

from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, cast, get_args

from neftune_cli.config.spec import TrainSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.batches import tokens_at_once
from neftune_cli.training.data_parallel import TIMEOUT_SECONDS
from neftune_cli.training.hardware import has_bfloat16
from neftune_cli.training.trial import halved_batch

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig

    from neftune_cli.training.resumable_trainer import ResumableTrainer
    from neftune_cli.training.sharding import WholeModel


def sft_config(
    train: TrainSpec,
    *,
    seed: int,
    device: str,
    work: Path,
    halvings: int = 0,
    processes: int = 1,
    fsdp: Mapping[str, Any] | None = None,
) -> "SFTConfig":
    """Return the configuration of one trial.

    Args:
        train: the recipe; its `sft` fields override the defaults of this function.
        seed: determines data order, dropout and adapter initialization.
        device: `cuda`, `mps` or `cpu`. With the precision `auto`, training uses bfloat16 autocast if the hardware
            supports it; weights and optimizer state stay float32.
        work: a folder that the trainer may write to.
        halvings: number of times to halve the batch size. Gradient accumulation makes up for it.
        processes: number of processes that train together, which divide the examples of each step.
        fsdp: values of the field `fsdp_config` if the processes share the weights; None if each has all of them.

    Raises:
        TrialError: the batch size cannot be halved this often.
    """
    from trl.trainer.sft_config import SFTConfig

    fixed = {
        **_fixed_values(train, seed=seed, device=device),
        **_batch_values(train, halvings, processes, device),
        **({} if fsdp is None else _sharded_values(fsdp)),
        "output_dir": str(work),
    }
    defaults = {
        "bf16": _in_bfloat16(train, device) and not train.sft.get("fp16"),
        "gradient_checkpointing": False,
        "dataloader_pin_memory": device == "cuda",
    }
    config = SFTConfig(**{**defaults, **_sft_values(train), **fixed})
    if config.n_gpu > 1:  # otherwise Trainer multiplies the batch size by the number of GPUs
        config._n_gpu = 1
    return config


def _sft_values(train: TrainSpec) -> dict[str, Any]:
    """Return the SFTConfig fields of a recipe, numbers with the type that the field has."""
    from trl.trainer.sft_config import SFTConfig

    known = {field.name: field for field in fields(SFTConfig)}
    return {name: with_exact_type(known[name], value) if name in known else value for name, value in train.sft.items()}


def with_exact_type(field: Field[Any], value: Any) -> Any:
    """Return 1 as 1.0 for a field of type float, and 1.0 as 1 for a field of type int; other values unchanged."""
    types = {int, float} & types_of(field)
    if types == {float} and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return int(value) if types == {int} and isinstance(value, float) and value.is_integer() else value


def types_of(field: Field[Any]) -> set[Any]:
    """Return the types of a field, without None."""
    return set(get_args(field.type) or (field.type,)) - {NoneType}


def _fixed_values(train: TrainSpec, *, seed: int, device: str) -> dict[str, Any]:
    """Return the fields that follow from the recipe and the seed, and those with a fixed value."""
    packing = bool(train.sft.get("packing"))
    return {
        "num_train_epochs": train.epochs,
        "max_steps": train.max_steps or -1,
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


def _batch_values(train: TrainSpec, halvings: int, processes: int, device: str) -> dict[str, Any]:
    """Return the fields that divide the examples of a step into batches and among processes."""
    at_once, accumulated = halved_batch(train, halvings, processes)
    batch = {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": accumulated}
    if processes == 1:
        return batch
    return {**batch, "ddp_timeout": TIMEOUT_SECONDS, **({"ddp_backend": "gloo"} if device == "cpu" else {})}


def _sharded_values(fsdp: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of sharded training. Without a sum after each batch, every process keeps whole gradients."""
    accumulation = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return {"fsdp": True, "fsdp_config": dict(fsdp), "accelerator_config": accumulation}


def _in_bfloat16(train: TrainSpec, device: str) -> bool:
    return has_bfloat16(device) if train.precision == "auto" else train.precision == "bfloat16"


def build_trainer(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Iterable[TokenizedExample],
    config: "SFTConfig",
    *,
    train: TrainSpec,
    callbacks: list["TrainerCallback"],
    halvings: int = 0,
) -> "ResumableTrainer":
    """Return a trainer for tokenized examples. Loss is computed on completion tokens only, as their labels say.

    Args:
        model: the model to train.
        tokenizer: its tokenizer.
        examples: the training examples.
        config: the configuration that `sft_config` returned for the recipe.
        train: the recipe, of which the configuration does not hold the adapters and the micro-batches.
        callbacks: callbacks of the trainer.
        halvings: number of times to halve the size of micro-batches.
    """
    from datasets import Dataset

    from neftune_cli.training.lora import lora_config
    from neftune_cli.training.mixture_of_experts import name_number_of_experts
    from neftune_cli.training.resumable_trainer import ResumableTrainer

    adapters = lora_config(cast("nn.Module", model), train.lora_rank) if train.lora_rank else None
    whole = _whole_model(model, adapters, config)
    rows = [{"input_ids": list(example.input_ids), "labels": example.labels} for example in examples]
    name_number_of_experts(model)
    trainer = ResumableTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapters,
        callbacks=[*([whole] if whole else []), *callbacks],
    )
    trainer.whole_model = whole
    trainer.micro_batch_tokens = tokens_at_once(config.device.type, train.micro_batch_tokens) >> halvings
    return trainer


def _whole_model(model: "PreTrainedModel", adapters: "PeftConfig | None", config: "SFTConfig") -> "WholeModel | None":
    """Return the whole model if the configuration shards it, otherwise None."""
    from neftune_cli.training.sharding import WholeModel

    if not config.fsdp:
        return None
    is_rank_0 = config.process_index == 0
    return WholeModel(cast("nn.Module", model), adapters, device=config.device.type, is_rank_0=is_rank_0)
