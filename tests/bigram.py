"""A language model without transformers, for tests that compile it or train it in several processes."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class BigramOutput(NamedTuple):
    """Output in the form of a transformers model."""

    loss: Tensor


class Bigram(nn.Module):
    """Predicts each token from the previous one. Compiles much faster than a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 20)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding, as transformers models do."""
        return self.embedding

    def forward(
        self,
        input_ids: Tensor,  # (batch, length)
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> BigramOutput:
        """Return the mean cross-entropy of the labels, or of the input ids without labels."""
        logits = self.head(self.embedding(input_ids).tanh())
        targets = input_ids if labels is None else labels
        return BigramOutput(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten()))


def bigram() -> Bigram:
    """Return a model with reproducible weights in training mode."""
    torch.manual_seed(0)
    return Bigram().train()
