"""Effects of noise on one metric: noisy arms pooled, or fitted by a line over alpha, minus the reference arm.

Noisy arms are pooled if they share enough seeds, so that an unfinished arm does not reduce the seeds of all others. The
selection depends only on seeds, never on measured values, so no arm is excluded because of its results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric, are_finite, slope_weights
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.paper_claims.claim_data import (
    ClaimData,
    NotMeasuredError,
    excluded_seeds_sentence,
    unknown_recipe_sentence,
)
from neftune_cli.analysis.verdicts import equivalence_p_value
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.evidence.measurements import Floats
from neftune_cli.formatting import listed
from neftune_cli.metrics import Metric

_Seeds = frozenset[int]

_READABLE_ALPHA_STEP = 10.0
_MAX_NAMED_ARMS = 5


@dataclass(frozen=True)
class PooledArms:
    """One metric of the reference and of the noisy arms that share enough seeds."""

    aligned: AlignedMetric
    """The reference first. All values are finite."""
    excluded: tuple[str, ...]
    """Noisy arms with too few shared seeds."""


@dataclass(frozen=True)
class NoiseEffect:
    """One effect of noise on a metric."""

    metric: Metric
    description: str
    """The arms and the way in which they are compared."""
    paired: PairedComparison
    margin: float
    """Equivalence margin in the metric's unit."""
    reference: str
    """Name and mean of the arm without noise, as text."""
    details: str = ""
    """Further numbers, as text."""
    exclusions: str = ""
    """Sentences on the excluded arms, after a space."""

    @property
    def is_equivalent(self) -> bool:
        """Return whether the effect is shown to be within the margin."""
        return equivalence_p_value(self.paired, self.margin) <= 1 - self.paired.confidence

    @property
    def is_noninferior(self) -> bool:
        """Return whether the effect is shown to be below the margin, by the upper test of `is_equivalent`."""
        return self.paired.crossed.p_below(self.margin) <= 1 - self.paired.confidence


def mean_effect(data: ClaimData, key: str) -> NoiseEffect:
    """Return the mean of the noisy arms minus the reference, paired by seed and item.

    Raises:
        NotMeasuredError: the metric was not measured in comparable arms, or is not finite.
    """
    pooled = pool_arms(data, key, data.noisy)
    aligned = pooled.aligned
    change = aligned.values[1:].mean(axis=0) - aligned.values[0]
    description = f"{mean_of(aligned.arms[1:])} minus {data.reference}"
    return _effect(data, pooled, data.metric(key), description, change)


def linear_trend(data: ClaimData, key: str) -> NoiseEffect:
    """Return the rise of the least-squares line over alpha, from alpha 0 to the largest alpha.

    The line is fitted to arms that differ only in alpha. The rise is the slope times the range of alpha, so that
    margins keep their meaning. The slope itself is in `details`.

    Raises:
        NotMeasuredError: the metric was not measured in comparable arms, or is not finite.
    """
    pooled = pool_arms(data, key, _largest_family(data, key))
    aligned = pooled.aligned
    alphas = np.array([data.alpha(arm) for arm in aligned.arms])
    span = float(np.ptp(alphas))
    rise = np.tensordot(slope_weights(alphas), aligned.values, axes=1) * span
    description = f"on the least-squares line through {_names(aligned.arms)}, from alpha 0 to {span:g}"
    effect = _effect(data, pooled, data.metric(key), description, rise)
    if span <= _READABLE_ALPHA_STEP:
        return effect
    slope = data.metric(key).signed(effect.paired.difference * _READABLE_ALPHA_STEP / span)
    return replace(effect, details=f"{slope} per 10 of alpha")


def pool_arms(data: ClaimData, key: str, noisy: Sequence[str]) -> PooledArms:
    """Return the reference with the noisy arms that share three seeds with it and with each other.

    If no arm shares three seeds with the reference, the arms that share the most are used.

    Raises:
        NotMeasuredError: the metric was not measured in comparable arms, or is not finite.
    """
    kept = _with_common_seeds(_sharing(data, key, noisy))
    aligned = data.aligned(key, data.reference, *kept)
    if aligned is None:
        raise NotMeasuredError(_no_shared_items(data, data.metric(key), kept))
    require_finite(aligned, data.metric(key))
    return PooledArms(aligned, tuple(arm for arm in noisy if arm not in kept))


def min_shared_seeds(shared: Sequence[Sequence[int]]) -> int:
    """Return the number of shared seeds that an arm or pair needs: three, or the largest number if that is smaller."""
    return min(MIN_SEEDS, max(map(len, shared)))


