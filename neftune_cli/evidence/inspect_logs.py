"""Evidence from the logs of inspect_ai: scores of tasks, the values of their samples, and their metrics."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import Problem, Problems, UsageError, alternatives, did_you_mean
from neftune_cli.evidence.documents import (
    MOST_NAMES,
    LoggedScore,
    SharedScore,
    check_contents,
    decimals_and_margin,
    notes_on_documents,
    over_shared_documents,
    shared_measurements,
)
from neftune_cli.evidence.inspect_files import SUCCESS, InspectLog, InspectScore, find_logs
from neftune_cli.evidence.measurements import Evidence, Setting, agree, grouped, with_differences
from neftune_cli.evidence.run_names import RunName, by_common_folder, full_path, has_run_name, name_runs
from neftune_cli.formatting import counted, listed_at_most
from neftune_cli.metrics import Metric

_Score = tuple[str, InspectScore]
"""Task, score."""

SECTION = "inspect"
"""Title of the table of scores."""

_NOTE = (
    "These runs come from inspect logs, which do not show whether the runs differ only in noise and seed. "
    "Arm and seed come from folder names or run files."
)
_GENERATION = ("temperature", "top_p", "top_k", "max_tokens", "system_message", "stop_seqs", "reasoning_effort")
"""Settings of generation that change responses. Most other settings are about connections."""
_MODEL_ARGUMENTS = ("dtype", "torch_dtype", "chat_template", "enable_thinking", "load_in_8bit", "load_in_4bit")
_LIMITS = ("message_limit", "token_limit")
_EXTENT = ("limit", "sample ids", "samples")
"""Settings of a task that determine the samples, not their values."""
_HIGHER_IS_BETTER = "accuracy"
_INCOMPLETE_FIX = "Run `inspect eval-retry` with the log, or remove it."


@dataclass(frozen=True)
class _InspectRun:
    """One run: the newest complete logs of one model in one folder, one for each task."""

    folder: Path
    """Folder of the logs, with the model if its name has an alpha or a seed, or if the folder has several models."""
    logs: Mapping[str, InspectLog]
    repeated: tuple[str, ...]
    """Tasks with several complete logs."""
    unused: tuple[str, ...]
    """One sentence for each task without a complete log."""
    cluster_by: str | None

    @cached_property
    def scores(self) -> dict[_Score, float]:
        """Return all scores."""
        return {(task, score): value for task, log in self.logs.items() for score, value in log.scores.items()}

    @cached_property
    def logged(self) -> dict[_Score, LoggedScore]:
        """Return each score with the values of its samples."""
        return {
            (task, score): LoggedScore(value, log.values(score), self.clusters(task), log.evaluated)
            for task, log in self.logs.items()
            for score, value in log.scores.items()
        }

    def clusters(self, task: str) -> dict[str, str]:
        """Return the cluster of each sample of a task that has the field `cluster_by`."""
        known = {one.sample: one.metadata.get(str(self.cluster_by)) for one in self.logs[task].samples}
        return {sample: _canonical(value) for sample, value in known.items() if self.cluster_by and value is not None}

    def samples(self, task: str) -> dict[str, str]:
        """Return the samples of a task, each with a hash of its input, empty if the input is unknown."""
        return {one.sample: one.content for one in self.logs[task].samples}

    def has_values(self, task: str) -> bool:
        """Return whether samples of a task have values."""
        return any(one.values for (of_task, _), one in self.logged.items() if of_task == task)

    @cached_property
    def shared(self) -> dict[str, Any]:
        """Return the known settings of each task that can change scores."""
        return {"tasks": ", ".join(sorted(self.logs)), **{task: _settings(log) for task, log in self.logs.items()}}


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
    named = _with_arguments([log for of_root in logs.values() for log in of_root])
    found = {root: problems.attempt(partial(_runs, of_root, named, cluster_by)) or [] for root, of_root in logs.items()}
    problems.raise_any()
    runs = [run for of_root in found.values() for run in of_root]
    unused = list(dict.fromkeys(line for run in runs for line in run.unused))
    complete = {root: [run for run in of_root if run.logs] for root, of_root in found.items()}
    if every and not any(complete.values()):
        raise UsageError(*(Problem(f"{line}.", _INCOMPLETE_FIX) for line in unused))
    if cluster_by and every:
        _check_field(cluster_by, runs)
    evidence = [one for root, of_root in by_common_folder(complete) for one in _evidence_of(root, of_root)]
    return [*(replace(one, unfinished=tuple(unused)) for one in evidence[:1]), *evidence[1:]]


def _check_field(cluster_by: str, runs: Iterable[_InspectRun]) -> None:
    samples = [one for run in runs for log in run.logs.values() for one in log.samples]
    fields = list(dict.fromkeys(name for one in samples for name in one.metadata))
    if cluster_by not in fields:
        fix = did_you_mean(cluster_by, fields) or (f"Use {alternatives(fields)}." if fields else "Leave it out.")
        what = "no sample has this field in its metadata" if fields else "the samples have no metadata"
        raise UsageError(Problem(f"--cluster-by {cluster_by}: {what}.", fix))


def _with_arguments(logs: Sequence[InspectLog]) -> set[str]:
    """Return the tasks that were evaluated with several sets of arguments in one folder, which are separate tasks."""
    arguments: dict[tuple[Path, str, str], set[str]] = {}
    for log in logs:
        arguments.setdefault((log.path.parent, log.model_folder, log.task), set()).add(_canonical(log.arguments))
    return {task for (_, _, task), found in arguments.items() if len(found) > 1}


def _runs(logs: Sequence[InspectLog], with_arguments: Collection[str], cluster_by: str | None) -> list[_InspectRun]:
    """Return the runs of these logs: one for each folder and model."""
    by_folder: dict[Path, dict[str, list[InspectLog]]] = {}
    for log in sorted(logs, key=lambda log: log.order):
        by_folder.setdefault(log.path.parent, {}).setdefault(log.model_folder, []).append(log)
    problems = [problem for folder, models in by_folder.items() for problem in _unnamed_models(folder, list(models))]
    if problems:
        raise UsageError(*problems)
    return [
        _run(folder / model if _has_name(model) or len(models) > 1 else folder, found, with_arguments, cluster_by)
        for folder, models in by_folder.items()
        for model, found in models.items()
    ]


def _has_name(model: str) -> bool:
    return has_run_name(Path(model)) or BASE_ARM in model.split("__")


def _unnamed_models(folder: Path, models: Sequence[str]) -> Iterator[Problem]:
    unnamed = [model for model in models if not _has_name(model)]
    if len(models) > 1 and unnamed:
        listing = listed_at_most(unnamed, MOST_NAMES)
        fix = "Move the logs of each model to a folder of its own, for example alpha=5,seed=0."
        yield Problem(f"{folder} has logs of {len(models)} models, and the arm of some is unknown: {listing}.", fix)


def _run(
    folder: Path, logs: Sequence[InspectLog], with_arguments: Collection[str], cluster_by: str | None
) -> _InspectRun:
    """Return the run of one model in one folder, from its logs in the order of their times."""
    by_task: dict[str, list[InspectLog]] = {}
    for log in logs:
        by_task.setdefault(_task_name(log, with_arguments), []).append(log)
    complete = {task: [log for log in found if not _fault(log)] for task, found in by_task.items()}
    return _InspectRun(
        folder=folder,
        logs={task: found[-1] for task, found in complete.items() if found},
        repeated=tuple(task for task, found in complete.items() if len(found) > 1),
        unused=tuple(f"{by_task[task][-1].path} {_fault(by_task[task][-1])}" for task in by_task if not complete[task]),
        cluster_by=cluster_by,
    )


def _task_name(log: InspectLog, with_arguments: Collection[str]) -> str:
    if log.task not in with_arguments or not log.arguments:
        return log.task
    return f"{log.task} ({', '.join(f'{name}={value}' for name, value in log.arguments.items())})"


def _fault(log: InspectLog) -> str:
    """Return the reason not to use a log; empty if there is none."""
    if log.status != SUCCESS:
        return f"is not complete (status {log.status})"
    return "" if log.scores else "has no scores"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _digest(value: Any) -> str | None:
    return sha256(_canonical(value).encode()).hexdigest() if value else None


def _settings(log: InspectLog) -> dict[str, Any]:
    """Return the known settings of a task that can change scores, or determine its samples."""
    config, arguments, generation = log.config, log.model_arguments, log.generation
    return {
        "version": log.spec.get("task_version"),
        "arguments": _canonical(log.arguments) if log.arguments else None,
        "data set": log.dataset,
        "solvers": _digest(log.solvers),
        "backend": str(log.spec.get("model", "")).partition("/")[0],
        **{name.replace("_", " "): _written(generation.get(name)) for name in _GENERATION},
        **{name.replace("_", " "): _written(config.get(name)) for name in _LIMITS},
        **{name: _written(arguments[name]) for name in _MODEL_ARGUMENTS if name in arguments},
        "limit": _written(config.get("limit")),
        "sample ids": _written(config.get("sample_id")),
        "samples": log.evaluated,
    }


def _written(value: Any) -> Any:
    return _canonical(value) if isinstance(value, list | dict) else value


def _evidence_of(root: Path, runs: Sequence[_InspectRun]) -> list[Evidence]:
    groups = grouped(runs, _are_comparable)
    names = name_runs([[run.folder for run in group] for group in groups], root)
    if problems := [problem for group in groups for problem in _differing_contents(group)]:
        raise UsageError(*problems)
    return with_differences([_evidence(root, group, names) for group in groups])


def _are_comparable(one: _InspectRun, other: _InspectRun) -> bool:
    """Return whether two runs agree in all known settings. Where both logged their samples, the samples may differ."""
    logged = [task for task in one.logs.keys() & other.logs.keys() if one.samples(task) and other.samples(task)]
    settings = [_without_extent(run.shared, logged) for run in (one, other)]
    return agree(*settings) and all(one.samples(task).keys() & other.samples(task).keys() for task in logged)


def _without_extent(shared: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    parts = {task: {part: value for part, value in shared[task].items() if part not in _EXTENT} for task in tasks}
    return {**shared, **parts}


def _differing_contents(group: Sequence[_InspectRun]) -> Iterator[Problem]:
    for task in group[0].logs:
        contents = [
            (run.logs[task].path, {one: content for one, content in run.samples(task).items() if content})
            for run in group
        ]
        yield from check_contents(task, contents, "sample")


def _evidence(root: Path, runs: Sequence[_InspectRun], names: Mapping[Path, RunName]) -> Evidence:
    in_order = sorted(runs, key=lambda run: names[run.folder].order)
    metrics = _metrics(in_order)
    shared = {
        metric.key: over_shared_documents([run.logged.get(score) for run in in_order])
        for score, metric in metrics.items()
    }
    return Evidence(
        name=full_path(root).name,
        setting=Setting(
            model=f"the models of {full_path(root).name}",
            data=listed_at_most(list(in_order[0].logs), MOST_NAMES),
            recipe={},
            shared=in_order[0].shared,
        ),
        trials=tuple(
            shared_measurements(str(run.folder), names[run.folder], shared, place) for place, run in enumerate(in_order)
        ),
        metrics={metric.key: metric for metric in metrics.values()},
        folders=tuple(str(run.folder) for run in in_order),
        notes=(_NOTE, *_notes(in_order, metrics, shared)),
    )


def _metrics(runs: Sequence[_InspectRun]) -> dict[_Score, Metric]:
    """Return the metric of each score, in the order of the logs."""
    found = list(dict.fromkeys(score for run in runs for score in run.scores))
    return {score: _metric(score, found, runs) for score in found}


def _metric(score: _Score, found: Sequence[_Score], runs: Sequence[_InspectRun]) -> Metric:
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
        section=SECTION,
    )


def _notes(
    runs: Sequence[_InspectRun], metrics: Mapping[_Score, Metric], shared: Mapping[str, SharedScore]
) -> Iterator[str]:
    if repeated := sorted({task for run in runs for task in run.repeated}):
        tasks = listed_at_most(repeated, MOST_NAMES)
        yield f"Several logs of {tasks} are in one folder. The newest complete logs are used."
    if unlogged := [task for task in runs[0].logs if not all(run.has_values(task) for run in runs)]:
        yield (
            "These tasks have logs without samples, so their intervals are over seeds only: "
            f"{listed_at_most(unlogged, MOST_NAMES)}."
        )
    by_task: dict[str, dict[str, SharedScore]] = {}
    for (task, _), metric in metrics.items():
        by_task.setdefault(task, {})[metric.name] = shared[metric.key]
    yield from notes_on_documents(by_task, "sample")
    if runs[0].cluster_by:
        yield from _notes_on_clusters(runs[0])


def _notes_on_clusters(run: _InspectRun) -> Iterator[str]:
    yield f"Samples with the same {run.cluster_by} in their metadata form a cluster."
    for task in run.logs:
        samples = run.samples(task)
        if lacking := len(samples) - len(run.clusters(task)):
            of_task = f"{lacking:,} of {counted(len(samples), 'sample')} of {task}"
            yield f"{of_task} have no {run.cluster_by}. Each of them is a cluster of its own."
