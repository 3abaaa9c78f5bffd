"""Runs of lm-evaluation-harness: the newest results of every task in a folder, with the values of the documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from neftune_cli.errors import Problems
from neftune_cli.evidence.grouping import agree, without_parts
from neftune_cli.evidence.json_parts import comparable, digest, mapping, number
from neftune_cli.evidence.lm_eval_files import Results, Sample, find_results, read_in_memory, read_samples
from neftune_cli.evidence.logged_documents import LoggedScore
from neftune_cli.store import TASK_DOCUMENTS_FILE, TASK_SCORES_FILE, TrialFolder

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


def run_of_trial(folder: TrialFolder) -> EvaluatedRun | None:
    """Return the evaluation of a trial's model, None if its sweep names no tasks.

    Raises:
        UsageError: a file is not valid.
    """
    paths = folder.task_files()
    if not paths:
        return None
    results, samples = read_in_memory(paths[TASK_SCORES_FILE], paths[TASK_DOCUMENTS_FILE])
    newest = {task: results for task in results.tasks if results.scores(task)}
    return EvaluatedRun(folder.path, newest, samples, ())


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
    settings = [without_parts(run.shared, logged, _OF_DOCUMENTS) for run in (one, other)]
    return agree(*settings) and all(prompts_agree(one.samples[task], other.samples[task]) for task in logged)


_MODEL_ARGUMENTS = ("dtype", "max_length", "add_bos_token", "load_in_8bit", "load_in_4bit", "enable_thinking")
"""Model arguments that can change responses. Most other arguments name the model or its device."""
_SCORING = ("output_type", "repeats", "metric_list", "filter_list", "generation_kwargs")
"""Fields of a task's configuration that determine responses and their scores."""
_CONTENT = (
    "dataset_path",
    "dataset_name",
    "test_split",
    "description",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "target_delimiter",
    "fewshot_delimiter",
    "gen_prefix",
)
"""Fields of a task's configuration that determine documents and prompts, which logged documents show themselves."""
_OF_DOCUMENTS = ("limit", "documents", "prompts", *_CONTENT)
"""Settings of a task that are compared document by document if the documents were logged."""


def task_settings(results: Results, task: str, samples: Sequence[Sample] | None) -> dict[str, Any]:
    """Return the known settings of a task that can change scores, or determine its documents."""
    config, documents = mapping(results.of("configs", task)), results.documents(task)
    return {
        "version": comparable(results.of("versions", task)),
        "n-shot": comparable(results.of("n-shot", task)),
        **{name: comparable(config[name]) for name in (*_SCORING, *_CONTENT) if name in config},
        **_call_settings(results),
        **({} if documents is None else {"documents": documents}),
        **({"prompts": _prompts_digest(samples)} if samples else {}),
    }


def _call_settings(results: Results) -> dict[str, Any]:
    """Return the settings of the call that can change the scores of all tasks."""
    settings = {
        "backend": results.config.get("model"),
        "dtype": results.config.get("model_dtype"),
        "limit": results.config.get("limit"),
        "generation arguments": results.config.get("gen_kwargs") or None,
        "few-shot seed": results.config.get("fewshot_seed"),
        "chat template": results.values.get("chat_template_sha"),
        "system instruction": results.values.get("system_instruction_sha"),
        "few-shot turns": results.values.get("fewshot_as_multiturn"),
        **({"model": results.adapted_model} if results.adapted_model else {}),
        **{name: results.model_arguments[name] for name in _MODEL_ARGUMENTS if name in results.model_arguments},
    }
    return {name: comparable(value) for name, value in settings.items()}


def _prompts_digest(samples: Sequence[Sample]) -> str:
    """Return a hash of all documents, prompts and targets, independent of their order."""
    return digest(sorted({str((sample.content, *sample.prompt)) for sample in samples}))


def prompts_agree(samples: Sequence[Sample], others: Sequence[Sample]) -> bool:
    """Return whether two runs have a document in common, and the same prompts for documents with the same content."""
    prompts = {(one.number, one.filter): (one.content, one.prompt) for one in samples}
    pairs = [(prompts.get((one.number, one.filter)), (one.content, one.prompt)) for one in others]
    common = [(first, second) for first, second in pairs if first is not None]
    return bool(common) and all(first == second or first[0] != second[0] for first, second in common)
