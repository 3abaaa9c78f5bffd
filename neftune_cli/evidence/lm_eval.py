"""Evidence from lm-evaluation-harness: scores of tasks, the values of their documents, and their metrics."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from neftune_cli.errors import Problems
from neftune_cli.evidence.lm_eval_files import Results, Sample, find_results, prompts_digest, read_samples
from neftune_cli.evidence.measurements import (
    Evidence,
    ItemValues,
    Measurements,
    Setting,
    agree,
    grouped,
    with_differences,
)
from neftune_cli.evidence.run_names import RunName, by_common_folder, full_path, name_runs
from neftune_cli.formatting import listed_at_most
from neftune_cli.metrics import Margin, Metric

Score = tuple[str, str, str]
"""Task or group of tasks, metric, filter."""

SECTION = "lm-eval"
"""Title of the table of scores."""

_SAME_MEAN = 1e-6
"""Tolerance, because some scores are averages in single precision."""
_SHARE, _PERCENT = (3, Margin(0.02)), (2, Margin(2.0))
_OTHER = (3, Margin(0.01, relative=True))


def task_items(scores: Mapping[Score, float], samples: Mapping[str, Sequence[Sample]]) -> dict[Score, ItemValues]:
    """Return the values of documents for each task score that is their mean.

    The mean is compared with the score, because the files do not name the aggregation of every task. A perplexity or a
    corpus BLEU differs from the mean of the logged values.
    """
    found = {}
    for score in scores:
        task, metric, filter_ = score
        has_one_filter = sum(other[:2] == (task, metric) for other in scores) == 1
        known = samples.get(task, ())
        of_filter = [one for one in known if one.filter == filter_ or (one.filter is None and has_one_filter)]
        values = _values(of_filter, metric)
        if values is not None and _is_mean(scores[score], values):
            found[score] = values
    return found


def group_items(
    scores: Mapping[Score, float], tasks: Mapping[Score, ItemValues], leaves: Mapping[str, Sequence[str]]
) -> dict[Score, ItemValues]:
    """Return the values of documents for each group whose score is the mean over documents or over tasks."""
    found = {}
    for score in scores:
        group, metric, filter_ = score
        members = dict.fromkeys(leaves.get(group, ()))
        known = {task: tasks[task, metric, filter_] for task in members if (task, metric, filter_) in tasks}
        if not known or len(known) < len(members):
            continue
        for values in (_joined(known), _joined(known, by_task=True)):
            if _is_mean(scores[score], values):
                found[score] = values
                break
    return found


def task_metrics(scores: Sequence[Mapping[Score, float]], results: Mapping[str, Results]) -> dict[Score, Metric]:
    """Return the metric of each score, in the order of the results, with tasks of groups last."""
    in_groups = tasks_in_groups(results)
    found = sorted(dict.fromkeys(score for run in scores for score in run), key=lambda score: score[0] in in_groups)
    return {score: _metric(score, found, [run[score] for run in scores if score in run], results) for score in found}


def tasks_in_groups(results: Mapping[str, Results]) -> set[str]:
    """Return the tasks that belong to a group with a score."""
    return {task for group, found in results.items() for task in found.of("group_subtasks", group) or ()}


def _metric(score: Score, scores: Iterable[Score], values: Sequence[float], results: Mapping[str, Results]) -> Metric:
    task, metric, filter_ = score
    has_several_filters = sum(other[:2] == (task, metric) for other in scores) > 1
    of_filter = f" ({filter_})" if has_several_filters else ""
    higher = (results[task].of("higher_is_better", task) or {}).get(metric)
    decimals, margin = _decimals_and_margin(values, higher=higher)
    return Metric(
        key=f"{task}/{metric}{of_filter}",
        name=f"{task} {metric}{of_filter}",
        unit="",
        goal=None if higher is None else "higher" if higher else "lower",
        decimals=decimals,
        margin=margin,
        section=SECTION,
    )


def _decimals_and_margin(values: Sequence[float], *, higher: bool | None) -> tuple[int, Margin]:
    """Return decimals and margin of a metric. Its values show whether it is a share or a percentage."""
    known = [value for value in values if math.isfinite(value)]
    if not higher or any(not 0 <= value <= 100 for value in known):
        return _OTHER
    return _PERCENT if any(value > 1 for value in known) else _SHARE


def _values(samples: Sequence[Sample], metric: str) -> ItemValues | None:
    """Return the values of documents; None if one is not a number.

    A document that occurs twice in a task is two items in one cluster.
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
    """Return the values of several tasks, with equal weights for all documents or for all tasks."""
    return ItemValues(
        items=tuple(f"{task}/{item}" for task, values in tasks.items() for item in values.items),
        clusters=tuple(cluster for values in tasks.values() for cluster in values.clusters),
        values=np.concatenate([values.values for values in tasks.values()]),
        weights=np.concatenate([values.weights / (len(values.items) if by_task else 1) for values in tasks.values()]),
    )


