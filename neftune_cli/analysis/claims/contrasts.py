"""What noise changes in one number: noisy arms together beside none, or the line that a metric follows with alpha."""

from dataclasses import dataclass, replace

import numpy as np

from neftune_cli.analysis.aligned import Aligned
from neftune_cli.analysis.claims.case import Case
from neftune_cli.analysis.claims.pooling import Pool, pool, sharing
from neftune_cli.analysis.claims.wording import arm_words, noisy_words, unknown_words, unshared_words
from neftune_cli.analysis.judging import equivalence_p_value
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.evidence.measurements import Floats
from neftune_cli.evidence.metrics import Metric

_READABLE_STEP = 10.0


@dataclass(frozen=True)
class Contrast:
    """One change that noise makes, and what it is a change of."""

    metric: Metric
    what: str
    """Which arms it is between."""
    comparison: PairedComparison
    margin: float
    """Changes up to it are taken for none, in the metric's unit."""
    reference: str
    """What the arm without noise has, for a sense of proportion."""
    more: str = ""
    """What else is to be said of its size."""
    left_out: str = ""
    """Which arms it isn't about, a space before it."""

    @property
    def is_small(self) -> bool:
        """Return whether the change is surely within the margin."""
        return equivalence_p_value(self.comparison, self.margin) <= 1 - self.comparison.confidence

    @property
    def is_no_large_rise(self) -> bool:
        """Return whether the change is surely below the margin, by the same one-sided test that `is_small` makes."""
        return self.comparison.mean.p_below(self.margin) <= 1 - self.comparison.confidence


def pooled(case: Case, key: str) -> Contrast:
    """Return the mean of the noisy arms minus the reference, taken seed by seed and item by item.

    Raises:
        NotMeasuredError: the metric wasn't measured in arms that can be compared, or isn't finite.
    """
    together = pool(case, key, case.noisy)
    aligned = together.aligned
    change = aligned.values[1:].mean(axis=0) - aligned.values[0]
    what = f"{noisy_words(aligned.arms[1:])} minus {case.reference}"
    return _contrast(case, together, case.metric(key), what, change)


def rise_with_alpha(case: Case, key: str) -> Contrast:
    """Return how far the least-squares line through arms that differ in alpha alone rises from alpha 0 to the largest.

    That is the slope times the range of alpha, so that margins keep their meaning; the slope itself is in `more`.

    Raises:
        NotMeasuredError: the metric wasn't measured in arms that can be compared, or isn't finite.
    """
    together = pool(case, key, _largest_family(case, key))
    aligned = together.aligned
    alphas = np.array([case.alpha(arm) for arm in aligned.arms])
    span = float(np.ptp(alphas))
    rise = np.tensordot(slope_weights(alphas), aligned.values, axes=1) * span
    what = f"on the straight line through {arm_words(aligned.arms)}, from alpha 0 to {span:g}"
    contrast = _contrast(case, together, case.metric(key), what, rise)
    if span <= _READABLE_STEP:
        return contrast
    slope = case.metric(key).signed(contrast.comparison.difference * _READABLE_STEP / span)
    return replace(contrast, more=f"{slope} per 10 of alpha")


def slope_weights(
    alphas: Floats,  # (arms,)
) -> Floats:
    """Return what each arm's value counts in the slope of the least-squares line over alpha, (arms,)."""
    centred = alphas - alphas.mean()
    weights: Floats = centred / np.square(centred).sum()
    return weights


def _largest_family(case: Case, key: str) -> tuple[str, ...]:
    """Return the noisy arms that differ in alpha alone and of which the most share enough seeds with the reference."""
    able = set(sharing(case, key, case.noisy))
    return max((case.like(arm) for arm in case.noisy), key=lambda family: len(able.intersection(family)))


def _contrast(
    case: Case,
    together: Pool,
    metric: Metric,
    what: str,
    change: Floats,  # (seeds, items)
) -> Contrast:
    # beside the values themselves, so that what rounding leaves of them isn't taken for a change
    without = together.aligned.values[0]
    comparison = together.aligned.compare(without, without + change, confidence=case.choices.confidence)
    assert comparison is not None  # a pool is finite
    return Contrast(
        metric=metric,
        what=what,
        comparison=comparison,
        margin=case.margin(metric),
        reference=reference_words(together.aligned, metric),
        left_out=left_out_words(case, together),
    )


def left_out_words(case: Case, together: Pool) -> str:
    """Return which arms with noise a change isn't about and why, a space before it."""
    return unshared_words(together.left_out) + unknown_words(case.unknown)


def reference_words(aligned: Aligned, metric: Metric) -> str:
    """Return the mean of the first arm, like `alpha=0: 0.0174`."""
    return f"{aligned.arms[0]}: {metric.number(aligned.mean(aligned.arms[0]))}"
