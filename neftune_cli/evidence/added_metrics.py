"""Metrics that are added to the evidence of sweeps: ratings of judges, and scores of the user's own functions."""

from collections.abc import Mapping, Set
from dataclasses import replace
from statistics import fmean

import numpy as np

from neftune_cli.config.arm_names import trial_key
from neftune_cli.evidence.measurements import MOST_NAMES, Evidence, ItemValues, Measurements
from neftune_cli.formatting import counted, listed_at_most
from neftune_cli.metrics import Metric
from neftune_cli.records import MetricScores

ItemScores = dict[str, dict[str, float]]
"""Trial id to example id to score."""


def with_item_metric(evidence: Evidence, metric: Metric, values: ItemScores, source: str) -> Evidence:
    """Return the evidence with a metric of the responses. It is compared over the items that all measured trials have.

    Args:
        evidence: of one sweep.
        metric: the added metric.
        values: its value for each response.
        source: where the values come from, for the note on missing ones.
    """
    measured = [values[one.trial_id] for one in evidence.trials if values.get(one.trial_id)]
    shared = set.intersection(*map(set, measured)) if measured else set()
    return replace(
        evidence,
        trials=tuple(_with_values(one, metric.key, values.get(one.trial_id, {}), shared) for one in evidence.trials),
        metrics={**evidence.metrics, metric.key: metric},
        notes=(*evidence.notes, *_missing(evidence, values, len(shared), source, metric)),
    )


def with_stored_scores(evidence: Evidence, scores: MetricScores | None) -> Evidence:
    """Return the evidence of a sweep with its own metric, from the scores that the sweep stored. No function is run."""
    if scores is None or (metric := scores.metric()) is None:
        return evidence
    return with_item_metric(evidence, metric, scores.values, f"--metric {scores.key}")


def with_trial_metric(evidence: Evidence, metric: Metric, values: Mapping[str, float]) -> Evidence:
    """Return the evidence with a metric that has one value for each trial id, and none for the trials without one."""
    trials = (replace(one, scores={**one.scores, metric.key: values.get(one.trial_id)}) for one in evidence.trials)
    return replace(evidence, trials=tuple(trials), metrics={**evidence.metrics, metric.key: metric})


def _with_values(trial: Measurements, key: str, values: Mapping[str, float], shared: Set[str]) -> Measurements:
    """Return a trial with the values of its responses to the shared items."""
    responses = trial.responses
    if not (responses and values and shared):
        return replace(trial, scores={**trial.scores, key: None})
    rows = [row for row in zip(responses.items, responses.clusters, strict=True) if row[0] in shared]
    items, clusters = tuple(item for item, _ in rows), tuple(cluster for _, cluster in rows)
    numbers = np.array([values[item] for item in items], dtype=np.float64)
    scores = {**trial.scores, key: fmean(numbers.tolist()) if rows else None}
    added = {key: ItemValues(items, clusters, numbers, np.ones(len(rows)))} if rows else {}
    return replace(trial, scores=scores, items={**trial.items, **added})


def _missing(evidence: Evidence, values: ItemScores, shared: int, source: str, metric: Metric) -> tuple[str, ...]:
    """Return a sentence on the responses without a value, none if every response has one."""
    responses = [one.responses for one in evidence.trials]
    total = sum(len(one.items) for one in responses if one)
    missing = total - sum(len(values.get(one.trial_id, ())) for one in evidence.trials)
    if not missing:
        return ()
    without = [trial_key(one.arm, one.seed) for one in evidence.trials if not values.get(one.trial_id)]
    left_out = f" Trials without any: {listed_at_most(without, MOST_NAMES)}." if without else ""
    return (
        f"{source} has no value for {missing} of {counted(total, 'response')}. {metric.name} is compared over the "
        f"{counted(shared, 'prompt')} for which all {'other ' if without else ''}trials have one.{left_out}",
    )
