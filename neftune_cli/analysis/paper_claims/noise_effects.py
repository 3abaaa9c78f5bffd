"""Which noisy arms are taken together: those that share enough seeds, so that one unfinished arm doesn't silence all.

Seeds alone decide, never what was measured, so that no arm is left out for its results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.analysis.paired import MIN_SEEDS, PairedComparison
from neftune_cli.analysis.paper_claims.claim_data import Case, NotMeasuredError, how_to_measure
from neftune_cli.analysis.paper_claims.wording import arm_words, noisy_words, unknown_words, unshared_words
from neftune_cli.analysis.verdicts import equivalence_p_value
from neftune_cli.evidence.measurements import Floats
from neftune_cli.formatting import listed
from neftune_cli.metrics import Metric

_Seeds = frozenset[int]


@dataclass(frozen=True)
class Pool:
    """One metric of the reference and of noisy arms that can be taken together."""

    aligned: AlignedMetric
    """The reference first; every value finite."""
    left_out: tuple[str, ...]
    """Noisy arms that share too few seeds."""


def pool(case: Case, key: str, noisy: Sequence[str]) -> Pool:
    """Return the reference with those of the noisy arms that share three seeds with it and with each other.

    Where no arm shares three seeds with the reference, those that share the most are taken.

    Raises:
        NotMeasuredError: the metric wasn't measured in arms that can be compared, or isn't finite.
    """
    kept = _together(sharing(case, key, noisy))
    aligned = case.aligned(key, case.reference, *kept)
    if aligned is None:
        raise NotMeasuredError(_no_items(case, case.metric(key), kept))
    require_finite(aligned, case.metric(key))
    return Pool(aligned, tuple(arm for arm in noisy if arm not in kept))


def sharing(case: Case, key: str, noisy: Sequence[str]) -> dict[str, _Seeds]:
    """Return the noisy arms that share enough seeds with the reference, with these seeds.

    Raises:
        NotMeasuredError: none shares a seed and an item with it.
    """
    metric = case.metric(key)
    pairs = {arm: one for arm in noisy if (one := case.aligned(key, case.reference, arm))}
    if not pairs:
        raise NotMeasuredError(_why_none(case, metric, noisy))
    needed = seeds_needed([one.seeds for one in pairs.values()])
    return {arm: frozenset(one.seeds) for arm, one in pairs.items() if len(one.seeds) >= needed}


def seeds_needed(shared: Sequence[Sequence[int]]) -> int:
    """Return how many shared seeds an arm or a pair needs to be looked at: three, or as many as the best one has."""
    return min(MIN_SEEDS, max(map(len, shared)))


def require_finite(aligned: AlignedMetric, metric: Metric) -> None:
    """Check that every value is a number.

    Raises:
        NotMeasuredError: one isn't.
    """
    broken = [arm for arm in aligned.arms if not np.isfinite(aligned.arm(arm)).all()]
    if broken:
        fix = "use a lower learning rate or less noise"
        raise NotMeasuredError(f"{metric.name} isn't finite in a trial of {listed(broken)}: {fix}.")


def _together(shared: Mapping[str, _Seeds]) -> tuple[str, ...]:
    """Return the arms without those of the fewest seeds, as many as it takes for the others to share enough."""
    kept, needed = dict(shared), seeds_needed([sorted(seeds) for seeds in shared.values()])
    while len(frozenset.intersection(*kept.values())) < needed:
        del kept[min(reversed(kept), key=lambda arm: len(kept[arm]))]
    return tuple(kept)


def _why_none(case: Case, metric: Metric, noisy: Sequence[str]) -> str:
    """Return why no noisy arm can be compared with the reference."""
    reference = case.seeds(case.reference, metric.key)
    noise = frozenset[int]().union(*(case.seeds(arm, metric.key) for arm in noisy))
    if not reference or not noise:
        lacking = arm_words(noisy) if reference else case.reference
        return f"No trial of {lacking} has {metric.name_within}. {how_to_measure(metric.key)}"
    if not reference & noise:
        what = f"{case.reference} and {arm_words(noisy)} share no seed with {metric.name_within}"
        return f"{what}: run the missing seeds."
    return _no_items(case, metric, noisy)


def _no_items(case: Case, metric: Metric, noisy: Sequence[str]) -> str:
    what = f"{case.reference} and {arm_words(noisy)} share no example with {metric.name_within}"
    return f"{what}: measure all trials on the same examples."


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


def reference_words(aligned: AlignedMetric, metric: Metric) -> str:
    """Return the mean of the first arm, like `alpha=0: 0.0174`."""
    return f"{aligned.arms[0]}: {metric.number(aligned.mean(aligned.arms[0]))}"
