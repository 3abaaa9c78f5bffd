"""Variance components of a finished sweep's records: where the numbers in `scenarios` come from."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from neftune_cli.analysis.alignment import AlignedMetric, align
from neftune_cli.analysis.paired import cluster_table
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.evidence.sweeps import read_trial
from neftune_cli.store import SweepFolder

METRICS = ("eval_loss", "train_loss_clean", "exact_match")


@dataclass(frozen=True)
class Components:
    """Variances of seeds, of clusters, and of what is left in a table of both; an estimate may be below zero."""

    seed: float
    cluster: float
    rest: float


@dataclass(frozen=True)
class MetricComponents:
    """What the records of one metric say about its scenario."""

    level: float
    """Mean of the baseline."""
    values: Components
    """Of an arm's own values, mean over arms."""
    differences: Mapping[str, Components]
    """Of treated minus baseline, by treated arm."""
    covariance: float
    """Of the means of the baseline and of a treated arm over seeds, mean over the treated arms."""
    variance: float
    """Of an arm's mean over seeds, halfway between the baseline and the treated arms."""

    @property
    def correlation(self) -> float:
        """Return how much of an arm's variance over seeds the baseline shares: what pairing by seed takes out."""
        return self.covariance / self.variance


def sweep_components(folder: Path) -> dict[str, MetricComponents]:
    """Return what the records of a sweep say, by metric that several seeds and clusters have; baseline first.

    Raises:
        UsageError: a file of it is missing or can't be understood.
    """
    trials: dict[str, dict[int, Measurements]] = {}
    for trial_folder, record in SweepFolder(folder).finished():
        if record.arm != BASE_ARM and record.seed is not None:
            trials.setdefault(record.arm, {})[record.seed] = read_trial(trial_folder, record)
    aligned = {key: align(trials, key) for key in METRICS}
    return {key: metric_components(one) for key, one in aligned.items() if one is not None and _is_crossed(one)}


def metric_components(metric: AlignedMetric) -> MetricComponents:
    """Return what the values of one metric say."""
    means = np.average(metric.values, axis=2, weights=metric.weights)
    covariances = np.cov(means)
    own = np.diag(covariances)
    return MetricComponents(
        level=float(means[0].mean()),
        values=_mean([_components(arm, metric) for arm in metric.values]),
        differences={arm: _components(metric.arm(arm) - metric.values[0], metric) for arm in metric.arms[1:]},
        covariance=float(covariances[0, 1:].mean()),
        variance=float(own[0] + own[1:].mean()) / 2,
    )


def table_components(
    table: Floats,  # (seeds, clusters)
) -> Components:
    """Return the components of a table of two crossed factors, from the mean squares of the analysis of variance."""
    seeds, clusters = table.shape
    by_seed = clusters * table.mean(axis=1).var(ddof=1)
    by_cluster = seeds * table.mean(axis=0).var(ddof=1)
    total = table.size * table.var()
    rest = (total - (seeds - 1) * by_seed - (clusters - 1) * by_cluster) / ((seeds - 1) * (clusters - 1))
    return Components(float(by_seed - rest) / clusters, float(by_cluster - rest) / seeds, float(rest))


def _is_crossed(metric: AlignedMetric) -> bool:
    return min(len(metric.arms), len(metric.seeds), len(set(metric.clusters))) > 1


def _components(values: Floats, metric: AlignedMetric) -> Components:
    return table_components(cluster_table(values, np.broadcast_to(metric.weights, values.shape), metric.clusters))


def _mean(several: Sequence[Components]) -> Components:
    return Components(*map(float, np.mean([astuple(one) for one in several], axis=0)))
