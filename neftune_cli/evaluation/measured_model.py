"""A model while it is measured: no dropout, noise, gradients or autocast, and afterwards left as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

LanguageModel = PreTrainedModel | PeftModel
"""What can be measured: a causal language model, as it is or with adapters."""


@contextmanager
def measuring(model: torch.nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without gradients; give every module its own mode back, whatever happens.

    Embedding noise is a matter of training mode, so it is off as well.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # not inference_mode: what a model caches under it (rotary tables, say) would break the next training step
        with torch.no_grad(), _full_precision(model):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _full_precision(model: torch.nn.Module) -> Iterator[None]:
    """Take off the autocast that accelerate wraps a model's `forward` in once it is trained in mixed precision.

    The rounding of bfloat16 is larger than the differences between arms, and the model before training has none.
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
    """Return the transformers model inside a PEFT wrapper, or the model itself.

    LoRA layers live inside that model, so it answers with the adapters on.
    """
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
