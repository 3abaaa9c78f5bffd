"""What lm-evaluation-harness scored: documents behind each score, and how each metric is to be read."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from neftune_cli.evidence.lm_eval_files import Results, Sample
from neftune_cli.evidence.measurements import ItemValues
from neftune_cli.evidence.metrics import Margin, Metric

Score = tuple[str, str, str]
"""Task or group of tasks, metric, filter."""

SECTION = "lm-eval"
"""Title of the table that these metrics stand in."""

_SAME_MEAN = 1e-6
"""Relative; scores may have been averaged in single precision."""
_SHARE, _PERCENT = (3, Margin(0.02)), (2, Margin(2.0))
_OTHER = (3, Margin(0.01, relative=True))


def task_items(scores: Mapping[Score, float], samples: Mapping[str, Sequence[Sample]]) -> dict[Score, ItemValues]:
    """Return the documents' values of the tasks' scores that are means of them.

    A score is that if the mean says so: the aggregation isn't written down for all tasks, and a perplexity or a corpus
    BLEU differs from any mean of what was logged.
    """
    found = {}
    for score in scores:
        task, metric, filter_ = score
        alone = sum(other[:2] == (task, metric) for other in scores) == 1
        of_filter = [one for one in samples.get(task, ()) if one.filter == filter_ or (one.filter is None and alone)]
        values = _values(of_filter, metric)
        if values is not None and _is_mean(scores[score], values):
            found[score] = values
    return found


def group_items(
    scores: Mapping[Score, float], tasks: Mapping[Score, ItemValues], leaves: Mapping[str, Sequence[str]]
) -> dict[Score, ItemValues]:
    """Return the documents' values of groups of tasks whose score is the mean of all of them, or of their tasks'."""
    found = {}
    for score in scores:
        group, metric, filter_ = score
        parts = {task: tasks.get((task, metric, filter_)) for task in leaves.get(group, ())}
        known = {task: values for task, values in parts.items() if values is not None}
        if not known or len(known) < len(parts):
            continue
        for values in (_joined(known), _joined(known, by_task=True)):
            if _is_mean(scores[score], values):
                found[score] = values
                break
    return found


def task_metrics(scores: Sequence[Mapping[Score, float]], results: Mapping[str, Results]) -> dict[Score, Metric]:
    """Return each score of these runs as a metric, in the order of the results, tasks in groups behind the others."""
    below = tasks_in_groups(results)
    found = sorted(dict.fromkeys(score for run in scores for score in run), key=lambda score: score[0] in below)
    return {score: _metric(score, found, [run[score] for run in scores if score in run], results) for score in found}


def tasks_in_groups(results: Mapping[str, Results]) -> set[str]:
    """Return the tasks that stand in a group which is scored itself."""
    return {task for group, found in results.items() for task in found.of("group_subtasks", group) or ()}


def _metric(score: Score, scores: Iterable[Score], values: Sequence[float], results: Mapping[str, Results]) -> Metric:
    task, metric, filter_ = score
    several = sum(other[:2] == (task, metric) for other in scores) > 1
    of_filter = f" ({filter_})" if several else ""
    higher = (results[task].of("higher_is_better", task) or {}).get(metric)
    decimals, margin = _reading(values, higher=higher)
    return Metric(
        key=f"{task}/{metric}{of_filter}",
        name=f"{task} {metric}{of_filter}",
        heading=task,
        unit=f"{metric}{of_filter}",
        goal=None if higher is None else "higher" if higher else "lower",
        decimals=decimals,
        margin=margin,
        section=SECTION,
    )


def _reading(values: Sequence[float], *, higher: bool | None) -> tuple[int, Margin]:
    """Return decimals and margin of a metric: nothing but its values tells a share from a percentage."""
    known = [value for value in values if math.isfinite(value)]
    if not higher or any(not 0 <= value <= 100 for value in known):
        return _OTHER
    return _PERCENT if any(value > 1 for value in known) else _SHARE


def _values(samples: Sequence[Sample], metric: str) -> ItemValues | None:
    """Return what the documents count with, None where that isn't a number.

    A document that a task asks twice is two items of one cluster.
    """
    scored = [sample for sample in samples if metric in sample.values]
    values = [sample.values[metric] for sample in scored]
    if not values or not all(isinstance(value, int | float) for value in values):
        return None
    times: dict[str, int] = {}
    items = []
    for sample in scored:
        times[sample.document] = times.get(sample.document, 0) + 1
        items.append(sample.document if times[sample.document] == 1 else f"{sample.document}#{times[sample.document]}")
    clusters = tuple(sample.document for sample in scored)
    return ItemValues(tuple(items), clusters, np.array(values, dtype=np.float64), np.ones(len(values)))


def _joined(tasks: Mapping[str, ItemValues], *, by_task: bool = False) -> ItemValues:
    """Return the documents of several tasks together, each the same weight, or else each task."""
    return ItemValues(
        items=tuple(f"{task}/{item}" for task, values in tasks.items() for item in values.items),
        clusters=tuple(cluster for values in tasks.values() for cluster in values.clusters),
        values=np.concatenate([values.values for values in tasks.values()]),
        weights=np.concatenate([values.weights / (len(values.items) if by_task else 1) for values in tasks.values()]),
    )


def _is_mean(score: float, values: ItemValues) -> bool:
    mean = float(np.average(values.values, weights=values.weights))
    return math.isclose(mean, score, rel_tol=_SAME_MEAN, abs_tol=_SAME_MEAN)
