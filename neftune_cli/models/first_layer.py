"""What a model's first layer gets of token ids, before any noise: their embeddings, scaled as the model scales them."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neftune_cli.noise.placement import Placement


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
