"""What the paper's alphas amount to on another model: the same noise relative to the embeddings.

The same alpha is a different noise on another model: its norm, alpha / sqrt(3 L) at L tokens, doesn't know how long
the embeddings are. What is compared is that norm, at the median length, over the mean norm of the vocabulary's
embeddings: the only norm that is published for LLaMA-2-7B. Running text has other norms: there, frequent tokens have
shorter embeddings (the same report puts the one of " the" at 0.466), so its noise was larger to them than this says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

from neftune_cli.geometry.sensitivity.predictions import (
    Neighbourhood,
    mean_vocabulary_norm,
    neighbourhood,
    next_token_divergence,
)
from neftune_cli.geometry.sensitivity.tokens import (
    Distortion,
    MeasuredTokens,
    closed_form_distortion,
    measured_distortion,
    measured_tokens,
)
from neftune_cli.noise.lengths import token_noise_norm

if TYPE_CHECKING:
    from transformers import PreTrainedModel


PAPER_ALPHAS = (5.0, 10.0, 15.0)
"""Those that the paper tries."""


@dataclass(frozen=True)
class EmbeddingScale:
    """What noise is compared with: the embedding's width isn't among it, as the noise norm doesn't depend on it."""

    embedding_norm: float
    """Mean L2 norm over the vocabulary."""
    length: float
    """Tokens in the median training example."""

    def noise_ratio(self, alpha: float) -> float:
        """Return noise norm over embedding norm at the median length."""
        return token_noise_norm(alpha, self.length) / self.embedding_norm

    def alpha_for(self, ratio: float) -> float:
        """Return the alpha whose noise has that ratio to the embeddings."""
        return ratio * self.embedding_norm / token_noise_norm(1.0, self.length)


LLAMA_2_7B = EmbeddingScale(embedding_norm=1.080, length=136)
"""The paper's model on Alpaca. An estimate, made of two published figures.

The norm: 1.080 +/- 0.109 over the 32,000 input embeddings of meta-llama/Llama-2-7b-hf
(github.com/cohere-ai/magikarp, results/reports/meta_llama_Llama_2_7b_hf.md).

The length: the median of a published histogram (github.com/tloen/alpaca-lora, lengths.ipynb), interpolated within its
bins. Of the 52,002 examples of Alpaca in the tokenizer of LLaMA, which LLaMA-2 kept, 42,516 have 60 to 184 tokens. All
are counted with the prompt for examples that have an input; the paper takes a shorter one for those that have none.
"""

SOURCES = (
    "LLaMA-2-7B, an estimate from published figures: mean input embedding norm 1.080 (cohere-ai/magikarp, "
    "results/reports/meta_llama_Llama_2_7b_hf.md); median Alpaca example 136 tokens, interpolated in a histogram of "
    "its lengths (tloen/alpaca-lora, lengths.ipynb)."
)
"""The same in one sentence for the user."""


def equivalent_alphas(scale: EmbeddingScale) -> dict[float, float]:
    """Return, for each of the paper's alphas, the alpha that is the same noise relative to these embeddings."""
    return {alpha: scale.alpha_for(LLAMA_2_7B.noise_ratio(alpha)) for alpha in PAPER_ALPHAS}


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
    noise: str
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
    noise: str = "uniform",
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
