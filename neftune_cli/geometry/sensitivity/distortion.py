"""What noise does to embeddings, on a draw and by closed form: L2 change, cosine similarity, signal to noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neftune_cli.geometry.sensitivity.measured_tokens import MeasuredTokens


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
