"""Weights quantized to 4 bits while they are loaded, for LoRA adapters on top of them (QLoRA, arXiv 2305.14314)."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from neftune_cli.errors import Problem

PACKAGE = "bitsandbytes"


def quantization_problems(lora_ranks: Iterable[int | None]) -> Iterator[Problem]:
    """Yield what prevents training with these LoRA ranks (None: all weights) on weights of 4 bits on this machine."""
    yield from recipe_problems(lora_ranks)
    yield from machine_problems()


def recipe_problems(lora_ranks: Iterable[int | None]) -> Iterator[Problem]:
    """Yield the problem of training with these LoRA ranks (None: all weights) on weights of 4 bits on any machine."""
    if None in set(lora_ranks):
        what = "--load-in-4bit quantizes the weights, and quantized weights cannot be trained."
        yield Problem(what, "Add LoRA adapters, for example --lora-rank 16.")


def machine_problems() -> Iterator[Problem]:
    """Yield what this machine lacks for weights of 4 bits."""
    if not torch.cuda.is_available():
        yield Problem("--load-in-4bit requires a CUDA GPU, which this machine does not have.", "Leave it out.")
    if find_spec(PACKAGE) is None:
        what = f"--load-in-4bit requires the Python package {PACKAGE}, which is not installed."
        yield Problem(what, f"Run: pip install {PACKAGE}")


def loading_options() -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for weights of linear layers in NF4, multiplied in bfloat16."""
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantized, "device_map": {"": device}}


def prepared_for_training(model: PreTrainedModel) -> PreTrainedModel:
    """Freeze a quantized model and convert its other weights to float32, as PEFT recommends."""
    from peft import prepare_model_for_kbit_training

    prepared: PreTrainedModel = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return prepared


def is_quantized(model: PreTrainedModel) -> bool:
    """Return whether the weights of a model are quantized to 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
