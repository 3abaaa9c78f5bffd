"""The input embedding of a model, where noise is added, and the vectors that the first layer receives."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from neftune_cli.errors import Problem, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Placement:
    """The properties of a model that attaching noise depends on."""

    embedding: nn.Module
    """The module that looks up `input_ids`."""
    multiplier: float
    """Factor on the embeddings between that module and the first layer."""
    placeholders: tuple[int, ...]
    """Token ids whose embeddings are replaced by those of an image, a video or audio."""
    argument_names: tuple[str, ...]
    """Names of the positional arguments of the model's forward."""

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Return the placement for a model.

        Raises:
            UsageError: the model has no input embeddings.
        """
        embedding = input_embedding(model)
        multiplier = embedding_multiplier(model, embedding)
        return cls(embedding, multiplier, _placeholder_ids(model), _positional_names(model))


def input_embedding(model: nn.Module) -> nn.Module:
    """Return the module that looks up `input_ids`; in an encoder-decoder model, the encoder's.

    Raises:
        UsageError: the model has none.
    """
    try:
        embedding = _owner_of_input_embedding(model).get_input_embeddings()
    except (AttributeError, NotImplementedError):
        embedding = None
    if not isinstance(embedding, nn.Module):
        raise UsageError(
            Problem(
                f"{type(model).__name__} has no input embeddings to add noise to.",
                "Use a Hugging Face language model, or one whose get_input_embeddings() returns its embedding.",
            )
        )
    return embedding


def _owner_of_input_embedding(model: Any) -> Any:
    # In T5 and BART, get_input_embeddings() returns a shared embedding that forward never calls. The encoder has a
    # separate module with the same weight.
    return model.get_encoder() if is_encoder_decoder(model) else model


def is_encoder_decoder(model: Any) -> bool:
    """Return whether the noisy ids are an encoder's, so that labels do not refer to them."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def embedding_multiplier(model: nn.Module, embedding: nn.Module) -> float:
    """Return the factor by which the model multiplies the output of the embedding module; 1 in most models.

    Granite, Falcon-H1, AFMoE, Pegasus and Marian multiply after the module. Gemma and BART multiply inside the module,
    which does not affect the noise. Noise is divided by this factor, so that the first layer receives the paper's
    noise.
    """
    if hasattr(embedding, "embed_scale"):
        return 1.0
    for module in model.modules():
        if any(child is embedding for child in module.children()):
            return _multiplier_of(module, embedding)
    return 1.0


def _multiplier_of(owner: nn.Module, embedding: Any) -> float:
    if _multiplies_by_root_of_width(owner):
        return math.sqrt(embedding.weight.shape[-1])
    found = (getattr(owner, name, None) for name in _MULTIPLIERS)
    return next((float(value) for value in found if isinstance(value, int | float | Tensor) and value), 1.0)


def _multiplies_by_root_of_width(owner: nn.Module) -> bool:
    """Return whether the factor is computed in forward: always (CTRL, T5Gemma), or by a setting (BigBird, AFMoE)."""
    config = getattr(owner, "config", None)
    by_setting = getattr(owner, "rescale_embeddings", False) or getattr(config, "mup_enabled", False)
    return bool(by_setting) or type(owner).__name__ in ("CTRLModel", "T5GemmaEncoder")


_MULTIPLIERS = ("embedding_multiplier", "embedding_scale", "embed_scale", "normalizer")
"""Attributes that hold the factor. The last one is a buffer of RecurrentGemma."""


def _placeholder_ids(model: nn.Module) -> tuple[int, ...]:
    config = getattr(model, "config", None)
    names = (f"{kind}_token_{key}" for kind in ("image", "video", "audio") for key in ("id", "index"))
    return tuple(sorted({value for name in names if isinstance(value := getattr(config, name, None), int)}))


def _positional_names(model: nn.Module) -> tuple[str, ...]:
    # The forward of the class: trainers replace that of the instance with wrappers that take (*args, **kwargs).
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    accepts_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if accepts_any and (inner := _wrapped_model(model)) is not None:
        return _positional_names(inner)
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD)


def _wrapped_model(model: Any) -> nn.Module | None:
    """Return the model inside PEFT's wrapper or a parallel wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "module", None)
    return inner if isinstance(inner, nn.Module) else None


def embedding_weight(model: "PreTrainedModel") -> Tensor:
    """Return the weight of the embedding table: (vocabulary, dim)."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def first_layer_embeddings(model: "PreTrainedModel", ids: Tensor) -> Tensor:
    """Return the embeddings of token ids as the first layer receives them, without position embeddings.

    Some models scale embeddings inside the embedding module (Gemma), others after it (Granite, Falcon-H1). Both kinds
    of scaling are applied.

    Returns:
        (*ids.shape, dim), float32, on the model's device, without gradient.
    """
    placement = Placement.of(model)
    with torch.no_grad():
        embeddings: Tensor = placement.embedding(ids.to(model.device)).float() * placement.multiplier
    return embeddings


@contextmanager
def replaced_embeddings(
    model: "PreTrainedModel",
    embeddings: Tensor,  # (rows, length, dim), as the first layer should receive them
) -> Iterator[None]:
    """Let the first layer receive `embeddings` in forwards with `input_ids` of (rows, length).

    The model still gets the ids: with `inputs_embeds` alone, Gemma 3n and Gemma 4 would not look up the embeddings
    that they add in each layer.

    Raises:
        UsageError: at the end of the block, no forward has looked up ids of this shape in the input embedding.
    """
    placement = Placement.of(model)
    output, replaced = embeddings / placement.multiplier, False

    def replace(_: nn.Module, __: tuple[Any, ...], original: Tensor) -> Tensor:
        nonlocal replaced
        fits = original.shape == output.shape
        replaced = replaced or fits
        return output if fits else original

    hook = placement.embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
    if not replaced:
        raise UsageError(
            Problem(
                f"{type(model).__name__} does not look up the rows of its input_ids in its input embedding.",
                "Use a model of another architecture, such as Llama, Qwen or GPT-2.",
            )
        )
