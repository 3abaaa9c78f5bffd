"""Evidence from lm-evaluation-harness: scores of tasks, the values of their documents, and their metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import Any

from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.documents import (
    MOST_NAMES,
    LoggedScore,
    SharedScore,
    check_contents,
    decimals_and_margin,
    equal_task_weights,
    notes_on_documents,
    over_shared_documents,
    shared_measurements,
)
from neftune_cli.evidence.lm_eval_files import Results, Sample, find_results, prompts_digest, read_samples
from neftune_cli.evidence.measurements import Evidence, Setting, agree, grouped, with_differences
from neftune_cli.evidence.run_names import RunName, by_common_folder, full_path, name_runs
from neftune_cli.formatting import listed_at_most
from neftune_cli.metrics import Metric

Score = tuple[str, str, str]
"""Task or group of tasks, metric, filter."""

SECTION = "lm-eval"
"""Title of the table of scores."""


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
    decimals, margin = decimals_and_margin(values, higher=higher)
    return Metric(
        key=f"{task}/{metric}{of_filter}",
        name=f"{task} {metric}{of_filter}",
        unit="",
        goal=None if higher is None else "higher" if higher else "lower",
        decimals=decimals,
        margin=margin,
        section=SECTION,
    )


_NOTE = (
    "These runs come from lm-evaluation-harness, whose files do not show whether the runs differ only in "
    "noise and seed. Arm and seed come from folder names or run files."
)
_EXTENT = ("limit", "documents")
"""Settings of a task that determine the documents, not their values."""


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
    def logged(self) -> dict[Score, LoggedScore]:
        """Return each score of a task or group with the values of its documents."""
        tasks = {score: self._of_task(score) for score in self.scores if score[0] not in self._leaves}
        return {**tasks, **{score: self._of_group(score, tasks) for score in self.scores if score not in tasks}}

    def _of_task(self, score: Score) -> LoggedScore:
        task, metric, filter_ = score
        scored = [one for one in self.samples.get(task, ()) if one.filter == filter_ and metric in one.values]
        values = {one.document: one.values[metric] for one in scored}
        if not all(isinstance(value, int | float) for value in values.values()):
            return LoggedScore(self.scores[score])
        return LoggedScore(
            score=self.scores[score],
            values={document: float(value) for document, value in values.items()},
            clusters={one.document: one.content for one in scored if one.content},
            expected=self.newest[task].documents(task),
        )

    def _of_group(self, score: Score, tasks: Mapping[Score, LoggedScore]) -> LoggedScore:
        """Return the score of a group, with the documents of its tasks if all of them have values."""
        group, metric, filter_ = score
        members = {task: tasks.get((task, metric, filter_)) for task in self._leaves[group]}
        known = {task: one for task, one in members.items() if one and one.values}
        if len(known) < len(members):
            return LoggedScore(self.scores[score])
        counts = [one.expected for one in known.values() if one.expected is not None]
        return LoggedScore(
            score=self.scores[score],
            values={
                f"{task}/{document}": value for task, one in known.items() for document, value in one.values.items()
            },
            clusters={f"{task}/{key}": cluster for task, one in known.items() for key, cluster in one.clusters.items()},
            expected=sum(counts) if len(counts) == len(known) else None,
        )

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
    config = results.of("configs", task) or {}
    return {
        "version": results.of("versions", task),
        "n-shot": results.of("n-shot", task),
        "documents": results.documents(task),
        "generation": str(config.get("generation_kwargs", "")),
        **results.calling,
        **({"prompts": prompts_digest(samples)} if samples else {}),
    }


def _evidence_of(root: Path, runs: Sequence[_EvaluatedRun]) -> list[Evidence]:
    groups = grouped(runs, _are_comparable)
    names = name_runs([[run.folder for run in group] for group in groups], root)
    if problems := [problem for group in groups for problem in _differing_contents(group)]:
        raise UsageError(*problems)
    return with_differences([_evidence(root, group, names) for group in groups])


def _are_comparable(one: _EvaluatedRun, other: _EvaluatedRun) -> bool:
    """Return whether two runs agree in all known settings.

    Where both logged their documents, the documents may differ, if the prompts of common documents agree.
    """
    logged = one.samples.keys() & other.samples.keys()
    settings = [_without_extent(run.shared, logged) for run in (one, other)]
    return agree(*settings) and all(_prompts_agree(one.samples[task], other.samples[task]) for task in logged)


def _without_extent(shared: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    excluded = (*_EXTENT, "prompts")
    parts = {task: {part: value for part, value in shared[task].items() if part not in excluded} for task in tasks}
    return {**shared, **parts}


def _prompts_agree(samples: Sequence[Sample], others: Sequence[Sample]) -> bool:
    """Return whether two runs have a document in common, and the same prompts for documents with the same content."""
    prompts = {(one.number, one.filter): (one.content, one.prompt) for one in samples}
    pairs = [(prompts.get((one.number, one.filter)), (one.content, one.prompt)) for one in others]
    common = [(first, second) for first, second in pairs if first is not None]
    return bool(common) and all(first == second or first[0] != second[0] for first, second in common)


def _differing_contents(group: Sequence[_EvaluatedRun]) -> Iterator[Problem]:
    for task in group[0].newest:
        contents = [
            (run.newest[task].samples_path(task), {one.document: one.content for one in samples if one.content})
            for run in group
            if (samples := run.samples.get(task))
        ]
        yield from check_contents(task, contents, "document")


def _evidence(root: Path, runs: Sequence[_EvaluatedRun], names: Mapping[Path, RunName]) -> Evidence:
    in_order = sorted(runs, key=lambda run: names[run.folder].order)
    metrics = task_metrics([run.scores for run in in_order], in_order[0].newest)
    shared = {metrics[score].key: _over_shared_documents(score, in_order) for score in metrics}
    return Evidence(
        name=full_path(root).name,
        setting=_setting(full_path(root).name, in_order[0]),
        trials=tuple(
            shared_measurements(str(run.folder), names[run.folder], shared, place) for place, run in enumerate(in_order)
        ),
        metrics={metric.key: metric for metric in metrics.values()},
        folders=tuple(str(run.folder) for run in in_order),
        notes=(_NOTE, *_notes(in_order), *_notes_on_documents(in_order[0], metrics, shared)),
    )


def _over_shared_documents(score: Score, runs: Sequence[_EvaluatedRun]) -> SharedScore:
    """Return a score over the documents that all runs have: a mean over documents, or for groups also over tasks."""
    logged = [run.logged.get(score) for run in runs]
    found = over_shared_documents(logged)
    is_over_tasks = not found.is_mean and _is_group(score[0], runs[0])
    return over_shared_documents(logged, equal_task_weights) if is_over_tasks else found


def _is_group(task: str, run: _EvaluatedRun) -> bool:
    return bool(run.newest[task].of("group_subtasks", task))


def _notes_on_documents(
    run: _EvaluatedRun, metrics: Mapping[Score, Metric], shared: Mapping[str, SharedScore]
) -> Iterator[str]:
    by_task: dict[str, dict[str, SharedScore]] = {}
    for (task, _, _), metric in metrics.items():
        by_task.setdefault(task, {})[metric.name] = shared[metric.key]
    return notes_on_documents(by_task, "document", without=[task for task in by_task if _is_group(task, run)])


def _setting(name: str, run: _EvaluatedRun) -> Setting:
    adapted = next(iter(run.newest.values())).adapted_model
    model = PurePath(adapted).name if adapted else f"the models of {name}"
    shots = {results.of("n-shot", task) for task, results in run.newest.items()} - {None}
    suffix = f" ({shots.pop()}-shot)" if len(shots) == 1 else ""
    in_groups = tasks_in_groups(run.newest)
    tasks = listed_at_most([task for task in run.newest if task not in in_groups], MOST_NAMES)
    return Setting(model=model, data=tasks + suffix, recipe={}, shared=run.shared)


def _notes(runs: Sequence[_EvaluatedRun]) -> Iterator[str]:
    repeated = sorted({task for run in runs for task in run.repeated})
    if repeated:
        tasks = listed_at_most(repeated, MOST_NAMES)
        yield f"Several evaluations of {tasks} are in one folder. The newest results are used."
    single = [task for task in runs[0].newest if not _is_group(task, runs[0])]
    unlogged = [task for task in single if any(task not in run.samples for run in runs)]
    if unlogged:
        yield (
            "These tasks were evaluated without --log_samples, so their intervals are over seeds only: "
            f"{listed_at_most(unlogged, MOST_NAMES)}."
        )
