"""Align trials of several arms: one metric as an array over the seeds and items that all of them share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.evidence.measurements import Floats, ItemValues, Measurements

TrialsByArm = Mapping[str, Mapping[int, Measurements]]
"""Arm to seed to trial, without the base model."""
LARGEST_VALUE = 1e150
"""Larger values, such as the perplexity of a diverged trial, count as not finite: their squares cannot be summed."""


@dataclass(frozen=True)
class AlignedMetric:
    """One metric of several arms over shared seeds and items."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    clusters: tuple[str, ...]
    """Cluster label of each item, (items,)."""
    values: Floats
    """(arms, seeds, items). A metric without per-item values has one column."""
    weights: Floats
    """Weight of each item, (items,)."""

    def arm(self, name: str) -> Floats:
        """Return the values of one arm, (seeds, items)."""
        return np.asarray(self.values[self.arms.index(name)])

    def mean(self, name: str) -> float:
        """Return the mean of one arm over seeds and items, in the metric's unit."""
        return float(np.average(self.arm(name), axis=1, weights=self.weights).mean())

    def compare(
        self,
        baseline: Floats,  # (seeds, items)
        treated: Floats,  # (seeds, items)
        *,
        confidence: float,
    ) -> PairedComparison | None:
        """Compare two arrays over these seeds and items. Return None if a value is not finite."""
        return compare_finite(baseline, treated, confidence=confidence, clusters=self.clusters, weights=self.weights)


def align(trials: TrialsByArm, key: str) -> AlignedMetric | None:
    """Return a metric of these arms over their shared seeds and items. Return None if they share none."""
    seeds = _shared_seeds(trials, key)
    if not seeds:
        return None
    if not all(key in trials[arm][seed].items for arm in trials for seed in seeds):
        scores = [[[_score(trials[arm][seed], key)] for seed in seeds] for arm in trials]
        return AlignedMetric(tuple(trials), seeds, ("",), np.array(scores), np.ones(1))
    values = {arm: [trials[arm][seed].items[key] for seed in seeds] for arm in trials}
    every = [one for of_arm in values.values() for one in of_arm]
    items = shared_items(every)
    if not items:
        return None
    reference = every[0].of(items)
    return AlignedMetric(
        arms=tuple(trials),
        seeds=seeds,
        clusters=reference.clusters,
        values=np.array([[one.of(items).values for one in of_arm] for of_arm in values.values()]),
        weights=reference.weights,
    )


def compare_finite(
    baseline: Floats,  # (seeds, items)
    treated: Floats,  # (seeds, items)
    *,
    confidence: float,
    clusters: Sequence[str],  # (items,)
    weights: Floats,  # (items,)
) -> PairedComparison | None:
    """Compare two arrays over the same seeds and items. Return None if a value is not finite."""
    if not (are_finite(baseline) and are_finite(treated)):
        return None
    return paired_comparison(baseline, treated, confidence=confidence, clusters=clusters, weights=weights)


def shared_items(values: Sequence[ItemValues]) -> tuple[str, ...]:
    """Return the items that all of these have, in the order of the first."""
    first = values[0].items
    if all(one.items == first for one in values):
        return first
    common = set(first).intersection(*(one.items for one in values))
    return tuple(item for item in first if item in common)


def are_finite(values: ArrayLike) -> bool:
    """Return whether all values can be compared: none is NaN, infinite, or larger than `LARGEST_VALUE`."""
    return bool((np.abs(values) <= LARGEST_VALUE).all())


def largest_score(trials: Iterable[Measurements], key: str) -> float:
    """Return the largest absolute score of a metric that can be compared; 0 if there is none."""
    scores = (trial.scores.get(key) for trial in trials)
    return max((abs(score) for score in scores if score is not None and are_finite(score)), default=0.0)


def measured_seeds(trials: Mapping[int, Measurements], key: str) -> set[int]:
    """Return the seeds of an arm that have a score of the metric."""
    return {seed for seed, trial in trials.items() if trial.scores.get(key) is not None}


def first_trial(arms: TrialsByArm, arm: str) -> Measurements:
    """Return the first trial of an arm. All trials of an arm differ only in the seed."""
    return next(iter(arms[arm].values()))


def slope_weights(
    alphas: Floats,  # (arms,)
) -> Floats:
    """Return the weights of the arms in the slope of the least-squares line over alpha, (arms,)."""
    centered = alphas - alphas.mean()
    weights: Floats = centered / np.square(centered).sum()
    return weights


def _shared_seeds(trials: TrialsByArm, key: str) -> tuple[int, ...]:
    measured = [measured_seeds(arm, key) for arm in trials.values()]
    return tuple(sorted(set.intersection(*measured))) if measured else ()


def _score(trial: Measurements, key: str) -> float:
    score = trial.scores[key]
    assert score is not None
    return score