def _is_mean(score: float, values: ItemValues) -> bool:
    mean = float(np.average(values.values, weights=values.weights))
    return math.isclose(mean, score, rel_tol=_SAME_MEAN, abs_tol=_SAME_MEAN)


_NOTE = (
    "These runs come from lm-evaluation-harness, whose files do not show whether the runs differ only in "
    "noise and seed. Arm and seed come from folder names or run files."
)
_MOST_NAMES = 3


@dataclass(frozen=True)
class _EvaluatedRun:
    """One run: the newest results of every task in a folder."""

    folder: Path
    newest: Mapping[str, Results]
    """Task or group to its newest results."""
    samples: Mapping[str, Sequence[Sample]]
    """Task to its logged documents; tasks without logged documents are missing."""
    repeated: tuple[str, ...]
    """Tasks with more than one evaluation."""

    @cached_property
    def scores(self) -> dict[Score, float]:
        """Return the score of each (task, metric, filter)."""
        return {
            (task, *key): score for task, results in self.newest.items() for key, score in results.scores(task).items()
        }

    @cached_property
    def items(self) -> dict[Score, ItemValues]:
        """Return the values of documents for each score that is their mean."""
        tasks = task_items(self.scores, self.samples)
        return {**tasks, **group_items(self.scores, tasks, self._leaves)}

    @cached_property
    def _leaves(self) -> dict[str, list[str]]:
        """Return the tasks of each group, without groups of which a task was evaluated again later."""
        leaves = {group: _leaves(results, group) for group, results in self.newest.items()}
        return {
            group: tasks
            for group, tasks in leaves.items()
            if tasks != [group] and all(self.newest.get(task) is self.newest[group] for task in tasks)
        }

    @cached_property
    def shared(self) -> dict[str, Any]:
        """Return the known settings of each task that can change scores."""
        tasks = {task: _task_setting(results, task, self.samples.get(task)) for task, results in self.newest.items()}
        return {"tasks": ", ".join(sorted(tasks)), **tasks}


def lm_eval_evidence(*roots: Path) -> list[Evidence]:
    """Return the evaluations below each folder, grouped by setting, the largest group first.

    If a folder has several evaluations of a task, the newest is used. Folders that are parts of a larger one are
    combined (`by_common_folder`).

    Raises:
        UsageError: a file is not valid, or the arm or seed of a run is unknown.

    """
    problems = Problems()
    found = {root: problems.attempt(partial(_runs_below, root)) or [] for root in roots}
    problems.raise_any()
    return [one for root, runs in by_common_folder(found) for one in _evidence_of(root, runs)]


def _runs_below(root: Path) -> list[_EvaluatedRun]:
    by_folder: dict[Path, list[Results]] = {}
    for results in find_results(root):
        by_folder.setdefault(results.path.parent, []).append(results)
    problems = Problems()
    runs = [problems.attempt(partial(_run, folder, results)) for folder, results in by_folder.items()]
    problems.raise_any()
    return [run for run in runs if run and run.newest]


