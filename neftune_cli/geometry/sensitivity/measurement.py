"""Sensitivity of one model on one data set: what the noise of every alpha does to embeddings and to predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

from neftune_cli.geometry.sensitivity.distortion import Distortion, closed_form_distortion, measured_distortion
from neftune_cli.geometry.sensitivity.equivalence import EmbeddingScale
from neftune_cli.geometry.sensitivity.measured_tokens import MeasuredTokens, measured_tokens
from neftune_cli.geometry.sensitivity.neighbours import Neighbourhood, mean_vocabulary_norm, neighbourhood
from neftune_cli.geometry.sensitivity.next_token import next_token_divergence
from neftune_cli.noise.draws import Noise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LINE_POINTS = 61
"""Alphas at which lines are computed, from 0 to the largest one asked for."""


@dataclass(frozen=True)
class AlphaSensitivity:
    """What the noise of one alpha does."""

    alpha: float
    measured: Distortion
    closed_form: Distortion
    norm_ratio: float
    """L2 change over the median embedding norm of the tokens."""
    neighbour_ratio: float
    """L2 change over the median distance of a token's embedding to the nearest other one."""
    changed: float
    """Share of tokens, 0 to 1, whose nearest vocabulary embedding is no longer their own."""
    divergence: float
    """Kullback-Leibler divergence of the noisy next-token distribution from the clean one, mean nats a token."""


@dataclass(frozen=True)
class Sensitivity:
    """All alphas in rising order, and what they were measured on."""

    model: str
    dataset: str
    noise: Noise
    seed: int
    examples: int
    tokens: int
    scale: EmbeddingScale
    """Mean norm over the vocabulary, median length of the examples."""
    embedding_norm: float
    """Median L2 norm of the tokens' embeddings."""
    neighbour_distance: float
    """Median L2 distance of a token's embedding to the nearest other one of the vocabulary."""
    neighbour_tokens: int
    """Tokens whose neighbours were looked for."""
    turning_alphas: tuple[float, ...]
    """From which alpha on 0, 1, ... 100% of these tokens have another one's embedding nearest; infinite if never."""
    divergence_examples: int
    divergence_tokens: int
    alphas: tuple[AlphaSensitivity, ...]
    closed_forms: tuple[tuple[float, Distortion], ...]
    """What the formulas say at many alphas from 0 to the largest."""

    @property
    def first_turn(self) -> float:
        """Return from which alpha on the first of these tokens has another one's embedding nearest."""
        return self.turning_alphas[0]

    @property
    def half_turn(self) -> float:
        """Return from which alpha on half of them have."""
        return self.turning_alphas[len(self.turning_alphas) // 2]


def measure_sensitivity(
    model: "PreTrainedModel",
    examples: Sequence[Sequence[int]],
    alphas: Sequence[float],
    *,
    names: tuple[str, str],
    noise: Noise = "uniform",
    seed: int = 0,
) -> Sensitivity:
    """Put the noise of every alpha, the same draw scaled, on the examples' embeddings, and measure what changes.

    Args:
        model: any causal language model; left as it was found.
        examples: token ids of each, without padding; none is empty.
        alphas: finite, 0 or more, each once, in any order.
        names: of the model and of the data, for titles.
        noise: distribution of the draw.
        seed: decides the draw and which tokens' neighbours are looked for.
    """
    rising = sorted(alphas)
    tokens = measured_tokens(model, examples, noise=noise, seed=seed)
    around = neighbourhood(model, tokens, seed=seed)
    divergence = next_token_divergence(model, tokens, rising)
    norm, distance = (_median(values) for values in (tokens.embedding_norms, around.distances))
    return Sensitivity(
        model=names[0],
        dataset=names[1],
        noise=noise,
        seed=seed,
        examples=len(examples),
        tokens=len(tokens.embeddings),
        scale=EmbeddingScale(mean_vocabulary_norm(model), median(tokens.lengths)),
        embedding_norm=norm,
        neighbour_distance=distance,
        neighbour_tokens=len(around.distances),
        turning_alphas=_percentiles(around.turning_alphas),
        divergence_examples=divergence.examples,
        divergence_tokens=divergence.tokens,
        alphas=tuple(
            _at_alpha(alpha, tokens, around, (norm, distance), nats)
            for alpha, nats in zip(rising, divergence.nats, strict=True)
        ),
        closed_forms=_closed_forms(tokens, rising[-1]),
    )


def _at_alpha(
    alpha: float, tokens: MeasuredTokens, around: Neighbourhood, norm_and_distance: tuple[float, float], nats: float
) -> AlphaSensitivity:
    measured = measured_distortion(tokens, alpha)
    norm, distance = norm_and_distance
    return AlphaSensitivity(
        alpha=alpha,
        measured=measured,
        closed_form=closed_form_distortion(tokens, alpha),
        norm_ratio=measured.l2_change / norm,
        neighbour_ratio=measured.l2_change / distance,
        changed=around.share_changed(alpha),
        divergence=nats,
    )


def _closed_forms(tokens: MeasuredTokens, largest: float) -> tuple[tuple[float, Distortion], ...]:
    grid = torch.linspace(0, largest, LINE_POINTS).tolist()
    return tuple((alpha, closed_form_distortion(tokens, alpha)) for alpha in grid)


def _percentiles(values: torch.Tensor) -> tuple[float, ...]:
    """Return the smallest value, 99 between that are values themselves (some may be infinite), and the largest."""
    places = torch.linspace(0, len(values) - 1, 101).round().long()
    return tuple(values.sort().values.cpu()[places].tolist())


def _median(values: torch.Tensor) -> float:
    return float(values.cpu().double().median())  # Apple's GPUs have no float64