def require_finite(aligned: AlignedMetric, metric: Metric) -> None:
    """Check that every value is finite.

    Raises:
        NotMeasuredError: a value is not finite.
    """
    diverged = [arm for arm in aligned.arms if not are_finite(aligned.arm(arm))]
    if diverged:
        fix = "Use a lower learning rate or less noise"
        raise NotMeasuredError(f"{metric.name} is not finite in a trial of {listed(diverged)}. {fix}.")


def mean_of(arms: Sequence[str]) -> str:
    """Return a name for the mean over these arms."""
    return arms[0] if len(arms) == 1 else f"mean of {_names(arms)}"


def reference_mean(aligned: AlignedMetric, metric: Metric) -> str:
    """Return name and mean of the first arm, like `alpha=0: 0.0174`."""
    return f"{aligned.arms[0]}: {metric.number(aligned.mean(aligned.arms[0]))}"


def exclusions(data: ClaimData, pooled: PooledArms) -> str:
    """Return sentences on the noisy arms that an effect does not include, after a space. Empty if it includes all."""
    return excluded_seeds_sentence(pooled.excluded) + unknown_recipe_sentence(data.unknown)


def _sharing(data: ClaimData, key: str, noisy: Sequence[str]) -> dict[str, _Seeds]:
    """Return the noisy arms that share enough seeds with the reference, with these seeds.

    Raises:
        NotMeasuredError: no arm shares a seed and an item with the reference.
    """
    metric = data.metric(key)
    pairs = {arm: one for arm in noisy if (one := data.aligned(key, data.reference, arm))}
    if not pairs:
        raise NotMeasuredError(_nothing_shared(data, metric, noisy))
    needed = min_shared_seeds([one.seeds for one in pairs.values()])
    return {arm: frozenset(one.seeds) for arm, one in pairs.items() if len(one.seeds) >= needed}


def _with_common_seeds(shared: Mapping[str, _Seeds]) -> tuple[str, ...]:
    """Return the arms that are left after removing arms with the fewest seeds until enough seeds are common to all."""
    kept, needed = dict(shared), min_shared_seeds([sorted(seeds) for seeds in shared.values()])
    while len(frozenset.intersection(*kept.values())) < needed:
        del kept[min(reversed(kept), key=lambda arm: len(kept[arm]))]
    return tuple(kept)


def _largest_family(data: ClaimData, key: str) -> tuple[str, ...]:
    """Return noisy arms that differ only in alpha: the family with the most arms that share enough seeds."""
    able = set(_sharing(data, key, data.noisy))
    return max((data.same_noise(arm) for arm in data.noisy), key=lambda family: len(able.intersection(family)))


def _effect(
    data: ClaimData,
    pooled: PooledArms,
    metric: Metric,
    description: str,
    change: Floats,  # (seeds, items)
) -> NoiseEffect:
    # The change is added to the values, so that rounding errors at their scale do not count as a change.
    without_noise = pooled.aligned.values[0]
    comparison = pooled.aligned.compare(without_noise, without_noise + change, confidence=data.options.confidence)
    assert comparison is not None  # pooled values are finite
    return NoiseEffect(
        metric=metric,
        description=description,
        paired=comparison,
        margin=data.margin(metric),
        reference=reference_mean(pooled.aligned, metric),
        exclusions=exclusions(data, pooled),
    )


def _nothing_shared(data: ClaimData, metric: Metric, noisy: Sequence[str]) -> str:
    """Return the reason why no noisy arm can be compared with the reference."""
    reference = data.seeds(data.reference, metric.key)
    noise = frozenset[int]().union(*(data.seeds(arm, metric.key) for arm in noisy))
    if not reference or not noise:
        lacking = _names(noisy) if reference else data.reference
        return f"No trial of {lacking} has {metric.name_within}. {data.advice(metric.key)}"
    if not reference & noise:
        return (
            f"{data.reference} and {_names(noisy)} have {metric.name_within} for no common seed. Run the missing seeds."
        )
    return _no_shared_items(data, metric, noisy)


def _no_shared_items(data: ClaimData, metric: Metric, noisy: Sequence[str]) -> str:
    return (
        f"{data.reference} and {_names(noisy)} have {metric.name_within} for no common example. "
        "Measure all trials on the same examples."
    )


def _names(arms: Sequence[str]) -> str:
    """Return the names of the arms, or their number if there are many."""
    return listed(arms) if len(arms) <= _MAX_NAMED_ARMS else f"{len(arms)} arms"
