"""Language models: their type and properties, and the mode in which they are measured."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel

EVALUATION_SETTINGS = {"output_router_logits": False, "output_attentions": False, "output_hidden_states": False}
"""Fields of a model's configuration that add outputs. With router logits, which TRL turns on in mixture-of-experts
models and which a checkpoint may ask for, generation with a cache fails."""

_CONTEXT_FIELDS = ("max_position_embeddings", "max_seq_len")
"""Fields of a configuration with the context length, by precedence; transformers maps most other names to the first.

`max_seq_len` is the field of MPT, whose position biases end there."""

LanguageModel = PreTrainedModel | PeftModel
"""A causal language model, with or without LoRA adapters."""


def causal_model(model: LanguageModel) -> PreTrainedModel:
    """Return the transformers model inside a PEFT wrapper, or the model itself. LoRA adapters stay active."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def cache_argument(model: LanguageModel) -> str:
    """Return the name of the cache among the arguments of a forward: `cache` in newer versions of transformers."""
    return "cache" if "cache" in signature(causal_model(model).forward).parameters else "past_key_values"


def context_length(model: LanguageModel) -> int | None:
    """Return the number of tokens in the context of a model; None if its configuration does not limit it."""
    config = causal_model(model).config.get_text_config()
    lengths: list[int | None] = [getattr(config, name, None) for name in _CONTEXT_FIELDS]
    return next((length for length in lengths if length is not None), None)


def short_factor_length(model: LanguageModel) -> int | None:
    """Return the largest length, in tokens, at which a LongRoPE model uses its short position factors.

    A longer sequence makes the model use the long factors for its whole batch. None for other models.
    """
    parameters: dict[str, Any] = getattr(causal_model(model).config.get_text_config(), "rope_parameters", None) or {}
    by_kind_of_layer = [one for one in parameters.values() if isinstance(one, dict)]
    long_rope = [one for one in (parameters, *by_kind_of_layer) if one.get("rope_type") == "longrope"]
    return min((int(one["original_max_position_embeddings"]) for one in long_rope), default=None)


def parameter_counts(model: LanguageModel) -> tuple[int, int]:
    """Return the number of parameters of a model, adapters included, and of those that are trained."""
    # transformers counts the parameters that packed 4-bit weights stand for
    return causal_model(model).num_parameters(), sum(one.numel() for one in model.parameters() if one.requires_grad)


def computes_chosen_positions(model: LanguageModel) -> bool:
    """Return whether the architecture accepts a boolean mask as `logits_to_keep`.

    Such architectures call transformers' `slice_logits_to_keep`. In remote code and in older releases of transformers,
    `logits_to_keep` is a number of trailing positions or is missing.
    """
    return hasattr(sys.modules[type(causal_model(model)).__module__], "slice_logits_to_keep")


def configurations(model: torch.nn.Module) -> list[PreTrainedConfig]:
    """Return the configurations of a model and of its modules, and the ones inside these, each once."""
    found: dict[int, PreTrainedConfig] = {}
    waiting = [getattr(module, "config", None) for module in model.modules()]
    while waiting:
        config = waiting.pop(0)
        if isinstance(config, PreTrainedConfig) and id(config) not in found:
            found[id(config)] = config
            waiting += config.__dict__.values()
    return list(found.values())


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without gradients and autocast; restore the mode of every module at the end.

    Embedding noise is added in training mode only, so it is off as well. The configuration has EVALUATION_SETTINGS,
    whatever a trainer or the checkpoint has set.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # not inference_mode: tensors that a model caches in it (such as rotary tables) would fail in training
        with torch.no_grad(), _full_precision(model), _evaluation_settings(model):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _evaluation_settings(model: torch.nn.Module) -> Iterator[None]:
    """Set EVALUATION_SETTINGS in every configuration that has these fields; restore the fields at the end."""
    previous = [(config, _evaluation_fields(config)) for config in configurations(model)]
    for config, fields in previous:
        config.__dict__.update({name: EVALUATION_SETTINGS[name] for name in fields})
    try:
        yield
    finally:
        for config, fields in previous:
            config.__dict__.update(fields)


def _evaluation_fields(config: PreTrainedConfig) -> dict[str, bool]:
    return {name: config.__dict__[name] for name in EVALUATION_SETTINGS if name in config.__dict__}


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
