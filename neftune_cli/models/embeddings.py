"""Input embeddings of a model: the weight, its norms, and the vectors that the first layer receives."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neftune_cli.noise.placement import Placement


def input_embeddings(model: PreTrainedModel) -> Tensor:
    """Return the weight of the embedding table: (vocabulary, dim)."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def embedding_norms(model: PreTrainedModel) -> Tensor:
    """Return the L2 norm of the input embedding of every token: (vocabulary,), float32, without gradient."""
    norms: Tensor = torch.linalg.vector_norm(input_embeddings(model).detach().float(), dim=1)
    return norms


def first_layer_embeddings(model: PreTrainedModel, ids: Tensor) -> Tensor:
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


def as_inputs_embeds(
    model: PreTrainedModel,
    embeddings: Tensor,  # (rows, length, dim), as the first layer should receive them
) -> Tensor:
    """Return the `inputs_embeds` for which the first layer receives `embeddings`: (rows, length, dim)."""
    return embeddings / Placement.of(model).multiplier
