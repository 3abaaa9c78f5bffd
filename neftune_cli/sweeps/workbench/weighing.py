"""How big a loaded model and its examples are: the figures from which a worker's need of memory is guessed."""

from collections.abc import Iterable, Sequence
from typing import cast

from torch import nn

from neftune_cli.models.loading import LoadedModel
from neftune_cli.sweeps.inspection import Preparation
from neftune_cli.training.material import Material


def preparation(loaded: LoadedModel, materials: Sequence[Material], lora_ranks: Iterable[int | None]) -> Preparation:
    """Return what was learnt of a model and of the data as it reads them."""
    model, config = cast(nn.Module, loaded.model), loaded.model.config.get_text_config()
    weights = list(model.parameters())  # tied ones once
    embeddings = cast(nn.Embedding, loaded.model.get_input_embeddings()).weight
    return Preparation(
        notes=tuple(dict.fromkeys(note for material in materials for note in material.notes)),
        trainable=max(_trainable(loaded, rank) for rank in lora_ranks),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        vocabulary=embeddings.shape[0],
        width=embeddings.shape[1],
        layers=int(getattr(config, "num_hidden_layers", 1)),
        longest=max(_longest(material) for material in materials),
    )


def _longest(material: Material) -> int:
    return max(len(one.input_ids) for part in (material.train, material.held_out, material.probe) for one in part)


def _trainable(loaded: LoadedModel, lora_rank: int | None) -> int:
    """Return how many parameters are trained: all, or two matrices of the adapter's rank beside each linear layer."""
    model = cast(nn.Module, loaded.model)
    if lora_rank is None:
        return sum(weight.numel() for weight in model.parameters())
    head = loaded.model.get_output_embeddings()
    linear = (module for module in model.modules() if _is_linear(module) and module is not head)
    return lora_rank * sum(sum(cast(nn.Linear, module).weight.shape) for module in linear)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's linear layer
