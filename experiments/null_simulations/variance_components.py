"""Variance components of a finished sweep, the source of the numbers in `simulated_sweeps`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric, align
from neftune_cli.analysis.paired import cluster_table
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.evidence.trials import read_trial
from neftune_cli.store import SweepFolder

METRICS = ("eval_loss", "train_loss_clean", "exact_match")


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of seeds, of clusters and of the residual of a table. An estimate can be negative."""

    seed: float
    cluster: float
    residual: float


@dataclass(frozen=True)
class MetricComponents:
    """Variance components of one metric."""

    level: float
    """Mean of the baseline, in the metric's unit."""
    values: VarianceComponents
    """Components of the values of an arm, mean over arms."""
    differences: Mapping[str, VarianceComponents]
    """Components of the difference treated minus baseline, by treated arm."""
    covariance: float
    """Covariance over seeds between the baseline and a treated arm, mean over the treated arms."""
    variance: float
    """Variance over seeds of an arm, mean of the baseline and of the average treated arm."""
    between_arms: float
    """Correlation over seeds between two treated arms, mean over their pairs; NaN with one treated arm."""
    arms: Mapping[str, tuple[float, float, float, float]]
    """Arm to its mean, its standard deviation over seeds, its correlation with the baseline, and the share of the
    squared standard error of its difference that is due to seeds. The baseline has neither of the last two: NaN."""

    @property
    def correlation(self) -> float:
        """Return the share of an arm's variance over seeds that pairing by seed removes."""
        return self.covariance / self.variance


def sweep_components(folder: Path) -> dict[str, MetricComponents]:
    """Return the variance components of a sweep by metric. Metrics without several seeds and clusters are omitted.

    Raises:
        UsageError: a file of the sweep is missing or invalid.
    """
    trials: dict[str, dict[int, Measurements]] = {}
    for trial_folder, record in SweepFolder(folder).finished():
        if record.arm != BASE_ARM and record.seed is not None:
            trials.setdefault(record.arm, {})[record.seed] = read_trial(trial_folder, record)
    aligned = {key: align(trials, key) for key in METRICS}
    return {key: metric_components(one) for key, one in aligned.items() if one is not None and _is_crossed(one)}


def metric_components(metric: AlignedMetric) -> MetricComponents:
    """Return the variance components of one metric."""
    means = np.average(metric.values, axis=2, weights=metric.weights)
    covariances, correlations = (np.atleast_2d(of(means)) for of in (np.cov, np.corrcoef))
    own, pairs = np.diag(covariances), correlations[1:, 1:][np.triu_indices(len(means) - 1, k=1)]
    return MetricComponents(
        level=float(means[0].mean()),
        values=_mean([_components(arm, metric) for arm in metric.values]),
        differences={arm: _components(metric.arm(arm) - metric.values[0], metric) for arm in metric.arms[1:]},
        covariance=float(covariances[0, 1:].mean()),
        variance=float(own[0] + own[1:].mean()) / 2,
        between_arms=float(pairs.mean()) if pairs.size else math.nan,
        arms={
            arm: (float(means[row].mean()), float(own[row] ** 0.5), *_with_baseline(metric, row, correlations))
            for row, arm in enumerate(metric.arms)
        },
    )


def _with_baseline(metric: AlignedMetric, row: int, correlations: Floats) -> tuple[float, float]:
    """Return the correlation of an arm with the baseline, and the share of seeds in SE^2 of its difference."""
    if row == 0:
        return math.nan, math.nan
    compared = metric.compare(metric.values[0], metric.values[row], confidence=0.95)
    assert compared is not None
    mean = compared.crossed
    return float(correlations[0, row]), mean.seed_variance / mean.seeds / mean.standard_error**2


def table_components(
    table: Floats,  # (seeds, clusters)
) -> VarianceComponents:
    """Return the variance components of two crossed factors from the mean squares of the analysis of variance."""
    seeds, clusters = table.shape
    by_seed = clusters * table.mean(axis=1).var(ddof=1)
    by_cluster = seeds * table.mean(axis=0).var(ddof=1)
    total = table.size * table.var()
    residual = (total - (seeds - 1) * by_seed - (clusters - 1) * by_cluster) / ((seeds - 1) * (clusters - 1))
    return VarianceComponents(
        float(by_seed - residual) / clusters, float(by_cluster - residual) / seeds, float(residual)
    )


def _is_crossed(metric: AlignedMetric) -> bool:
    return min(len(metric.arms), len(metric.seeds), len(set(metric.clusters))) > 1


def _components(values: Floats, metric: AlignedMetric) -> VarianceComponents:
    return table_components(cluster_table(values, np.broadcast_to(metric.weights, values.shape), metric.clusters))


def _mean(several: Sequence[VarianceComponents]) -> VarianceComponents:
    return VarianceComponents(*map(float, np.mean([astuple(one) for one in several], axis=0)))
