"""The tokens that sensitivity is measured on: their embeddings, and one fixed draw of noise that every alpha scales."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neftune_cli.models.embeddings import first_layer_embeddings
from neftune_cli.noise.draws import unit_noise
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
    model: PreTrainedModel, examples: Sequence[Sequence[int]], *, noise: str = "uniform", seed: int = 0
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


def _noise_at_alpha_1(length: int, dim: int, noise: str, generator: torch.Generator) -> Tensor:
    """Return the noise of one example: (length, dim)."""
    scale = token_noise_scale(1.0, dim, shape=(1, length))
    return scale.T * unit_noise(noise, (length, dim), generator)


@dataclass(frozen=True)
class Distortion:
    """How far embeddings e are from themselves with noise n added, over all tokens alike."""

    l2_change: float
    """Root mean square of |n|, in the units of the embeddings."""
    cosine: float
    """Mean cosine similarity of e and e + n."""
    signal_to_noise: float
    """Median of |e| / |n|; infinite without noise."""


def measured_distortion(tokens: MeasuredTokens, alpha: float) -> Distortion:
    """Compare the noisy embeddings with the clean ones, token by token.

    The cosine similarity and the change are taken of the sum in float32, as the model gets it. Alpha 0 is no noise.
    """
    noisy = tokens.embeddings + alpha * tokens.noise
    change = torch.linalg.vector_norm(noisy - tokens.embeddings, dim=1)
    cosine = torch.nn.functional.cosine_similarity(_exact(tokens.embeddings), _exact(noisy), dim=1)
    return _over_tokens(_exact(change), cosine, _exact(tokens.embedding_norms))


def closed_form_distortion(tokens: MeasuredTokens, alpha: float) -> Distortion:
    """Return what the formulas say for the same tokens, without looking at the draw.

    A token of an example of L tokens gets noise of norm alpha / sqrt(3 L), since every coordinate has the variance
    alpha^2 / (3 L dim). Noise of a ratio r to the embedding's norm stands almost at right angles to it, which leaves a
    cosine similarity of 1 / sqrt(1 + r^2). For one token the norm is off by a share of up to about 1 / sqrt(dim), the
    cosine by about r / sqrt(dim) at most; over many tokens that averages out.

    Source: section 2 of arXiv 2310.05914 for the norm.
    """
    change = _exact(alpha / torch.sqrt(3 * tokens.example_lengths))
    norms = _exact(tokens.embedding_norms)
    return _over_tokens(change, 1 / torch.sqrt(1 + (change / norms) ** 2), norms)


def _over_tokens(change: Tensor, cosine: Tensor, norms: Tensor) -> Distortion:
    """Take the same averages for what was measured and for the formulas; arguments are (tokens,), float64."""
    silent = not change.any()
    return Distortion(
        l2_change=float(change.square().mean().sqrt()),
        cosine=1.0 if silent else float(cosine.mean()),
        signal_to_noise=math.inf if silent else float((norms / change).median()),
    )


def _exact(values: Tensor) -> Tensor:
    """Return the same in float64 on the CPU, since Apple's GPUs have none."""
    return values.cpu().double()
