"""What a model's input embedding looks like in numbers, which noise is to be compared with."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def input_embeddings(model: PreTrainedModel) -> Tensor:
    """Return the weight that token ids look up: (vocabulary, dim)."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


def embedding_norms(model: PreTrainedModel) -> Tensor:
    """Return the L2 norm of every token's input embedding: (vocabulary,), float32, without gradient."""
    norms: Tensor = torch.linalg.vector_norm(input_embeddings(model).detach().float(), dim=1)
    return norms
