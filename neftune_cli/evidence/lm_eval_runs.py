"""Runs of lm-evaluation-harness: the newest results of every task in a folder, with the values of the documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from neftune_cli.errors import Problems
from neftune_cli.evidence.documents import LoggedScore
from neftune_cli.evidence.json_parts import number
from neftune_cli.evidence.lm_eval_files import Results, Sample, find_results, read_samples
from neftune_cli.evidence.lm_eval_settings import prompts_agree, task_settings, without_extent
from neftune_cli.evidence.measurements import agree

Score = tuple[str, str, str]
"""Task or group of tasks, metric, filter."""


@dataclass(frozen=True)
class EvaluatedRun:
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
        tasks = {score: self._of_task(score) for score in self.scores if score[0] not in self.leaves}
        return {**tasks, **{score: self._of_group(score, tasks) for score in self.scores if score not in tasks}}

    def _of_task(self, score: Score) -> LoggedScore:
        task, metric, filter_ = score
        scored = [one for one in self.samples.get(task, ()) if one.filter == filter_ and metric in one.values]
        numbers = {one.document: number(one.values[metric]) for one in scored}
        values = {document: value for document, value in numbers.items() if value is not None}
        return LoggedScore(
            score=self.scores[score],
            values=values if len(values) == len(numbers) else {},
            logged=numbers.keys(),
            clusters={one.document: one.content for one in scored if one.content},
            expected=self.newest[task].documents(task),
        )

    def _of_group(self, score: Score, tasks: Mapping[Score, LoggedScore]) -> LoggedScore:
        """Return the score of a group, with the documents of its tasks if all of them have values."""
        group, metric, filter_ = score
        members = {task: tasks.get((task, metric, filter_)) for task in self.leaves[group]}
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
    def leaves(self) -> dict[str, list[str]]:
        """Return the tasks of each group, without groups of which a task was evaluated again later."""
        leaves = {group: results.leaves(group) for group, results in self.newest.items()}
        return {
            group: tasks
            for group, tasks in leaves.items()
            if tasks != [group] and all(self.newest.get(task) is self.newest[group] for task in tasks)
        }

    @cached_property
    def shared(self) -> dict[str, Any]:
        """Return the known settings of each task that can change scores."""
        tasks = {task: task_settings(results, task, self.samples.get(task)) for task, results in self.newest.items()}
        return {"tasks": ", ".join(sorted(tasks)), **tasks}


def runs_below(root: Path) -> list[EvaluatedRun]:
    """Return the runs at and below a folder.

    Raises:
        UsageError: a file is not valid.

    """
    by_folder: dict[Path, list[Results]] = {}
    for results in find_results(root):
        by_folder.setdefault(results.path.parent, []).append(results)
    problems = Problems()
    runs = [problems.attempt(partial(_run, folder, results)) for folder, results in by_folder.items()]
    problems.raise_any()
    return [run for run in runs if run and run.newest]


def _run(folder: Path, found: Sequence[Results]) -> EvaluatedRun:
    by_time = sorted(found, key=lambda results: results.time)
    evaluated = [(task, results) for results in by_time for task in results.tasks if results.scores(task)]
    newest = dict(evaluated)
    tasks = [task for task, _ in evaluated]
    samples = {task: logged for task, results in newest.items() if (logged := read_samples(results, task))}
    return EvaluatedRun(folder, newest, samples, tuple(task for task in newest if tasks.count(task) > 1))


def are_comparable(one: EvaluatedRun, other: EvaluatedRun) -> bool:
    """Return whether two runs agree in all known settings.

    Where both logged their documents, the documents may differ, if the prompts of common documents agree.
    """
    logged = one.samples.keys() & other.samples.keys()
    settings = [without_extent(run.shared, logged) for run in (one, other)]
    return agree(*settings) and all(prompts_agree(one.samples[task], other.samples[task]) for task in logged)
