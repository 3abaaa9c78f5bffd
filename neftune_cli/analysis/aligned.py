"""Trials of several arms as one array: the seeds and items that all of them share, in one order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.evidence.measurements import Floats, ItemValues, Measurements
from neftune_cli.metrics import Margin, Metric

TrialsByArm = Mapping[str, Mapping[int, Measurements]]
"""Arm to seed to trial, the base left out."""


@dataclass(frozen=True)
class Aligned:
    """One metric of several arms over shared seeds and items."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    clusters: tuple[str, ...]
    """Label of each item's group, (items,)."""
    values: Floats
    """(arms, seeds, items); a score without items is one column."""
    weights: Floats
    """(items,)."""

    def arm(self, name: str) -> Floats:
        """Return one arm's values, (seeds, items)."""
        return np.asarray(self.values[self.arms.index(name)])

    def mean(self, name: str) -> float:
        """Return one arm's mean over seeds and items, in the metric's unit."""
        return float(np.average(self.arm(name), axis=1, weights=self.weights).mean())

    def compare(self, baseline: Floats, treated: Floats, *, confidence: float) -> PairedComparison | None:
        """Compare two (seeds, items) arrays over these seeds and items; None where a value isn't finite."""
        if not (np.isfinite(baseline).all() and np.isfinite(treated).all()):
            return None
        return paired_comparison(baseline, treated, confidence=confidence, clusters=self.clusters, weights=self.weights)


def align(trials: TrialsByArm, key: str) -> Aligned | None:
    """Return a metric of these arms over the seeds and items that all of them have; None where they share none."""
    seeds = _shared_seeds(trials, key)
    if not seeds:
        return None
    if not all(key in trials[arm][seed].items for arm in trials for seed in seeds):
        scores = [[[_score(trials[arm][seed], key)] for seed in seeds] for arm in trials]
        return Aligned(tuple(trials), seeds, ("",), np.array(scores), np.ones(1))
    return stack({arm: [trials[arm][seed].items[key] for seed in seeds] for arm in trials}, seeds)


def stack(values: Mapping[str, Sequence[ItemValues]], seeds: tuple[int, ...]) -> Aligned | None:
    """Return the arms' values, given seed by seed, over the items that all share; None where they share none."""
    everything = [one for of_arm in values.values() for one in of_arm]
    first = everything[0]
    shared = first.items
    if any(one.items != first.items for one in everything):
        common = set(first.items).intersection(*(one.items for one in everything))
        shared = tuple(item for item in first.items if item in common)
    if not shared:
        return None
    reference = first.of(shared)
    return Aligned(
        arms=tuple(values),
        seeds=seeds,
        clusters=reference.clusters,
        values=np.array([[one.of(shared).values for one in of_arm] for of_arm in values.values()]),
        weights=reference.weights,
    )


def measured_seeds(trials: Mapping[int, Measurements], key: str) -> set[int]:
    """Return the seeds of an arm that have a score of the metric."""
    return {seed for seed, trial in trials.items() if trial.scores.get(key) is not None}


def _shared_seeds(trials: TrialsByArm, key: str) -> tuple[int, ...]:
    measured = [measured_seeds(arm, key) for arm in trials.values()]
    return tuple(sorted(set.intersection(*measured))) if measured else ()


def _score(trial: Measurements, key: str) -> float:
    score = trial.scores[key]
    assert score is not None
    return score


@dataclass(frozen=True)
class Choices:
    """Baseline, metric, confidence and margins; what is left out is decided by the evidence."""

    baseline: str | None = None
    """Name or alpha of an arm; by default the first trained one."""
    metric: str | None = None
    """Key of the metric that the advice is about; by default the held-out loss."""
    confidence: float = 0.95
    margins: Mapping[str, Margin] = field(default_factory=dict)
    """Metric key to what counts as no difference, in place of the metric's own."""

    def margin(self, metric: Metric, arms: TrialsByArm, baseline: str) -> float:
        """Return what counts as no difference beside this baseline's finite scores, in the metric's unit."""
        scores = [trial.scores.get(metric.key) for trial in arms[baseline].values()]
        known = [score for score in scores if score is not None and math.isfinite(score)]
        return self.margin_beside(metric, fmean(known)) if known else 0.0

    def margin_beside(self, metric: Metric, mean: float) -> float:
        """Return what counts as no difference of a metric beside a baseline of this mean, in the metric's unit."""
        return self.margins.get(metric.key, metric.margin).at(mean)


DEFAULT_CHOICES = Choices()
"""What happens when the user chooses nothing."""
