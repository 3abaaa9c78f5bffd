"""Where in a model the noise goes: its input embedding, and what embeddings meet between it and the first layer."""

import inspect
import math
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from neftune_cli.errors import Problem, UsageError


@dataclass(frozen=True)
class Placement:
    """What there is to know of a model before noise is put on it."""

    embedding: nn.Module
    """Looks up `input_ids`."""
    multiplier: float
    """What embeddings are multiplied by between that module and the first layer."""
    placeholders: tuple[int, ...]
    """Ids of tokens whose embeddings give way to those of an image, a video or a sound."""
    argument_names: tuple[str, ...]
    """Of the positional arguments of the model's call."""

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Find the placement.

        Raises:
            UsageError: the model has no input embeddings.

        """
        embedding = input_embedding(model)
        multiplier = embedding_multiplier(model, embedding)
        return cls(embedding, multiplier, _placeholder_ids(model), _positional_names(model))


def input_embedding(model: nn.Module) -> nn.Module:
    """Return the module that looks up `input_ids`; the encoder's own, in an encoder-decoder model.

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
    # T5 and BART name a shared embedding that their forward never calls: the encoder has its own, tied to it.
    return model.get_encoder() if encodes(model) else model


def encodes(model: Any) -> bool:
    """Return whether the ids that get noise are an encoder's, which labels say nothing of."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def embedding_multiplier(model: nn.Module, embedding: nn.Module) -> float:
    """Return what the model multiplies embeddings by after the module has returned them; 1 in most models.

    Granite and Falcon-H1 do so, Pegasus and Marian too; Gemma and BART multiply inside the module, where it is no
    matter. The first layer shall receive noise of the paper's size, so noise at the module is divided by this.
    """
    if hasattr(embedding, "embed_scale"):
        return 1.0
    for module in model.modules():
        if any(child is embedding for child in module.children()):
            return _multiplier_of(module, embedding)
    return 1.0


def _multiplier_of(owner: nn.Module, embedding: Any) -> float:
    by_width = getattr(owner, "rescale_embeddings", False) or type(owner).__name__ in _MULTIPLY_BY_ROOT_OF_WIDTH
    if by_width:
        return math.sqrt(embedding.weight.shape[-1])
    found = (getattr(owner, name, None) for name in _MULTIPLIERS)
    return next((float(value) for value in found if isinstance(value, int | float | Tensor) and value), 1.0)


_MULTIPLY_BY_ROOT_OF_WIDTH = ("CTRLModel", "T5GemmaEncoder")
"""They work it out in their forward; BigBird, if its configuration says so, too."""
_MULTIPLIERS = ("embedding_multiplier", "embedding_scale", "embed_scale", "normalizer")
"""Names under which models keep it; the last is RecurrentGemma's, a buffer."""


def _placeholder_ids(model: nn.Module) -> tuple[int, ...]:
    config = getattr(model, "config", None)
    names = (f"{kind}_token_{key}" for kind in ("image", "video", "audio") for key in ("id", "index"))
    return tuple(sorted({value for name in names if isinstance(value := getattr(config, name, None), int)}))


def _positional_names(model: nn.Module) -> tuple[str, ...]:
    # The class's forward and not the instance's: trainers put wrappers of type (*args, **kwargs) over the latter.
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    passes_on = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if passes_on and (inner := _wrapped_model(model)) is not None:
        return _positional_names(inner)
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD)


def _wrapped_model(model: Any) -> nn.Module | None:
    """Return the model inside PEFT's wrapper or a parallel one."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "module", None)
    return inner if isinstance(inner, nn.Module) else None
