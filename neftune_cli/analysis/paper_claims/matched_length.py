"""Whether answers get better by more than their length: gains among answers as long as those without noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.paper_claims.claim_data import SWEEP, Case, NotMeasuredError
from neftune_cli.analysis.paper_claims.claim_tests import Finding, moves
from neftune_cli.analysis.paper_claims.noise_effects import (
    Contrast,
    Pool,
    left_out_words,
    pool,
    pooled,
    reference_words,
)
from neftune_cli.analysis.paper_claims.wording import change_words, noisy_words
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import Metric

LARGEST_LENGTH_DIFFERENCE = 0.1
"""Answers count as equally long up to this share of the longer one."""

_LENGTH = "response_chars"
_QUALITIES = ("rouge_l", "exact_match")


@dataclass(frozen=True)
class Matched:
    """Differences among answers of about equal length."""

    gain: Floats
    """Mean over the noisy arms whose answer is matched, minus the reference, (seeds, items); 0 where none is."""
    matches: NDArray[np.int64]
    """How many arms' answers are matched, (seeds, items)."""


def gains_beyond_length(case: Case) -> Finding:
    """Return whether answers of noisy arms are better than equally long ones of the reference to the same prompt.

    Raises:
        NotMeasuredError: quality or length of single answers aren't known, or none are equally long.
    """
    metric = next((case.metrics[key] for key in _QUALITIES if key in case.metrics), None) or case.metric(_QUALITIES[0])
    quality, length = _same_cells(case, metric)
    matched = match(quality.aligned.values, length.aligned.values)
    return moves(_contrast(case, metric, quality, matched), "higher")


def match(
    quality: Floats,  # (arms, seeds, items), the reference first
    length: Floats,  # (arms, seeds, items)
) -> Matched:
    """Return the differences of the arms to the first one where the lengths of both answers are about equal."""
    longer = np.maximum(length[1:], length[0])
    equal = np.abs(length[1:] - length[0]) <= LARGEST_LENGTH_DIFFERENCE * longer
    matches = equal.sum(axis=0)
    sums = np.where(equal, quality[1:] - quality[0], 0.0).sum(axis=0)
    return Matched(sums / np.maximum(matches, 1), matches)


def _same_cells(case: Case, metric: Metric) -> tuple[Pool, Pool]:
    """Return quality and length of the same answers."""
    quality, length = (pool(case, key, case.noisy) for key in (metric.key, _LENGTH))
    first, second = quality.aligned, length.aligned
    same = (first.arms, first.seeds, first.clusters) == (second.arms, second.seeds, second.clusters)
    if not same or len(first.clusters) == 1:
        what = f"Needs {metric.name_within} and length of each of several answers, in the same trials"
        raise NotMeasuredError(f"{what}: {SWEEP} keeps them.")
    return quality, length


def _contrast(case: Case, metric: Metric, together: Pool, matched: Matched) -> Contrast:
    quality = together.aligned
    # a seed or item without a match says nothing, and would count as certainty if it stayed
    seeds, items = (np.flatnonzero(matched.matches.sum(axis=axis)) for axis in (1, 0))
    if not seeds.size:
        raise NotMeasuredError(f"No answer is about as long as that of {case.reference} to the same prompt.")
    cells = np.ix_(seeds, items)
    without = quality.values[0][cells]
    comparison = paired_comparison(
        without,
        without + matched.gain[cells],
        confidence=case.choices.confidence,
        clusters=[quality.clusters[item] for item in items],
        weights=(matched.matches * quality.weights)[cells],
    )
    what = f"where lengths differ by at most {LARGEST_LENGTH_DIFFERENCE:.0%}, {noisy_words(quality.arms[1:])}"
    return Contrast(
        metric=metric,
        what=f"{what} minus {case.reference}",
        comparison=comparison,
        margin=case.margin(metric),
        reference=reference_words(quality, metric),
        more=_beside(case, metric, together, matched),
        left_out=left_out_words(case, together),
    )


def _beside(case: Case, metric: Metric, together: Pool, matched: Matched) -> str:
    """Return how many answers were matched, and the gain among all of them."""
    answers = together.aligned.values[1:].size
    unmatched = change_words(pooled(case, metric.key).comparison, metric)
    return f"{matched.matches.sum():,} of {answers:,} answers matched, and over all of them it is {unmatched}"
