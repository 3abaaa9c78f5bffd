"""What a model's input embedding looks like in numbers, which noise is to be compared with."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neftune_cli.noise.placement import Placement


def input_embeddings(model: PreTrainedModel) -> Tensor:
    """Return the weight that token ids look up: (vocabulary, dim)."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def embedding_norms(model: PreTrainedModel) -> Tensor:
    """Return the L2 norm of every token's input embedding: (vocabulary,), float32, without gradient."""
    norms: Tensor = torch.linalg.vector_norm(input_embeddings(model).detach().float(), dim=1)
    return norms


def first_layer_embeddings(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Return the embeddings of token ids on the model's device: (*ids.shape, dim), float32, without gradient.

    Some models multiply inside the embedding (Gemma), some after it (Granite, Falcon-H1); both are done. Positions
    that a model adds to its embeddings are not.
    """
    placement = Placement.of(model)
    with torch.no_grad():
        embeddings: Tensor = placement.embedding(ids.to(model.device)).float() * placement.multiplier
    return embeddings


def as_inputs_embeds(
    model: PreTrainedModel,
    embeddings: Tensor,  # (rows, length, dim), as the first layer shall get them
) -> Tensor:
    """Return what to call the model with as `inputs_embeds`, which it multiplies itself: (rows, length, dim)."""
    return embeddings / Placement.of(model).multiplier
