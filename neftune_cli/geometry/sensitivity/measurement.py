"""The sensitivity of a model to noise, and the alphas equivalent to the paper's.

The norm of the noise, alpha / sqrt(3 L) at L tokens, does not depend on the embeddings, so the same alpha has a
different effect on another model. Equivalent alphas have the same ratio of that norm, at the median length, to the mean
norm of the vocabulary's embeddings: the only norm that is published for LLaMA-2-7B. In running text, frequent tokens
have shorter embeddings (the same report gives 0.466 for " the"), so the ratio there was larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

from neftune_cli.geometry.sensitivity.effects import (
    Distortion,
    MeasuredTokens,
    NearestTokens,
    closed_form_distortion,
    mean_vocabulary_norm,
    measured_distortion,
    measured_tokens,
    nearest_tokens,
    next_token_divergence,
)
from neftune_cli.noise.lengths import token_noise_norm

if TYPE_CHECKING:
    from transformers import PreTrainedModel


PAPER_ALPHAS = (5.0, 10.0, 15.0)
"""The alphas of the paper's experiments."""


@dataclass(frozen=True)
class EmbeddingScale:
    """The quantities that determine the noise ratio of an alpha. The norm of the noise does not depend on the width."""

    mean_vocabulary_norm: float
    """Mean L2 norm of the embeddings of the vocabulary. It differs from the median over the tokens of the data."""
    length: float
    """Tokens in the median training example."""

    def noise_ratio(self, alpha: float) -> float:
        """Return the norm of the noise at the median length, divided by the mean norm of the vocabulary."""
        return token_noise_norm(alpha, self.length) / self.mean_vocabulary_norm

    def alpha_for(self, ratio: float) -> float:
        """Return the alpha with this noise ratio."""
        return ratio * self.mean_vocabulary_norm / token_noise_norm(1.0, self.length)


LLAMA_2_7B = EmbeddingScale(mean_vocabulary_norm=1.080, length=136)
"""The paper's model on Alpaca: an estimate from two published figures.

The norm: 1.080 +/- 0.109 over the 32,000 input embeddings of meta-llama/Llama-2-7b-hf
(github.com/cohere-ai/magikarp, results/reports/meta_llama_Llama_2_7b_hf.md).

The length: the median of a published histogram (github.com/tloen/alpaca-lora, lengths.ipynb), interpolated within its
bins. Of the 52,002 examples of Alpaca in the tokenizer of LLaMA and LLaMA-2, 42,516 have 60 to 184 tokens. All lengths
include the prompt for examples with an input; the paper uses a shorter prompt for examples without one.
"""

SOURCES = (
    "LLaMA-2-7B, an estimate from published figures: mean input embedding norm 1.080 (cohere-ai/magikarp, "
    "results/reports/meta_llama_Llama_2_7b_hf.md); median Alpaca example 136 tokens, interpolated in a histogram of "
    "its lengths (tloen/alpaca-lora, lengths.ipynb)."
)
"""The sources of `LLAMA_2_7B` in one sentence."""


def equivalent_alphas(scale: EmbeddingScale) -> dict[float, float]:
    """Return, for each of the paper's alphas, the alpha with the same noise ratio on these embeddings."""
    return {alpha: scale.alpha_for(LLAMA_2_7B.noise_ratio(alpha)) for alpha in PAPER_ALPHAS}


LINE_POINTS = 61
"""Number of alphas, from 0 to the largest one, at which the closed forms are computed."""


@dataclass(frozen=True)
class AlphaSensitivity:
    """The effect of the noise of one alpha."""

    alpha: float
    measured: Distortion
    closed_form: Distortion
    norm_ratio: float
    """L2 change over the median embedding norm of the tokens."""
    neighbour_ratio: float
    """L2 change over the median distance of a token's embedding to the nearest other one."""
    changed: float
    """Share of tokens, 0 to 1, whose noisy embedding is nearest to that of another token."""
    divergence: float
    """Kullback-Leibler divergence D(noise-off || noisy) of the next-token distributions, mean nats per token."""


