"""Evaluation mode of language models: no dropout, noise, gradients or autocast, with the previous state restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

LanguageModel = PreTrainedModel | PeftModel
"""A causal language model, with or without LoRA adapters."""


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without gradients; restore the mode of every module at the end.

    Embedding noise is added in training mode only, so it is off as well.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # not inference_mode: tensors that a model caches in it (such as rotary tables) would fail in training
        with torch.no_grad(), _full_precision(model):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _full_precision(model: torch.nn.Module) -> Iterator[None]:
    """Remove the autocast that accelerate wraps around `forward` for training in mixed precision.

    The rounding error of bfloat16 exceeds the differences between arms, and the base model runs without autocast.
    """
    wrapped, original = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    if wrapped is None or original is None:
        yield
        return
    model.forward = original
    try:
        yield
    finally:
        model.forward = wrapped


def causal_model(model: LanguageModel) -> PreTrainedModel:
    """Return the transformers model inside a PEFT wrapper, or the model itself. LoRA adapters stay active."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
