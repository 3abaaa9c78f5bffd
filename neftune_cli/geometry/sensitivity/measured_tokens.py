"""The tokens that sensitivity is measured on: their embeddings, and one fixed draw of noise that every alpha scales."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neftune_cli.models.first_layer import first_layer_embeddings
from neftune_cli.noise.draws import Noise, unit_noise
from neftune_cli.noise.lengths import token_noise_scale


@dataclass(frozen=True)
class MeasuredTokens:
    """All tokens of some examples, one example after another."""

    lengths: tuple[int, ...]
    """Tokens of each example."""
    embeddings: Tensor
    """As the model's first layer gets them, before any noise: (tokens, dim), float32."""
    noise: Tensor
    """What alpha = 1 adds: (tokens, dim), float32. Alpha times that is the noise at alpha."""

    @property
    def example_lengths(self) -> Tensor:
        """Return, for each token, how many tokens its example has: (tokens,), float32."""
        lengths = torch.tensor(self.lengths, device=self.embeddings.device)
        return lengths.float().repeat_interleave(lengths)

    @property
    def embedding_norms(self) -> Tensor:
        """Return the L2 norm of each token's embedding: (tokens,), float32."""
        norms: Tensor = torch.linalg.vector_norm(self.embeddings, dim=1)
        return norms


def measured_tokens(
    model: PreTrainedModel, examples: Sequence[Sequence[int]], *, noise: Noise = "uniform", seed: int = 0
) -> MeasuredTokens:
    """Look the examples' tokens up and draw their noise, on the CPU whatever the model is on.

    Args:
        model: looks the tokens up and scales them as it does in training.
        examples: the token ids of each, without padding; none is empty.
        noise: distribution of the draw.
        seed: decides the draw; the same for every alpha, so that curves over alpha are smooth.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.cat([first_layer_embeddings(model, torch.tensor(example)) for example in examples])
    dim = embeddings.shape[1]
    draws = [_noise_at_alpha_1(len(example), dim, noise, generator) for example in examples]
    return MeasuredTokens(
        lengths=tuple(len(example) for example in examples),
        embeddings=embeddings,
        noise=torch.cat(draws).to(embeddings.device),
    )


def _noise_at_alpha_1(length: int, dim: int, noise: Noise, generator: torch.Generator) -> Tensor:
    """Return the noise of one example: (length, dim)."""
    scale = token_noise_scale(1.0, dim, shape=(1, length))
    return scale.T * unit_noise(noise, (length, dim), generator)
