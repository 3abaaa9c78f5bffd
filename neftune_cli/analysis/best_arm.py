"""The best of several arms, with its advantage on data that did not select it (winner's curse)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from neftune_cli.analysis.alignment import AlignedMetric, are_finite
from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.results import BestArm
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import Metric

ARM_SPLIT_PAIRS = 100
"""Number of pairs of splits. The two splits of a pair exchange the halves of the clusters."""
MIN_CHOSEN = 0.25
"""Share of the splits that must select the best arm. With fewer, its advantage is not reported."""


def best_arm_advantage(
    aligned: AlignedMetric, baseline: str, metric: Metric, *, confidence: float, seed: int = 0
) -> BestArm | None:
    """Return the arm with the best mean, and its difference from the baseline on data that did not select it.

    The best of several noisy means is biased upward, even if all arms are equal: the winner's curse. Therefore an arm
    is selected on half of the seeds and half of the clusters, and the selected arm is measured on the rest. The
    advantage of the best arm is the mean over the splits that selected it. A split of the items alone is not enough,
    because all items share the effect of a seed on an arm. With a single seed only items are split; with a single
    cluster only seeds are split.

    In simulations (`python -m experiments.winners_curse`) the advantage of an arm that is far better than the others
    has almost no bias. If all arms are equal, about a third to a half of the bias remains, because the best arm is
    determined by all data. The mean over all splits, whichever arm they select, has no such bias, but it is not about
    one arm. The interval has the width of the arm's own interval. Its coverage is in docs/statistics.md.

    Args:
        aligned: the metric of all arms over shared seeds and items.
        baseline: arm that differences are relative to. The other arms are selected from.
        metric: determines the direction of improvement.
        confidence: confidence level of the interval, between 0 and 1.
        seed: random seed of the splits.

    Returns:
        None if the metric has no direction of improvement, if fewer than two arms have finite differences from the
        baseline, or if one seed and one cluster leave nothing to split.
    """
    differences = _differences(aligned, baseline)
    indices = cluster_indices(aligned.clusters)
    shape = len(aligned.seeds), int(indices.max()) + 1
    if metric.goal is None or len(differences) < 2 or shape == (1, 1):
        return None
    values = np.stack(list(differences.values()))
    sums = cluster_sums(values, aligned.weights, indices)
    cost = sums if metric.goal == "lower" else -sums
    splits = _splits(*shape, np.random.default_rng(seed))
    selected = splits.select(cost)
    measured = splits.measure(sums, np.asarray(np.bincount(indices, weights=aligned.weights), dtype=np.float64))
    best = int(cost.sum(axis=(1, 2)).argmin())
    plain = paired_comparison(
        *(np.zeros_like(values[best]), values[best]),
        confidence=confidence,
        clusters=aligned.clusters,
        weights=aligned.weights,
    )
    chosen = dict(zip(differences, selected.mean(axis=0).tolist(), strict=True))
    advantages = {
        arm: _mean_where(measured[row], selected[:, row]) for row, arm in enumerate(differences) if chosen[arm]
    }
    arm = tuple(differences)[best]
    return BestArm(
        arm=arm,
        metric=metric.key,
        naive=plain.difference,
        advantage=_moved(plain, advantages[arm] if chosen[arm] >= MIN_CHOSEN else math.nan),
        chosen=chosen,
        advantages=advantages,
    )


def _mean_where(
    values: Floats,  # (splits,)
    is_used: Floats,  # (splits,)
) -> float:
    return float(values[is_used > 0].mean())


def _moved(plain: PairedComparison, difference: float) -> PairedComparison:
    """Return the comparison with another difference, which may be NaN, and with the same width of the interval."""
    mean = replace(plain.crossed, mean=difference)
    low, high = mean.interval(plain.confidence)
    p_value = mean.p_value() if math.isfinite(difference) else math.nan
    return replace(plain, difference=difference, ci_low=low, ci_high=high, p_value=p_value, crossed=mean)


def _differences(aligned: AlignedMetric, baseline: str) -> dict[str, Floats]:
    """Return the differences of the arms from the baseline, (seeds, items) each, without arms that diverged."""
    finite = [arm for arm in aligned.arms if are_finite(aligned.arm(arm))]
    if baseline not in finite:
        return {}
    return {arm: aligned.arm(arm) - aligned.arm(baseline) for arm in finite if arm != baseline}


@dataclass(frozen=True)
class _Splits:
    """Seeds and clusters for selection and for evaluation: 1 for use, (splits, seeds) or (splits, clusters)."""

    selection_seeds: Floats
    evaluation_seeds: Floats
    selection_clusters: Floats
    evaluation_clusters: Floats

    def select(
        self,
        cost: Floats,  # (arms, seeds, clusters)
    ) -> Floats:
        """Return 1 for the arm with the lowest cost on the selection data, the first of equal arms, (splits, arms)."""
        sums = np.einsum("rs,asr->ra", self.selection_seeds, cost @ self.selection_clusters.T)
        return np.asarray(np.eye(len(cost))[sums.argmin(axis=1)])

    def measure(
        self,
        sums: Floats,  # (arms, seeds, clusters)
        weights: Floats,  # (clusters,)
    ) -> Floats:
        """Return the weighted mean of each arm on the evaluation data of each split, (arms, splits)."""
        by_seed = (sums @ self.evaluation_clusters.T) / (self.evaluation_clusters @ weights)
        of_seeds = self.evaluation_seeds / self.evaluation_seeds.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("asr,rs->ar", by_seed, of_seeds))


def _splits(seeds: int, clusters: int, draws: np.random.Generator) -> _Splits:
    of_seeds = np.tile(_seed_sets(seeds, draws), (2, 1))
    of_clusters = random_halves(clusters, ARM_SPLIT_PAIRS, draws)
    return _Splits(*_with_complement(of_seeds), *_with_complement(of_clusters))


def _with_complement(
    selection: Floats,  # (splits, seeds or clusters)
) -> tuple[Floats, Floats]:
    """Return selection and evaluation data. A single seed or cluster is used for both."""
    if selection.shape[1] == 1:
        return np.ones_like(selection), np.ones_like(selection)
    return selection, 1 - selection


def _seed_sets(seeds: int, draws: np.random.Generator) -> Floats:
    """Return 1 for the seeds of the selection, (pairs, seeds): each possible half in turn, or random halves of many."""
    size = math.ceil(seeds / 2)
    if math.comb(seeds, size) <= ARM_SPLIT_PAIRS:
        halves = np.array(list(combinations(range(seeds), size)))
        sets = np.resize(halves, (ARM_SPLIT_PAIRS, size))
    else:
        sets = draws.permuted(np.tile(np.arange(seeds), (ARM_SPLIT_PAIRS, 1)), axis=1)[:, :size]
    selection = np.zeros((ARM_SPLIT_PAIRS, seeds))
    np.put_along_axis(selection, sets, 1.0, axis=1)
    return selection


Indices = NDArray[np.intp]


def cluster_indices(labels: Sequence[str]) -> Indices:
    """Return the index of each item's cluster, (items,), from zero, in the order of the labels.

    Random halves of the clusters depend on this order.
    """
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.intp)


def random_halves(count: int, pairs: int, draws: np.random.Generator) -> Floats:
    """Return 1 for the members of a half and 0 for the rest, (2 * pairs, count): random halves, then their complements.

    Each unit is outside of one half of each pair. With an odd count the sizes of the halves differ by one.
    """
    order = draws.permuted(np.tile(np.arange(count), (pairs, 1)), axis=1)
    halves = (order < count // 2).astype(np.float64)
    return np.concatenate([halves, 1 - halves])


def cluster_sums(
    values: Floats,  # (options, seeds, items)
    weights: Floats,  # (items,)
    indices: Indices,  # (items,)
) -> Floats:
    """Return the weighted sum of the values of each cluster, (options, seeds, clusters)."""
    order = np.argsort(indices, kind="stable")
    starts = np.searchsorted(indices[order], np.arange(indices.max() + 1))
    return np.asarray(np.add.reduceat((values * weights)[..., order], starts, axis=-1))
