"""Kullback-Leibler divergence of the next-token distribution with noise from that without noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from neftune_cli.evaluation.language_model import evaluation_mode
from neftune_cli.geometry.sensitivity.distortion import MeasuredTokens
from neftune_cli.models.embeddings import as_inputs_embeds

TOKENS = 2048
"""Examples are measured until they have this many tokens in total."""
LOGITS_AT_ONCE = 2**25
"""Logits per forward pass of several alphas: 128 MiB in float32, and as much each for log-probabilities and products.
An example is not split, so a long one with a large vocabulary needs more for one alpha."""


@dataclass(frozen=True)
class Divergence:
    """The divergence under each alpha and its sample size."""

    nats: tuple[float, ...]
    """Divergence of the noisy from the clean distribution, mean over positions, for each alpha."""
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
    """Return the sum over positions for each row: (rows,), float64 on the CPU (Apple's GPUs have no float64)."""
    by_position = kl_div(noisy, clean.expand_as(noisy), log_target=True, reduction="none").sum(dim=-1)
    return by_position.cpu().double().sum(dim=1)
