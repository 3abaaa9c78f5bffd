"""Effects of noise at one alpha: distortion of token embeddings, and divergence of the next-token distribution.

One draw of noise is fixed for all tokens, and every alpha scales it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from neftune_cli.evaluation.losses import LOGITS_AT_ONCE
from neftune_cli.models.language_model import evaluation_mode
from neftune_cli.noise.draws import unit_noise
from neftune_cli.noise.lengths import token_half_widths
from neftune_cli.noise.placement import embedding_weight, first_layer_embeddings, replaced_embeddings

NEIGHBOUR_TOKENS = 2048
"""Sample size, drawn without replacement: a share has a standard error of at most 1.1 percentage points."""
ROWS_AT_ONCE = 8192
"""Vocabulary rows per step: 64 MiB of float32 distances to all sampled tokens."""
CLOSE = 1e-3
"""Squared distances below this share of the squared norms are recomputed from the difference of the embeddings."""
PAIRS_AT_ONCE = 8192
"""Such close pairs per step: if many embeddings are equal, all pairs do not fit into memory."""


@dataclass(frozen=True)
class MeasuredTokens:
    """All tokens of some examples, one example after another."""

    lengths: tuple[int, ...]
    """Tokens of each example."""
    ids: Tensor
    """Token ids: (tokens,)."""
    embeddings: Tensor
    """Input of the model's first layer without noise: (tokens, dim), float32."""
    noise: Tensor
    """Noise of alpha 1: (tokens, dim), float32. The noise of another alpha is alpha times this."""

    @property
    def example_lengths(self) -> Tensor:
        """Return the length of each token's example: (tokens,), float32."""
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
    """Look up the examples' tokens, and draw their noise.

    The noise is drawn on the CPU, so that it is the same for every device of the model.

    Args:
        model: looks the tokens up and scales them as in training.
        examples: token ids of each example, without padding; none is empty.
        noise: name of the distribution.
        seed: determines the draw, which is the same for every alpha, so that curves over alpha are smooth.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.tensor(example, device=model.device) for example in examples]
    embeddings = torch.cat([first_layer_embeddings(model, one) for one in ids])
    dim = embeddings.shape[1]
    draws = [_noise_at_alpha_1(len(example), dim, noise, generator) for example in examples]
    return MeasuredTokens(
        lengths=tuple(len(example) for example in examples),
        ids=torch.cat(ids),
        embeddings=embeddings,
        noise=torch.cat(draws).to(embeddings.device),
    )


def _noise_at_alpha_1(length: int, dim: int, noise: str, generator: torch.Generator) -> Tensor:
    """Return the noise of one example: (length, dim)."""
    half_widths = token_half_widths(1.0, dim, shape=(1, length))
    return half_widths.T * unit_noise(noise, (length, dim), generator)


@dataclass(frozen=True)
class Distortion:
    """Summary over all tokens of the difference between embeddings e and noisy embeddings e + n."""

    l2_change: float
    """Root mean square of |n|, in the units of the embeddings."""
    cosine: float
    """Mean cosine similarity of e and e + n."""
    signal_to_noise: float
    """Median of |e| / |n|; infinite without noise."""


def measured_distortion(tokens: MeasuredTokens, alpha: float) -> Distortion:
    """Compare noisy and clean embeddings token by token.

    Change and cosine similarity are computed from the float32 sum that the model receives. Alpha 0 is no noise.
    """
    noisy = tokens.embeddings + alpha * tokens.noise
    change = torch.linalg.vector_norm(noisy - tokens.embeddings, dim=1)
    cosine = torch.nn.functional.cosine_similarity(_exact(tokens.embeddings), _exact(noisy), dim=1)
    return _over_tokens(_exact(change), cosine, _exact(tokens.embedding_norms))


def closed_form_distortion(tokens: MeasuredTokens, alpha: float) -> Distortion:
    """Return the distortion by the formulas for the same tokens, without the draw.

    For a token of an example of L tokens, the root mean square of the noise norm is alpha / sqrt(3 L), because every
    coordinate has the variance alpha^2 / (3 L dim). Noise of norm r times that of the embedding is almost orthogonal to
    it, so the cosine similarity is 1 / sqrt(1 + r^2). For one token, the relative error of the norm is about
    1 / sqrt(dim) and the error of the cosine at most about r / sqrt(dim). Both average out over many tokens.

    Source: section 2 of arXiv 2310.05914 for the half-width from which the norm follows.
    """
    change = _exact(alpha / torch.sqrt(3 * tokens.example_lengths))
    norms = _exact(tokens.embedding_norms)
    return _over_tokens(change, 1 / torch.sqrt(1 + (change / norms) ** 2), norms)


def _over_tokens(change: Tensor, cosine: Tensor, norms: Tensor) -> Distortion:
    """Return the same averages for measurements and formulas; arguments are (tokens,), float64."""
    without_noise = not change.any()
    return Distortion(
        l2_change=float(change.square().mean().sqrt()),
        cosine=1.0 if without_noise else float(cosine.mean()),
        signal_to_noise=math.inf if without_noise else float((norms / change).median()),
    )


def _exact(values: Tensor) -> Tensor:
    """Return the values in float64 on the CPU: Apple's GPUs have no float64."""
    return values.cpu().double()


@dataclass(frozen=True)
class NearestTokens:
    """The nearest vocabulary embeddings of a sample of tokens; embeddings equal to a token's own are excluded."""

    distances: Tensor
    """L2 distance of each embedding to the nearest other one: (sampled tokens,)."""
    turning_alphas: Tensor
    """Alpha above which the noisy embedding is nearer to another token than to its own: (sampled tokens,)."""

    def share_changed(self, alpha: float) -> float:
        """Return the share of the tokens, 0 to 1, whose noisy embedding is nearest to that of another token."""
        return float(_exact(self.turning_alphas < alpha).mean())