@dataclass(frozen=True)
class Sensitivity:
    """The measurements of all alphas, in increasing order, and their sample."""

    model: str
    dataset: str
    noise: str
    seed: int
    examples: int
    tokens: int
    scale: EmbeddingScale
    """Mean norm over the vocabulary and median length of the examples."""
    embedding_norm: float
    """Median L2 norm of the tokens' embeddings."""
    neighbour_distance: float
    """Median L2 distance of a token's embedding to the nearest other one in the vocabulary."""
    neighbour_tokens: int
    """Number of tokens compared with the vocabulary."""
    turning_alphas: tuple[float, ...]
    """Alphas above which 0, 1, ... 100% of these tokens are nearest to another token; infinite if never."""
    divergence_examples: int
    divergence_tokens: int
    alphas: tuple[AlphaSensitivity, ...]
    closed_forms: tuple[tuple[float, Distortion], ...]
    """Closed-form distortion at `LINE_POINTS` alphas from 0 to the largest."""

    @property
    def first_turn(self) -> float:
        """Return the alpha above which the first of these tokens is nearest to another token."""
        return self.turning_alphas[0]

    @property
    def half_turn(self) -> float:
        """Return the alpha above which at least half of these tokens are nearest to another token."""
        return self.turning_alphas[len(self.turning_alphas) // 2]


def measure_sensitivity(
    model: "PreTrainedModel",
    examples: Sequence[Sequence[int]],
    alphas: Sequence[float],
    *,
    names: tuple[str, str],
    noise: str,
    seed: int,
) -> Sensitivity:
    """Add one draw of noise, scaled by every alpha, to the examples' embeddings and measure the effects.

    Args:
        model: any causal language model; not changed.
        examples: token ids of each example, without padding; none is empty.
        alphas: distinct finite numbers, 0 or larger, in any order.
        names: of the model and of the data, for titles.
        noise: name of the distribution.
        seed: determines the draw and the sample of tokens that are compared with the vocabulary.
    """
    increasing = sorted(alphas)
    tokens = measured_tokens(model, examples, noise=noise, seed=seed)
    nearest = nearest_tokens(model, tokens, seed=seed)
    divergence = next_token_divergence(model, tokens, increasing)
    norm, distance = (_median(values) for values in (tokens.embedding_norms, nearest.distances))
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
        neighbour_tokens=len(nearest.distances),
        turning_alphas=_percentiles(nearest.turning_alphas),
        divergence_examples=divergence.examples,
        divergence_tokens=divergence.tokens,
        alphas=tuple(
            _at_alpha(alpha, tokens, nearest, (norm, distance), nats)
            for alpha, nats in zip(increasing, divergence.nats, strict=True)
        ),
        closed_forms=_closed_forms(tokens, increasing[-1]),
    )


def _at_alpha(
    alpha: float, tokens: MeasuredTokens, nearest: NearestTokens, norm_and_distance: tuple[float, float], nats: float
) -> AlphaSensitivity:
    measured = measured_distortion(tokens, alpha)
    norm, distance = norm_and_distance
    return AlphaSensitivity(
        alpha=alpha,
        measured=measured,
        closed_form=closed_form_distortion(tokens, alpha),
        norm_ratio=measured.l2_change / norm,
        neighbour_ratio=measured.l2_change / distance,
        changed=nearest.share_changed(alpha),
        divergence=nats,
    )


def _closed_forms(tokens: MeasuredTokens, largest: float) -> tuple[tuple[float, Distortion], ...]:
    grid = torch.linspace(0, largest, LINE_POINTS).tolist()
    return tuple((alpha, closed_form_distortion(tokens, alpha)) for alpha in grid)


def _percentiles(values: torch.Tensor) -> tuple[float, ...]:
    """Return the smallest value, 99 of the values between (some may be infinite), and the largest."""
    places = torch.linspace(0, len(values) - 1, 101).round().long()
    return tuple(values.sort().values.cpu()[places].tolist())


def _median(values: torch.Tensor) -> float:
    return float(values.cpu().double().median())  # Apple's GPUs have no float64
