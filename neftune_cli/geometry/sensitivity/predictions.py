"""How far noise moves what the model predicts next: the divergence of the noisy from the clean distribution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from neftune_cli.evaluation.measured_model import measuring
from neftune_cli.geometry.sensitivity.tokens import MeasuredTokens
from neftune_cli.models.embeddings import as_inputs_embeds, first_layer_embeddings, input_embeddings

TOKENS = 2048
"""Enough to predict after: no example is begun once so many are done, and the first is always taken."""
LOGITS_AT_ONCE = 2**25
"""Vocabulary scores of one pass, if more than one alpha goes into it: 128 MiB in float32, and as much for each of their
logarithms and products. An example is never split, so a long one with a large vocabulary takes more under one alpha."""


@dataclass(frozen=True)
class Divergence:
    """The shift of the next-token distribution under each alpha."""

    nats: tuple[float, ...]
    """Kullback-Leibler divergence of the noisy from the clean distribution, mean over positions, for each alpha."""
    examples: int
    """How many examples it was measured on: the first ones."""
    tokens: int
    """How many positions these have, prompts and completions alike."""


def next_token_divergence(model: PreTrainedModel, tokens: MeasuredTokens, alphas: Sequence[float]) -> Divergence:
    """Run the model on clean and noisy embeddings, without dropout, and compare what it predicts at every position.

    Examples are run one by one without padding; the log-softmax is float32. Alpha 0 is the clean run itself.
    """
    noisy = torch.tensor([alpha for alpha in alphas if alpha], device=tokens.embeddings.device)
    sums = torch.zeros(len(noisy), dtype=torch.float64)
    lengths = []
    with measuring(model):
        for embeddings, noise in _first_examples(tokens):
            if len(noisy):
                sums += _summed_divergences(model, embeddings, noise, noisy)
            lengths.append(len(embeddings))
    means = iter((sums / sum(lengths)).tolist())
    return Divergence(tuple(next(means) if alpha else 0.0 for alpha in alphas), len(lengths), sum(lengths))


def _first_examples(tokens: MeasuredTokens) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield embeddings and noise, both (length, dim), of the first examples."""
    done = 0
    pairs = zip(tokens.embeddings.split(tokens.lengths), tokens.noise.split(tokens.lengths), strict=True)
    for embeddings, noise in pairs:
        if done >= TOKENS:
            return
        yield embeddings, noise
        done += len(embeddings)


def _summed_divergences(model: PreTrainedModel, embeddings: Tensor, noise: Tensor, alphas: Tensor) -> Tensor:
    """Return the divergences of one example, summed over its positions: (alphas,), in nats, on the CPU."""
    clean = _log_probabilities(model, embeddings[None])
    rows = max(1, LOGITS_AT_ONCE // clean.numel())
    return torch.cat(
        [
            _summed_divergence(clean, _log_probabilities(model, embeddings + some[:, None, None] * noise))
            for some in alphas.split(rows)
        ]
    )


def _log_probabilities(model: PreTrainedModel, embeddings: Tensor) -> Tensor:
    """Return the log-probability of each next token: (rows, length, vocabulary) of (rows, length, dim)."""
    logits: Tensor = model(inputs_embeds=as_inputs_embeds(model, embeddings), use_cache=False).logits
    return logits.float().log_softmax(dim=-1)


def _summed_divergence(clean: Tensor, noisy: Tensor) -> Tensor:
    """Return the sum over positions for each row: (rows,), float64 and so on the CPU, as Apple's GPUs have none."""
    by_position = kl_div(noisy, clean.expand_as(noisy), log_target=True, reduction="none").sum(dim=-1)
    return by_position.cpu().double().sum(dim=1)


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
