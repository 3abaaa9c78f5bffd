"""Sources of the standard errors of the differences, and how much more seeds or items would help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neftune_cli.analysis.crossed_factors import MIN_INFORMATIVE_CLUSTERS, CrossedMean
from neftune_cli.analysis.paired import PairedComparison

MORE_SEEDS = 2
"""Number of additional seeds whose effect is estimated."""


@dataclass(frozen=True)
class ArmErrorSources:
    """Sources of the squared standard error of one difference, and the effect of more data on its interval."""

    arm: str
    seed_share: float
    """Share of the seeds, 0 to 1. The three shares add up to 1."""
    item_share: float
    """Share of the items, 0 to 1."""
    residual_share: float
    """Share of the variation that neither seeds nor items explain, 0 to 1. More seeds and more items both reduce it."""
    narrowing_by_seeds: float
    """Share by which the unadjusted interval is expected to get narrower with `MORE_SEEDS` more seeds, 0 to 1."""
    narrowing_by_items: float | None
    """The same with twice as many items; None for a metric without items."""
    seeds_agree_too_well: bool
    """Whether the seeds differ less than the residual explains, so that the interval may be too narrow."""


@dataclass(frozen=True)
class ErrorSources:
    """Error sources of the primary metric, with the time that more data would take in such a sweep."""

    arms: tuple[ArmErrorSources, ...]
    trials: int
    """Number of trials of these arms and of the baseline."""
    seed_seconds: float | None
    """Time in seconds of `MORE_SEEDS` more seeds of these arms and of the baseline; None if it is unknown."""
    item_seconds: float | None
    """Estimate of the additional time in seconds per trial with twice as many items; None if it is unknown."""

    @property
    def narrows_most(self) -> Literal["seeds", "items"] | None:
        """Return the data that narrow every interval most for the same time; None if it is unknown or differs."""
        if not (self.seed_seconds and self.item_seconds):
            return None
        ratio = self.item_seconds * self.trials / self.seed_seconds
        choices = {
            "seeds" if one.narrowing_by_seeds * ratio > (one.narrowing_by_items or 0.0) else "items"
            for one in self.arms
        }
        return ("seeds" if "seeds" in choices else "items") if len(choices) == 1 else None


def error_sources(
    comparisons: Mapping[str, PairedComparison],
    seconds: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    evaluation_seconds: float | None,
) -> ErrorSources | None:
    """Return the sources of the standard errors over seeds and items; None if no difference has one over seeds.

    Args:
        comparisons: arm to its difference from the baseline.
        seconds: arm to the known times of its trials, of the baseline as well.
        baseline: name of the baseline.
        evaluation_seconds: time of one evaluation of a model on all items. The evaluation of the base model is an
            estimate: its responses are longer than those of a trained model, and its losses are measured once.
    """
    known = {arm: one for arm, one in comparisons.items() if one.has_enough_seeds and one.crossed.is_measured}
    if not known:
        return None
    have_items = all(one.clusters > 1 for one in known.values())
    return ErrorSources(
        arms=tuple(_arm_error_sources(arm, one.crossed, one.confidence) for arm, one in known.items()),
        trials=sum(one.seeds for one in known.values()) + max(one.seeds for one in known.values()),
        seed_seconds=_seed_seconds([seconds.get(arm, ()) for arm in (baseline, *known)]),
        item_seconds=evaluation_seconds if have_items else None,
    )


def with_more_data(mean: CrossedMean, *, seeds: int = 0, item_factor: int = 1) -> CrossedMean:
    """Return the expected mean with more seeds, or with a multiple of the items, if the variance components stay.

    Args:
        mean: of at least two seeds.
        seeds: number of additional seeds.
        item_factor: new number of items divided by the old one.
    """
    residual = mean.residual_variance
    total, factor = mean.seeds + seeds, 1 - 1 / item_factor
    seed_variance = mean.seed_variance - factor * min(residual, mean.seed_variance)
    item_variance = mean.item_variance / item_factor
    of_seeds = max(seed_variance, residual / item_factor) / total
    clusters = mean.clusters * item_factor
    has_few = clusters * mean.evenness < MIN_INFORMATIVE_CLUSTERS
    of_clusters = mean.expected_cluster_variance(total) / item_factor if has_few else 0.0
    return replace(
        mean,
        seed_variance=seed_variance,
        item_variance=item_variance,
        seeds=total,
        clusters=clusters,
        seed_degrees=mean.seed_degrees + seeds,
        seed_share=of_seeds / (of_seeds + item_variance),
        cluster_variance=of_clusters,
    )


def _arm_error_sources(arm: str, mean: CrossedMean, confidence: float) -> ArmErrorSources:
    squared = mean.standard_error**2
    residual = min(mean.residual_variance, mean.seed_variance) / mean.seeds / squared
    items = mean.item_variance / squared
    by_items = _narrowing(mean, with_more_data(mean, item_factor=2), confidence) if mean.clusters > 1 else None
    return ArmErrorSources(
        arm=arm,
        seed_share=max(0.0, 1 - residual - items),
        item_share=items,
        residual_share=residual,
        narrowing_by_seeds=_narrowing(mean, with_more_data(mean, seeds=MORE_SEEDS), confidence),
        narrowing_by_items=by_items,
        seeds_agree_too_well=mean.seeds_agree_too_well(),
    )


def _narrowing(before: CrossedMean, after: CrossedMean, confidence: float) -> float:
    (low, high), (new_low, new_high) = before.interval(confidence), after.interval(confidence)
    return max(0.0, 1 - (new_high - new_low) / (high - low))


def _seed_seconds(seconds: Sequence[Sequence[float]]) -> float | None:
    """Return the time of `MORE_SEEDS` trials of each arm, from the mean times of its trials."""
    return MORE_SEEDS * sum(sum(one) / len(one) for one in seconds) if all(seconds) else None
