"""The best of several arms, its advantage on data not used to select it (winner's curse), and sentences about it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric, are_finite
from neftune_cli.analysis.clusters import cluster_sums, indices_by_label, random_halves
from neftune_cli.analysis.headline import MOST_NAMED_ARMS
from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.results import DIFFERENT, BestArm, Comparison
from neftune_cli.config.arm_names import spoken_name
from neftune_cli.evidence.measurements import Floats
from neftune_cli.formatting import capitalized, listed, percent, rough_share
from neftune_cli.metrics import METRICS, Metric

ARM_SPLIT_PAIRS = 100
"""Number of pairs of splits. The two splits of a pair exchange the halves of the clusters."""
MIN_CHOSEN = 0.25
"""Share of the splits that must select the best arm. With fewer, its advantage is not reported."""


def best_arm_advantage(
    aligned: AlignedMetric, baseline: str, metric: Metric, *, confidence: float, seed: int = 0
) -> BestArm | None:
    """Return the arm with the best mean, and its difference from the baseline on data that were not used to select it.

    The best of several noisy means is biased toward an improvement, even if all arms are equal: the winner's curse.
    Therefore an arm is selected on half of the seeds and half of the clusters, and the selected arm is measured on the
    rest. The advantage of the best arm is the mean over the splits that selected it. A split of the items alone is not
    enough, because all items share the effect of a seed on an arm. With a single seed only items are split; with a
    single cluster only seeds are split.

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
    indices = indices_by_label(aligned.clusters)
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
        np.zeros_like(values[best]),
        values[best],
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


# Sentences


def best_arm_sentences(comparison: Comparison) -> str | None:
    """Return the difference of the best arm on the data that selected it and on other data; None without a best arm."""
    best = comparison.best
    if best is None:
        return None
    metric = comparison.metrics.get(best.metric) or METRICS[best.metric]
    parts, candidates = " and ".join(best.split), tuple(best.chosen)
    among = listed(candidates) if len(candidates) <= MOST_NAMED_ARMS else f"{len(candidates)} arms"
    found = (
        f"{on_shared_seeds(comparison)}{best.arm} has the best mean {metric.name_within} of {among}. Its difference "
        f"from {comparison.baseline} is {metric.signed(best.naive)}."
    )
    if best.arm == comparison.declared_primary_arm:
        bias = "It is the primary arm, which was declared before the first trial. Its difference has no selection bias."
    else:
        bias = (
            f"This estimate is optimistic on average, because the arm was selected on the same {parts}. "
            f"{_advantage_elsewhere(best, metric)}"
        )
    return " ".join([found, *stopping_bias(comparison, best.arm), bias, _shares(best)])


def _advantage_elsewhere(best: BestArm, metric: Metric) -> str:
    """Return the advantage on data not used to select the arm, or its range over selected arms if few splits do."""
    if math.isfinite(best.advantage.difference):
        return (
            f"{splits_sentence(best)} In the splits that selected {best.arm}, its difference on the other half was on "
            f"average {_advantage(best.advantage, metric)}. If no arm is better than the others, about a third to a "
            "half of the bias remains."
        )
    low, high = (metric.signed(end(best.advantages.values())) for end in (min, max))
    return (
        f"{splits_sentence(best)} Fewer than a quarter of the splits selected {best.arm}, so the data do not show "
        f"which arm is best. On the other half, the mean difference of the selected arm was {low} to {high}, depending "
        "on the arm."
    )


def stopping_bias(comparison: Comparison, arm: str) -> Iterator[str]:
    """Yield a sentence if an arm stopped before the last planned look because of its difference.

    The declared comparison decides which arms stop, so a comparison that differs from it has no such sentence.
    """
    plan, one = comparison.declared, comparison.assessment(arm, comparison.primary)
    is_stopped = plan.has_planned_looks and one and one.verdict in DIFFERENT and one.looks_taken < len(plan.looks)
    if is_stopped and not comparison.departures:
        yield (
            f"{capitalized(spoken_name(arm))} stopped at a planned look because its difference was large, so the "
            "difference is too large on average. This does not affect the coverage of its interval."
        )


def on_shared_seeds(comparison: Comparison) -> str:
    """Return the start of a sentence with the seeds of the best arm's selection; empty if no arm has further seeds."""
    best = comparison.best
    most = max((one.paired.seeds for one in comparison.assessments(comparison.primary).values()), default=0)
    return f"On the {best.advantage.seeds} seeds that all arms share, " if best and best.advantage.seeds < most else ""


def splits_sentence(best: BestArm) -> str:
    """Return the sentence on the selection of an arm on other data than those that measure it."""
    parts = " and ".join(best.split)
    return f"The {parts} were split into halves many times, and the best arm on one half was selected."


def _advantage(advantage: PairedComparison, metric: Metric) -> str:
    number = metric.signed(advantage.difference)
    if not math.isfinite(advantage.ci_low):
        return number
    return f"{number} ({advantage_interval(advantage, metric)})"


def _shares(best: BestArm) -> str:
    ranked = sorted(best.chosen.items(), key=lambda one: -one[1])
    (arm, share), *others = [(arm, share) for arm, share in ranked if share > 0]
    first = f"{arm} in {rough_share(share) if others else '100%'} of the splits"
    rest = (f"{arm} in {rough_share(share)}" for arm, share in others)
    return f"The selected arm was {listed([first, *rest])}."


def advantage_interval(advantage: PairedComparison, metric: Metric) -> str:
    """Return the interval of the best arm's advantage, in words."""
    low, high = metric.signed(advantage.ci_low), metric.signed(advantage.ci_high)
    return f"{percent(advantage.confidence)} interval {low} to {high}, not adjusted for the number of arms"