def _run(folder: Path, found: Sequence[Results]) -> _EvaluatedRun:
    by_time = sorted(found, key=lambda results: results.time)
    evaluated = [(task, results) for results in by_time for task in results.tasks if results.scores(task)]
    newest = dict(evaluated)
    tasks = [task for task, _ in evaluated]
    samples = {task: logged for task, results in newest.items() if (logged := read_samples(results, task)) is not None}
    return _EvaluatedRun(folder, newest, samples, tuple(task for task in newest if tasks.count(task) > 1))


def _leaves(results: Results, group: str) -> list[str]:
    subtasks = results.of("group_subtasks", group) or []
    return [leaf for task in subtasks for leaf in _leaves(results, task)] if subtasks else [group]


def _task_setting(results: Results, task: str, samples: Sequence[Sample] | None) -> dict[str, Any]:
    config, documents = results.of("configs", task) or {}, results.of("n-samples", task) or {}
    return {
        "version": results.of("versions", task),
        "n-shot": results.of("n-shot", task),
        "documents": documents.get("effective"),
        "generation": str(config.get("generation_kwargs", "")),
        **results.calling,
        **({"prompts": prompts_digest(samples)} if samples else {}),
    }


def _evidence_of(root: Path, runs: Sequence[_EvaluatedRun]) -> list[Evidence]:
    groups = grouped(runs, lambda one, other: agree(one.shared, other.shared))
    names = name_runs([[run.folder for run in group] for group in groups], root)
    return with_differences([_evidence(root, group, names) for group in groups])


def _evidence(root: Path, runs: Sequence[_EvaluatedRun], names: Mapping[Path, RunName]) -> Evidence:
    in_order = sorted(runs, key=lambda run: names[run.folder].order)
    metrics = task_metrics([run.scores for run in in_order], in_order[0].newest)
    keys = {score: metric.key for score, metric in metrics.items()}
    return Evidence(
        name=full_path(root).name,
        setting=_setting(full_path(root).name, in_order[0]),
        trials=tuple(_measurements(run, names[run.folder], keys) for run in in_order),
        metrics={metric.key: metric for metric in metrics.values()},
        folders=tuple(str(run.folder) for run in in_order),
        notes=(_NOTE, *_notes(in_order)),
    )


def _measurements(run: _EvaluatedRun, name: RunName, keys: Mapping[Score, str]) -> Measurements:
    return Measurements(
        trial=str(run.folder),
        arm=name.arm,
        alpha=name.alpha,
        seed=name.seed,
        scores={key: run.scores.get(score) for score, key in keys.items()},
        items={key: run.items[score] for score, key in keys.items() if score in run.items},
        held_out_by_epoch={},
    )


def _setting(name: str, run: _EvaluatedRun) -> Setting:
    adapted = next(iter(run.newest.values())).adapted_model
    model = PurePath(adapted).name if adapted else f"the models of {name}"
    shots = {results.of("n-shot", task) for task, results in run.newest.items()} - {None}
    suffix = f" ({shots.pop()}-shot)" if len(shots) == 1 else ""
    in_groups = tasks_in_groups(run.newest)
    tasks = listed_at_most([task for task in run.newest if task not in in_groups], _MOST_NAMES)
    return Setting(model=model, data=tasks + suffix, recipe={}, shared=run.shared)


def _notes(runs: Sequence[_EvaluatedRun]) -> Iterator[str]:
    repeated = sorted({task for run in runs for task in run.repeated})
    if repeated:
        tasks = listed_at_most(repeated, _MOST_NAMES)
        yield f"Several evaluations of {tasks} are in one folder. The newest results are used."
    single = [task for task in runs[0].newest if not runs[0].newest[task].of("group_subtasks", task)]
    unlogged = [task for task in single if any(task not in run.samples for run in runs)]
    if unlogged:
        yield (
            "These tasks were evaluated without --log_samples, so their intervals are over seeds only: "
            f"{listed_at_most(unlogged, _MOST_NAMES)}."
        )
