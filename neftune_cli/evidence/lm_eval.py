"""Evaluations by lm-evaluation-harness as evidence: a metric for each score, with the documents as items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import Any

from neftune_cli.errors import Problems
from neftune_cli.evidence.apart import agree, grouped, told_apart
from neftune_cli.evidence.folders import full_path
from neftune_cli.evidence.lm_eval_files import Results, Sample, find_results, prompts_digest, read_samples
from neftune_cli.evidence.lm_eval_scores import Score, group_items, task_items, task_metrics, tasks_in_groups
from neftune_cli.evidence.measurements import Evidence, ItemValues, Measurements, Setting
from neftune_cli.evidence.run_names import RunName, by_place, name_runs

_NOTE = (
    "Brought in from lm-evaluation-harness: nothing in its files shows that the runs differ in noise and seed alone, "
    "and arm and seed are what names of folders or run files say."
)
_MOST_NAMES = 3


@dataclass(frozen=True)
class _Run:
    """The newest results of every task that were written into one folder."""

    folder: Path
    newest: Mapping[str, Results]
    """Task or group to the results that count."""
    samples: Mapping[str, Sequence[Sample]]
    """Task to what was logged of its documents; tasks without are left out."""
    repeated: tuple[str, ...]
    """Tasks that were evaluated more than once."""

    @cached_property
    def scores(self) -> dict[Score, float]:
        """Return (task, metric, filter) to score."""
        return {
            (task, *key): score for task, results in self.newest.items() for key, score in results.scores(task).items()
        }

    @cached_property
    def items(self) -> dict[Score, ItemValues]:
        """Return (task, metric, filter) to the values of documents, for scores that are their mean."""
        tasks = task_items(self.scores, self.samples)
        return {**tasks, **group_items(self.scores, tasks, self._leaves)}

    @cached_property
    def _leaves(self) -> dict[str, list[str]]:
        """Return group to the tasks in it, for groups none of whose tasks was evaluated again later."""
        leaves = {group: _leaves(results, group) for group, results in self.newest.items()}
        return {
            group: tasks
            for group, tasks in leaves.items()
            if tasks != [group] and all(self.newest.get(task) is self.newest[group] for task in tasks)
        }

    @cached_property
    def shared(self) -> dict[str, Any]:
        """Return everything that is known to change scores, by task."""
        tasks = {task: _task_setting(results, task, self.samples.get(task)) for task, results in self.newest.items()}
        return {"tasks": ", ".join(sorted(tasks)), **tasks}


def lm_eval_evidence(*roots: Path) -> list[Evidence]:
    """Return the evaluations below each folder, those of the same tasks together, the setting with most runs first.

    Of a task that was evaluated several times into one folder the newest results count. Folders that are parts of
    something larger are taken together (`by_place`).

    Raises:
        UsageError: a file can't be understood, or nothing says which arm and seed a run is.
    """
    problems = Problems()
    found = {root: problems.attempt(partial(_runs_below, root)) or [] for root in roots}
    problems.raise_any()
    return [one for root, runs in by_place(found) for one in _evidence_of(root, runs)]


def _runs_below(root: Path) -> list[_Run]:
    by_folder: dict[Path, list[Results]] = {}
    for results in find_results(root):
        by_folder.setdefault(results.path.parent, []).append(results)
    problems = Problems()
    runs = [problems.attempt(partial(_run, folder, results)) for folder, results in by_folder.items()]
    problems.raise_any()
    return [run for run in runs if run and run.newest]


def _run(folder: Path, found: Sequence[Results]) -> _Run:
    by_time = sorted(found, key=lambda results: results.time)
    evaluated = [(task, results) for results in by_time for task in results.tasks if results.scores(task)]
    newest = dict(evaluated)
    tasks = [task for task, _ in evaluated]
    samples = {task: logged for task, results in newest.items() if (logged := read_samples(results, task)) is not None}
    return _Run(folder, newest, samples, tuple(task for task in newest if tasks.count(task) > 1))


def _leaves(results: Results, group: str) -> list[str]:
    below = results.of("group_subtasks", group) or []
    return [leaf for task in below for leaf in _leaves(results, task)] if below else [group]


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


def _evidence_of(root: Path, runs: Sequence[_Run]) -> list[Evidence]:
    groups = grouped(runs, lambda one, other: agree(one.shared, other.shared))
    names = name_runs([[run.folder for run in group] for group in groups], root)
    return told_apart([_evidence(root, group, names) for group in groups])


def _evidence(root: Path, runs: Sequence[_Run], names: Mapping[Path, RunName]) -> Evidence:
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


def _measurements(run: _Run, name: RunName, keys: Mapping[Score, str]) -> Measurements:
    return Measurements(
        trial=str(run.folder),
        arm=name.arm,
        alpha=name.alpha,
        seed=name.seed,
        scores={key: run.scores.get(score) for score, key in keys.items()},
        items={key: run.items[score] for score, key in keys.items() if score in run.items},
        held_out_by_epoch={},
    )


def _setting(name: str, run: _Run) -> Setting:
    adapted = next(iter(run.newest.values())).adapted_model
    model = PurePath(adapted).name if adapted else f"the models of {name}"
    shots = {results.of("n-shot", task) for task, results in run.newest.items()} - {None}
    few = f" ({shots.pop()}-shot)" if len(shots) == 1 else ""
    below = tasks_in_groups(run.newest)
    tasks = _listed([task for task in run.newest if task not in below])
    return Setting(model=model, data=tasks + few, recipe={}, shared=run.shared)


def _notes(runs: Sequence[_Run]) -> Iterator[str]:
    repeated = sorted({task for run in runs for task in run.repeated})
    if repeated:
        yield f"{_listed(repeated)}: evaluated several times in one folder; the newest results count."
    tasks = [task for task in runs[0].newest if not runs[0].newest[task].of("group_subtasks", task)]
    unlogged = [task for task in tasks if any(task not in run.samples for run in runs)]
    if unlogged:
        yield f"{_listed(unlogged)}: evaluated without --log_samples, so that intervals are over seeds alone."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
