"""Evidence from the logs of inspect_ai: scores of tasks, the values of their samples, and their metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from neftune_cli.errors import Problem, Problems, UsageError, alternatives, did_you_mean
from neftune_cli.evidence.folders import full_path
from neftune_cli.evidence.inspect_files import find_logs
from neftune_cli.evidence.inspect_runs import InspectRun, TaskScore, are_comparable, runs_of, tasks_with_arguments
from neftune_cli.evidence.logged_documents import (
    Contents,
    SharedScore,
    decimals_and_margin,
    evidence_by_setting,
    notes_on_documents,
    over_shared_documents,
    shared_measurements,
)
from neftune_cli.evidence.measurements import MOST_NAMES, Evidence, Setting, TrialOrigin
from neftune_cli.evidence.run_names import RunName, by_common_folder, origin_note
from neftune_cli.formatting import counted, listed_at_most
from neftune_cli.metrics import INSPECT_TABLE, Metric

_ITEM = "sample"

_NOTE = origin_note("inspect logs, which")
_HIGHER_IS_BETTER = "accuracy"
_INCOMPLETE_FIX = "Run `inspect eval-retry` with the log, or remove it."


def inspect_evidence(*roots: Path, cluster_by: str | None = None) -> list[Evidence]:
    """Return the evaluations below each folder, grouped by setting, the largest group first.

    If a folder has several complete logs of a task, the newest is used. Folders that are parts of a larger one are
    combined (`by_common_folder`).

    Args:
        roots: folders.
        cluster_by: field of the samples' metadata. Samples with the same value form a cluster.

    Raises:
        UsageError: a file is not valid, no log is complete, the arm or seed of a run is unknown, or no sample has the
            field `cluster_by`.
    """
    problems = Problems()
    logs = {root: problems.attempt(partial(find_logs, root)) or [] for root in roots}
    every = list(dict.fromkeys(log.path for of_root in logs.values() for log in of_root))
    named = tasks_with_arguments([log for of_root in logs.values() for log in of_root])
    read = partial(runs_of, with_arguments=named, cluster_by=cluster_by)
    found = {root: problems.attempt(partial(read, of_root)) or [] for root, of_root in logs.items()}
    problems.raise_any()
    runs = [run for of_root in found.values() for run in of_root]
    unused = list(dict.fromkeys(line for run in runs for line in run.unused))
    complete = {root: [run for run in of_root if run.logs] for root, of_root in found.items()}
    if every and not any(complete.values()):
        raise UsageError(*(Problem(f"{line}.", _INCOMPLETE_FIX) for line in unused))
    if cluster_by and every:
        _check_field(cluster_by, runs)
    evidence = [
        one
        for root, of_root in by_common_folder(complete)
        for one in evidence_by_setting(root, of_root, are_comparable, _contents, _evidence, _ITEM)
    ]
    return [*(replace(one, unfinished=tuple(unused)) for one in evidence[:1]), *evidence[1:]]


def _check_field(cluster_by: str, runs: Iterable[InspectRun]) -> None:
    samples = [one for run in runs for log in run.logs.values() for one in log.samples]
    fields = list(dict.fromkeys(name for one in samples for name in one.metadata))
    if cluster_by not in fields:
        fix = did_you_mean(cluster_by, fields) or (f"Use {alternatives(fields)}." if fields else "Leave it out.")
        what = "no sample has this field in its metadata" if fields else "the samples have no metadata"
        raise UsageError(Problem(f"--cluster-by {cluster_by}: {what}.", fix))


def _contents(group: Sequence[InspectRun]) -> dict[str, Contents]:
    return {
        task: [
            (run.logs[task].path, {one: content for one, content in run.samples(task).items() if content})
            for run in group
        ]
        for task in group[0].logs
    }


def _evidence(root: Path, runs: Sequence[InspectRun], names: Mapping[Path, RunName]) -> Evidence:
    metrics = _metrics(runs)
    shared = {
        metric.key: over_shared_documents([run.logged.get(score) for run in runs]) for score, metric in metrics.items()
    }
    return Evidence(
        name=full_path(root).name,
        setting=Setting(
            model=f"the models of {full_path(root).name}",
            data=listed_at_most(list(runs[0].logs), MOST_NAMES),
            recipe={},
            shared=runs[0].shared,
        ),
        trials=shared_measurements(runs, names, shared),
        metrics={metric.key: metric for metric in metrics.values()},
        origin=TrialOrigin(
            tuple(str(run.folder) for run in runs),
            reading_options=("--cluster-by", runs[0].cluster_by) if runs[0].cluster_by else (),
        ),
        notes=(_NOTE, *_notes(runs, metrics, shared, [names[run.folder] for run in runs])),
    )


def _metrics(runs: Sequence[InspectRun]) -> dict[TaskScore, Metric]:
    """Return the metric of each score, in the order of the logs."""
    found = list(dict.fromkeys(score for run in runs for score in run.scores))
    return {score: _metric(score, found, runs) for score in found}


def _metric(score: TaskScore, found: Sequence[TaskScore], runs: Sequence[InspectRun]) -> Metric:
    """Return the metric of a score. Its name has the scorer or the reducer of epochs if there are several."""
    task, one = score
    same = [other for of_task, other in found if (of_task, other.name, other.metric) == (task, one.name, one.metric)]
    name = f"{one.scorer}.{one.name}" if len({other.scorer for other in same}) > 1 else one.name
    reducer = f" ({one.reducer})" if len({other.reducer for other in same}) > 1 else ""
    with_score = [run for run in runs if score in run.scores]
    is_higher = one.metric == _HIGHER_IS_BETTER or all(run.logs[task].has_grades(one) for run in with_score)
    decimals, margin = decimals_and_margin([run.scores[score] for run in with_score], higher=is_higher or None)
    return Metric(
        key=f"{task}/{name}/{one.metric}{reducer}",
        name=f"{task} {name} {one.metric}{reducer}",
        unit="",
        goal="higher" if is_higher else None,
        decimals=decimals,
        margin=margin,
        section=INSPECT_TABLE,
        item=_ITEM,
    )


def _notes(
    runs: Sequence[InspectRun],
    metrics: Mapping[TaskScore, Metric],
    shared: Mapping[str, SharedScore],
    names: Sequence[RunName],
) -> Iterator[str]:
    if repeated := sorted({task for run in runs for task in run.repeated}):
        tasks = listed_at_most(repeated, MOST_NAMES)
        yield f"Several logs of {tasks} are in one folder. The newest complete logs are used."
    without_score = {task for (task, _), metric in metrics.items() if shared[metric.key].unlogged}
    unlogged = [task for task in runs[0].logs if not all(run.has_values(task) for run in runs)]
    if unlogged := [task for task in unlogged if task not in without_score]:
        yield (
            "These tasks have logs without samples, so their intervals are over seeds only: "
            f"{listed_at_most(unlogged, MOST_NAMES)}."
        )
    by_task: dict[str, dict[str, SharedScore]] = {}
    for (task, _), metric in metrics.items():
        by_task.setdefault(task, {})[metric.name] = shared[metric.key]
    yield from notes_on_documents(by_task, _ITEM, names)
    if runs[0].cluster_by:
        yield from _notes_on_clusters(runs[0])


def _notes_on_clusters(run: InspectRun) -> Iterator[str]:
    yield f"Samples with the same {run.cluster_by} in their metadata form a cluster."
    for task in run.logs:
        samples = run.samples(task)
        if lacking := len(samples) - len(run.clusters(task)):
            of_task = f"{lacking:,} of {counted(len(samples), 'sample')} of {task}"
            yield f"{of_task} have no {run.cluster_by}. Each of them is a cluster of its own."