def nearest_tokens(model: PreTrainedModel, tokens: MeasuredTokens, *, seed: int = 0) -> NearestTokens:
    """Compare a sample of tokens with the whole vocabulary, in one pass for all alphas.

    Noise alpha * n moves the embedding e nearer to v than to e if |e + alpha n - v| < |alpha n|, that is, if
    alpha > |v - e|^2 / (2 n (v - e)). The smallest such value over all v is the token's turning alpha.
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
    return NearestTokens(distances=squared.sqrt(), turning_alphas=turning)


def mean_vocabulary_norm(model: PreTrainedModel) -> float:
    """Return the mean L2 norm over the vocabulary of the embeddings that the first layer receives."""
    norms = torch.cat([torch.linalg.vector_norm(rows, dim=1) for rows in _vocabulary(model)])
    return float(_exact(norms).mean())


def _sample(tokens: int, seed: int) -> Tensor:
    """Return token positions in increasing order: (sampled tokens,)."""
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))
    return order[:NEIGHBOUR_TOKENS].sort().values


def _vocabulary(model: PreTrainedModel) -> Iterator[Tensor]:
    """Yield the embeddings of all tokens in pieces of (rows, dim), to limit memory."""
    for piece in torch.arange(len(embedding_weight(model))).split(ROWS_AT_ONCE):
        yield first_layer_embeddings(model, piece)


def _squared_distances(embeddings: Tensor, rows: Tensor) -> Tensor:
    """Return the squared distance of each embedding to each row, infinite to equal ones: (sampled tokens, rows)."""
    norms = embeddings.square().sum(dim=1, keepdim=True) + rows.square().sum(dim=1)
    squared = norms - 2 * embeddings @ rows.T
    # Rounding of the products gives close embeddings a wrong distance and equal ones a distance above zero.
    for near, row in _pairs(squared <= CLOSE * norms):
        exact = (embeddings[near] - rows[row]).square().sum(dim=1)
        squared[near, row] = torch.where(exact == 0, torch.inf, exact)
    return squared


def _pairs(selected: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the indices of the selected pairs, `PAIRS_AT_ONCE` at a time, as two tensors of (pairs,)."""
    positions, rows = torch.nonzero(selected, as_tuple=True)
    yield from zip(positions.split(PAIRS_AT_ONCE), rows.split(PAIRS_AT_ONCE), strict=True)


DIVERGENCE_TOKENS = 2048
"""The divergence is measured on examples until they have this many tokens in total."""


@dataclass(frozen=True)
class Divergence:
    """The divergence under each alpha and its sample size."""

    nats: tuple[float, ...]
    """Divergence D(noise-off || noisy), mean over positions, for each alpha."""
    examples: int
    """Number of examples, the first ones."""
    tokens: int
    """Number of their positions, in prompts and completions."""


def next_token_divergence(model: PreTrainedModel, tokens: MeasuredTokens, alphas: Sequence[float]) -> Divergence:
    """Run the model on clean and noisy embeddings, without dropout, and compare the distributions at every position.

    Examples are run one at a time without padding. The log-softmax is float32. Alpha 0 is the clean run.
    """
    noisy = torch.tensor([alpha for alpha in alphas if alpha], device=tokens.embeddings.device)
    sums = torch.zeros(len(noisy), dtype=torch.float64)
    lengths = []
    with evaluation_mode(model):
        for ids, embeddings, noise in _first_examples(tokens):
            if len(noisy):
                sums += _summed_divergences(model, ids, embeddings, noise, noisy)
            lengths.append(len(ids))
    means = iter((sums / sum(lengths)).tolist())
    return Divergence(tuple(next(means) if alpha else 0.0 for alpha in alphas), len(lengths), sum(lengths))


def _first_examples(tokens: MeasuredTokens) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ids (length,), and embeddings and noise, both (length, dim), of the first examples."""
    done = 0
    parts = (values.split(tokens.lengths) for values in (tokens.ids, tokens.embeddings, tokens.noise))
    for ids, embeddings, noise in zip(*parts, strict=True):
        if done >= DIVERGENCE_TOKENS:
            return
        yield ids, embeddings, noise
        done += len(ids)


def _summed_divergences(
    model: PreTrainedModel, ids: Tensor, embeddings: Tensor, noise: Tensor, alphas: Tensor
) -> Tensor:
    """Return the divergences of one example, summed over its positions: (alphas,), in nats, on the CPU."""
    clean = _log_probabilities(model, ids, embeddings[None])
    rows = max(1, LOGITS_AT_ONCE // clean.numel())
    return torch.cat(
        [
            _summed_divergence(clean, _log_probabilities(model, ids, embeddings + some[:, None, None] * noise))
            for some in alphas.split(rows)
        ]
    )


def _log_probabilities(model: PreTrainedModel, ids: Tensor, embeddings: Tensor) -> Tensor:
    """Return the log-probability of each next token: (rows, length, vocabulary).

    Args:
        model: the model.
        ids: token ids, the same in each row: (length,).
        embeddings: what the first layer receives: (rows, length, dim).
    """
    rows = ids.repeat(len(embeddings), 1)
    with replaced_embeddings(model, embeddings):
        logits: Tensor = model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False).logits
    return logits.float().log_softmax(dim=-1)


def _summed_divergence(clean: Tensor, noisy: Tensor) -> Tensor:
    """Return the sum over positions for each row: (rows,), float64 on the CPU (Apple's GPUs have no float64)."""
    by_position = kl_div(noisy, clean.expand_as(noisy), log_target=True, reduction="none").sum(dim=-1)
    return by_position.cpu().double().sum(dim=1)
