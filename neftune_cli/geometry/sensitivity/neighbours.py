"""Which other token's embedding is nearest, and at which alpha the noise carries a token over to another one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neftune_cli.geometry.sensitivity.measured_tokens import MeasuredTokens
from neftune_cli.models.embeddings import input_embeddings
from neftune_cli.models.first_layer import first_layer_embeddings

POSITIONS = 2048
"""Tokens looked at, drawn without replacement: their share has a standard error of 1.1 percentage points at most."""
ROWS_AT_ONCE = 8192
"""Of the vocabulary: 64 MiB of distances in float32 to all positions."""
CLOSE = 1e-3
"""Squared distances below this share of the squared norms are computed anew from the difference of the two."""
PAIRS_AT_ONCE = 8192
"""Of such near embeddings: where many are equal, all pairs of them wouldn't fit into memory."""


@dataclass(frozen=True)
class Neighbourhood:
    """What surrounds some tokens in the vocabulary; embeddings equal to a token's own don't count as others."""

    distances: Tensor
    """L2 distance of each embedding to the nearest other one: (positions,)."""
    turning_alphas: Tensor
    """From which alpha on the noisy embedding is nearer to another token than to its own: (positions,)."""

    def share_changed(self, alpha: float) -> float:
        """Return how many of the tokens, 0 to 1, have another token's embedding nearest to theirs under that noise."""
        return float((self.turning_alphas < alpha).cpu().double().mean())  # Apple's GPUs have no float64


def neighbourhood(model: PreTrainedModel, tokens: MeasuredTokens, *, seed: int = 0) -> Neighbourhood:
    """Compare a sample of tokens with the whole vocabulary, in one pass for all alphas.

    Noise alpha * n carries the embedding e nearer to v than to e where |e + alpha n - v| < |alpha n|, that is where
    alpha > |v - e|^2 / (2 n (v - e)); the least of these over all v is where the token turns into another.
    """
    sample = _sample(len(tokens.embeddings), seed).to(tokens.embeddings.device)
    embeddings, noise = tokens.embeddings[sample], tokens.noise[sample]
    squared = torch.full((len(sample),), torch.inf, device=sample.device)
    turning = squared.clone()
    for rows in _vocabulary(model):
        to_rows = _squared_distances(embeddings, rows)
        towards = 2 * (noise @ rows.T - (noise * embeddings).sum(dim=1, keepdim=True))
        crossed = torch.where(towards > 0, to_rows / towards, torch.inf)
        squared = torch.minimum(squared, to_rows.amin(dim=1))
        turning = torch.minimum(turning, crossed.amin(dim=1))
    return Neighbourhood(distances=squared.sqrt(), turning_alphas=turning)


def mean_vocabulary_norm(model: PreTrainedModel) -> float:
    """Return the mean L2 norm of the input embeddings of the whole vocabulary, as the first layer gets them."""
    norms = torch.cat([torch.linalg.vector_norm(rows, dim=1) for rows in _vocabulary(model)])
    return float(norms.cpu().double().mean())


def _sample(tokens: int, seed: int) -> Tensor:
    """Return positions in rising order: (positions,)."""
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))
    return order[:POSITIONS].sort().values


def _vocabulary(model: PreTrainedModel) -> Iterator[Tensor]:
    """Yield the embeddings of all tokens, in pieces of (rows, dim): a large vocabulary is never there in full."""
    for piece in torch.arange(len(input_embeddings(model))).split(ROWS_AT_ONCE):
        yield first_layer_embeddings(model, piece)


def _squared_distances(embeddings: Tensor, rows: Tensor) -> Tensor:
    """Return the squared distance of each embedding to each row, infinite to equal ones: (positions, rows)."""
    norms = embeddings.square().sum(dim=1, keepdim=True) + rows.square().sum(dim=1)
    squared = norms - 2 * embeddings @ rows.T
    # rounding of the products would put near embeddings at a wrong distance and equal ones at one above zero
    for near, row in _pairs(squared <= CLOSE * norms):
        exact = (embeddings[near] - rows[row]).square().sum(dim=1)
        squared[near, row] = torch.where(exact == 0, torch.inf, exact)
    return squared


def _pairs(chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the places of what is chosen of (positions, rows), `PAIRS_AT_ONCE`: each two of (pairs,)."""
    positions, rows = torch.nonzero(chosen, as_tuple=True)
    yield from zip(positions.split(PAIRS_AT_ONCE), rows.split(PAIRS_AT_ONCE), strict=True)
