"""Quality gains among responses of equal length, for the claim that longer responses do not explain the gain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.paper_claims.claim_data import SWEEP, ClaimData, NotMeasuredError
from neftune_cli.analysis.paper_claims.claim_tests import ClaimOutcome, change_text, changes
from neftune_cli.analysis.paper_claims.noise_effects import (
    NoiseEffect,
    PooledArms,
    exclusions,
    mean_effect,
    mean_of,
    pool_arms,
    reference_mean,
)
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import Metric

MAX_LENGTH_DIFFERENCE = 0.1
"""Largest difference in length between matched responses, as a share of the longer one."""

_LENGTH = "response_chars"
_QUALITY_METRICS = ("rouge_l", "exact_match")


@dataclass(frozen=True)
class MatchedResponses:
    """Differences in quality among responses of about equal length."""

    gain: Floats
    """Mean over the noisy arms with a matched response, minus the reference, (seeds, items). 0 without a match."""
    matches: NDArray[np.int64]
    """Number of noisy arms with a matched response, (seeds, items)."""


def gains_beyond_length(data: ClaimData) -> ClaimOutcome:
    """Test whether responses of noisy arms are better than responses of about equal length of the reference.

    Raises:
        NotMeasuredError: quality or length of individual responses are unknown, or no responses have equal length.
    """
    measured = (data.metrics[key] for key in _QUALITY_METRICS if key in data.metrics)
    metric = next(measured, None) or data.metric(_QUALITY_METRICS[0])
    quality, length = _same_responses(data, metric)
    matched = match_responses(quality.aligned.values, length.aligned.values)
    return changes(_effect(data, metric, quality, matched), "higher")


def match_responses(
    quality: Floats,  # (arms, seeds, items), the reference first
    length: Floats,  # (arms, seeds, items)
) -> MatchedResponses:
    """Return the differences of the arms from the first arm where both responses have about equal length."""
    longer = np.maximum(length[1:], length[0])
    equal = np.abs(length[1:] - length[0]) <= MAX_LENGTH_DIFFERENCE * longer
    matches = equal.sum(axis=0)
    sums = np.where(equal, quality[1:] - quality[0], 0.0).sum(axis=0)
    return MatchedResponses(sums / np.maximum(matches, 1), matches)


def _same_responses(data: ClaimData, metric: Metric) -> tuple[PooledArms, PooledArms]:
    """Return quality and length of the same responses."""
    quality, length = (pool_arms(data, key, data.noisy) for key in (metric.key, _LENGTH))
    first, second = quality.aligned, length.aligned
    same = (first.arms, first.seeds, first.clusters) == (second.arms, second.seeds, second.clusters)
    if not same or len(first.clusters) == 1:
        need = f"This claim needs {metric.name_within} and length of individual responses in the same trials"
        raise NotMeasuredError(f"{need}, which `{SWEEP}` measures.")
    return quality, length


def _effect(data: ClaimData, metric: Metric, pooled: PooledArms, matched: MatchedResponses) -> NoiseEffect:
    quality = pooled.aligned
    # Seeds and items without a match are removed. Their zeros would count as precise measurements of no difference.
    seeds, items = (np.flatnonzero(matched.matches.sum(axis=axis)) for axis in (1, 0))
    if not seeds.size:
        raise NotMeasuredError(f"No response is about as long as the response of {data.reference} to the same prompt.")
    cells = np.ix_(seeds, items)
    without_noise = quality.values[0][cells]
    comparison = paired_comparison(
        without_noise,
        without_noise + matched.gain[cells],
        confidence=data.options.confidence,
        clusters=[quality.clusters[item] for item in items],
        weights=(matched.matches * quality.weights)[cells],
    )
    arms = f"{mean_of(quality.arms[1:])} minus {data.reference}"
    return NoiseEffect(
        metric=metric,
        description=f"where lengths differ by at most {MAX_LENGTH_DIFFERENCE:.0%}, {arms}",
        paired=comparison,
        margin=data.margin(metric),
        reference=reference_mean(quality, metric),
        details=_all_responses(data, metric, pooled, matched),
        exclusions=exclusions(data, pooled),
    )


def _all_responses(data: ClaimData, metric: Metric, pooled: PooledArms, matched: MatchedResponses) -> str:
    """Return the number of matched responses, and the gain over all responses."""
    responses = pooled.aligned.values[1:].size
    unmatched = change_text(mean_effect(data, metric.key).paired, metric)
    counts = f"{matched.matches.sum():,} of {responses:,} responses with noise meet this condition"
    return f"{counts}; over all responses the difference is {unmatched}"
