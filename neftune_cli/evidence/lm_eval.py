"""Evidence from lm-evaluation-harness: scores of tasks, the values of their documents, and their metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

from neftune_cli.errors import Problems
from neftune_cli.evidence.folders import full_path, trial_folders
from neftune_cli.evidence.json_parts import mapping
from neftune_cli.evidence.lm_eval_files import Results
from neftune_cli.evidence.lm_eval_runs import EvaluatedRun, Score, are_comparable, run_of_trial, runs_below
from neftune_cli.evidence.logged_documents import (
    Contents,
    SharedScore,
    decimals_and_margin,
    equal_task_weights,
    evidence_by_setting,
    notes_on_documents,
    over_shared_documents,
    shared_measurements,
)
from neftune_cli.evidence.measurements import MOST_NAMES, Evidence, Measurements, Setting, TrialOrigin
from neftune_cli.evidence.run_names import RunName, by_common_folder, origin_note
from neftune_cli.formatting import listed_at_most
from neftune_cli.metrics import TASKS_TABLE, Metric, task_metric_key


def with_task_scores(evidence: Evidence) -> Evidence:
    """Return the evidence of a sweep with the scores of the tasks that its trials evaluated in memory.

    Raises:
        UsageError: a file of a trial is not valid.
    """
    ids = {one.trial_id for one in evidence.trials}
    folders = trial_folders(evidence)
    found = {id_: run for id_, folder in folders.items() if id_ in ids and (run := run_of_trial(folder))}
    if not found:
        return evidence
    runs = list(found.values())
    metrics = task_metrics([run.scores for run in runs], runs[0].newest)
    by_score = _shared_scores(metrics, runs)
    shared = {metric.key: by_score[score] for score, metric in metrics.items()}
    indices = {trial: index for index, trial in enumerate(found)}
    return replace(
        evidence,
        trials=tuple(_with_scores(one, shared, indices.get(one.trial_id)) for one in evidence.trials),
        metrics={**evidence.metrics, **{metric.key: metric for metric in metrics.values()}},
    )


def _with_scores(trial: Measurements, shared: Mapping[str, SharedScore], index: int | None) -> Measurements:
    if index is None:
        return replace(trial, scores={**trial.scores, **dict.fromkeys(shared)})
    scores = {key: one.scores[index] for key, one in shared.items()}
    items = {key: values for key, one in shared.items() if (values := one.items[index]) is not None}
    return replace(trial, scores={**trial.scores, **scores}, items={**trial.items, **items})


def task_metrics(scores: Sequence[Mapping[Score, float]], results: Mapping[str, Results]) -> dict[Score, Metric]:
    """Return the metric of each score, in the order of the results, with tasks of groups last."""
    in_groups = tasks_in_groups(results)
    found = sorted(dict.fromkeys(score for run in scores for score in run), key=lambda score: score[0] in in_groups)
    return {score: _metric(score, found, [run[score] for run in scores if score in run], results) for score in found}


def tasks_in_groups(results: Mapping[str, Results]) -> set[str]:
    """Return the tasks that belong to a group with a score."""
    return {task for group, found in results.items() for task in found.subtasks(group)}


def _metric(score: Score, scores: Iterable[Score], values: Sequence[float], results: Mapping[str, Results]) -> Metric:
    task, metric, filter_ = score
    key = task_metric_key(task, metric, filter_, filters=sum(other[:2] == (task, metric) for other in scores))
    higher = mapping(results[task].of("higher_is_better", task)).get(metric)
    decimals, margin = decimals_and_margin(values, higher=higher)
    return Metric(
        key=key,
        name=f"{task} {key.removeprefix(f'{task}/')}",
        unit="",
        goal=None if higher is None else "higher" if higher else "lower",
        decimals=decimals,
        margin=margin,
        section=TASKS_TABLE,
        item=_ITEM,
    )


_ITEM = "document"
_NOTE = origin_note("lm-evaluation-harness, whose files")


def lm_eval_evidence(*roots: Path) -> list[Evidence]:
    """Return the evaluations below each folder, grouped by setting, the largest group first.

    If a folder has several evaluations of a task, the newest is used. Folders that are parts of a larger one are
    combined (`by_common_folder`).

    Raises:
        UsageError: a file is not valid, or the arm or seed of a run is unknown.
    """
    problems = Problems()
    found = {root: problems.attempt(partial(runs_below, root)) or [] for root in roots}
    problems.raise_any()
    return [
        one
        for root, runs in by_common_folder(found)
        for one in evidence_by_setting(root, runs, are_comparable, _contents, _evidence, _ITEM)
    ]


def _contents(group: Sequence[EvaluatedRun]) -> dict[str, Contents]:
    return {
        task: [
            (run.newest[task].samples_path(task), {one.document: one.content for one in samples if one.content})
            for run in group
            if (samples := run.samples.get(task))
        ]
        for task in group[0].newest
    }


def _evidence(root: Path, runs: Sequence[EvaluatedRun], names: Mapping[Path, RunName]) -> Evidence:
    metrics = task_metrics([run.scores for run in runs], runs[0].newest)
    by_score = _shared_scores(metrics, runs)
    shared = {metric.key: by_score[score] for score, metric in metrics.items()}
    run_names = [names[run.folder] for run in runs]
    return Evidence(
        name=full_path(root).name,
        setting=_setting(full_path(root).name, runs[0]),
        trials=shared_measurements(runs, names, shared),
        metrics={metric.key: metric for metric in metrics.values()},
        origin=TrialOrigin(tuple(str(run.folder) for run in runs)),
        notes=(_NOTE, *_notes(runs, by_score), *_notes_on_documents(runs[0], metrics, shared, run_names)),
    )


def _shared_scores(scores: Iterable[Score], runs: Sequence[EvaluatedRun]) -> dict[Score, SharedScore]:
    """Return the scores over the documents that all runs have."""
    of_groups = [score for score in scores if _is_group(score[0], runs[0])]
    of_tasks = {
        score: over_shared_documents([run.logged.get(score) for run in runs])
        for score in scores
        if score not in of_groups
    }
    return {**of_tasks, **{score: _shared_group_score(score, runs, of_tasks) for score in of_groups}}


def _shared_group_score(
    score: Score, runs: Sequence[EvaluatedRun], of_tasks: Mapping[Score, SharedScore]
) -> SharedScore:
    """Return the score of a group: a mean over documents or over tasks, or as it was logged.

    A run without the values of all tasks has no score if documents of any task are left out.
    """
    logged = [run.logged.get(score) for run in runs]
    found = over_shared_documents(logged)
    found = found if found.is_mean else over_shared_documents(logged, equal_task_weights)
    members = [(task, *score[1:]) for run in runs for task in run.newest[score[0]].leaves(score[0])]
    if not any(of_tasks[member].left_out for member in members if member in of_tasks):
        return found
    unlogged = tuple(index for index, run in enumerate(logged) if run and not run.values)
    scores = tuple(None if index in unlogged else one for index, one in enumerate(found.scores))
    return replace(found, scores=scores, unlogged=unlogged)


def _is_group(task: str, run: EvaluatedRun) -> bool:
    return bool(run.newest[task].subtasks(task))


def _notes_on_documents(
    run: EvaluatedRun,
    metrics: Mapping[Score, Metric],
    shared: Mapping[str, SharedScore],
    names: Sequence[RunName],
) -> Iterator[str]:
    by_task: dict[str, dict[str, SharedScore]] = {}
    for (task, _, _), metric in metrics.items():
        by_task.setdefault(task, {})[metric.name] = shared[metric.key]
    return notes_on_documents(by_task, _ITEM, names, without=[task for task in by_task if _is_group(task, run)])


def _setting(name: str, run: EvaluatedRun) -> Setting:
    adapted = next(iter(run.newest.values())).adapted_model
    model = PurePath(adapted).name if adapted else f"the models of {name}"
    shots = {str(shots) for task, results in run.newest.items() if (shots := results.of("n-shot", task)) is not None}
    suffix = f" ({shots.pop()}-shot)" if len(shots) == 1 else ""
    in_groups = tasks_in_groups(run.newest)
    tasks = listed_at_most([task for task in run.newest if task not in in_groups], MOST_NAMES)
    return Setting(model=model, data=tasks + suffix, recipe={}, shared=run.shared)


def _notes(runs: Sequence[EvaluatedRun], shared: Mapping[Score, SharedScore]) -> Iterator[str]:
    repeated = sorted({task for run in runs for task in run.repeated})
    if repeated:
        tasks = listed_at_most(repeated, MOST_NAMES)
        yield f"Several evaluations of {tasks} are in one folder. The newest results are used."
    single = [task for task in runs[0].newest if not _is_group(task, runs[0])]
    without_score = {task for (task, _, _), one in shared.items() if one.unlogged}
    unlogged = [task for task in single if task not in without_score and any(task not in run.samples for run in runs)]
    if unlogged:
        yield (
            "These tasks were evaluated without --log_samples, so their intervals are over seeds only: "
            f"{listed_at_most(unlogged, MOST_NAMES)}."
        )
