"""Runs of inspect_ai: the newest complete logs of one model in one folder, with the values of the samples."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.grouping import agree, without_parts
from neftune_cli.evidence.inspect_log import SUCCESS, InspectLog, InspectScore
from neftune_cli.evidence.json_parts import canonical, comparable, digest, mapping, mappings
from neftune_cli.evidence.logged_documents import LoggedScore
from neftune_cli.evidence.measurements import MOST_NAMES
from neftune_cli.evidence.run_names import has_run_name
from neftune_cli.formatting import listed_at_most

TaskScore = tuple[str, InspectScore]
"""Task, score."""


@dataclass(frozen=True)
class InspectRun:
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
    def scores(self) -> dict[TaskScore, float]:
        """Return all scores."""
        return {(task, score): value for task, log in self.logs.items() for score, value in log.scores.items()}

    @cached_property
    def logged(self) -> dict[TaskScore, LoggedScore]:
        """Return each score with the values of its samples."""
        return {
            (task, score): LoggedScore(
                value, log.values(score), self.clusters(task), log.scored(score), log.names(score)
            )
            for task, log in self.logs.items()
            for score, value in log.scores.items()
        }

    def clusters(self, task: str) -> dict[str, str]:
        """Return the cluster of each sample of a task that has the field `cluster_by`."""
        known = {one.sample: one.metadata.get(str(self.cluster_by)) for one in self.logs[task].samples}
        return {sample: canonical(value) for sample, value in known.items() if self.cluster_by and value is not None}

    def samples(self, task: str) -> dict[str, str]:
        """Return the samples of a task, each with a hash of its input, empty if the input is unknown."""
        return {one.sample: one.content for one in self.logs[task].samples}

    def has_values(self, task: str) -> bool:
        """Return whether samples of a task have values."""
        return any(one.values for (of_task, _), one in self.logged.items() if of_task == task)

    @cached_property
    def shared(self) -> dict[str, Any]:
        """Return the known settings of each task that can change scores."""
        return {"tasks": ", ".join(sorted(self.logs)), **{task: settings(log) for task, log in self.logs.items()}}


def tasks_with_arguments(logs: Sequence[InspectLog]) -> set[str]:
    """Return the tasks that were evaluated with several sets of arguments in one folder, which are separate tasks."""
    arguments: dict[tuple[Path, str, str], set[str]] = {}
    for log in logs:
        arguments.setdefault((log.path.parent, log.model_folder, log.task), set()).add(canonical(log.arguments))
    return {task for (_, _, task), found in arguments.items() if len(found) > 1}


def runs_of(logs: Sequence[InspectLog], with_arguments: Collection[str], cluster_by: str | None) -> list[InspectRun]:
    """Return the runs of these logs: one for each folder and model.

    Args:
        logs: of any folders.
        with_arguments: tasks that are separate tasks for each set of arguments.
        cluster_by: field of the samples' metadata, or None.

    Raises:
        UsageError: the arm of a model in a folder with several models is unknown.
    """
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


def are_comparable(one: InspectRun, other: InspectRun) -> bool:
    """Return whether two runs agree in all known settings. Where both logged their samples, the samples may differ."""
    logged = [task for task in one.logs.keys() & other.logs.keys() if one.samples(task) and other.samples(task)]
    shared = [without_parts(run.shared, logged, _EXTENT) for run in (one, other)]
    return agree(*shared) and all(one.samples(task).keys() & other.samples(task).keys() for task in logged)


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
) -> InspectRun:
    """Return the run of one model in one folder, from its logs in the order of their times."""
    by_task: dict[str, list[InspectLog]] = {}
    for log in logs:
        by_task.setdefault(_task_name(log, with_arguments), []).append(log)
    complete = {task: [log for log in found if not _fault(log)] for task, found in by_task.items()}
    return InspectRun(
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


_GENERATION = (
    "system_message",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop_seqs",
    "best_of",
    "num_choices",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "parallel_tool_calls",
    "internal_tools",
    "max_tool_output",
    "fallback_models",
    "verbosity",
    "effort",
    "reasoning_effort",
    "reasoning_mode",
    "reasoning_tokens",
    "reasoning_summary",
    "reasoning_history",
    "response_schema",
    "extra_body",
    "modalities",
)
"""Settings of generation that change responses (`GenerateConfig` of inspect_ai 0.3.285)."""
_OPERATION = (
    "max_retries",
    "timeout",
    "attempt_timeout",
    "stream_idle_timeout",
    "max_connections",
    "adaptive_connections",
    "extra_headers",
    "cache",
    "cache_prompt",
    "batch",
    "fail_on_refusal",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "seed",
)
"""Settings of generation that are no differences: connections, logged probabilities, and the seed of sampling."""
_MODEL_ARGUMENTS = ("dtype", "torch_dtype", "chat_template", "enable_thinking", "load_in_8bit", "load_in_4bit")
_LIMITS = (
    "message_limit",
    "token_limit",
    "token_limit_type",
    "turn_limit",
    "time_limit",
    "working_limit",
    "cost_limit",
    "score_on_error",
    "approval",
)
"""Settings of the evaluation that end a sample or change its score."""
_EXTENT = ("limit", "sample ids", "samples")
"""Settings of a task that determine the samples, not their values."""


def settings(log: InspectLog) -> dict[str, Any]:
    """Return the known settings of a task that can change scores, or determine its samples.

    A setting that the log does not have is None if the default applies then, and missing if it is unknown.
    """
    plan = mapping(log.header.get("plan"))
    generation = {**_set(log.spec.get("model_generate_config")), **_set(plan.get("config"))}
    return {
        "version": log.spec.get("task_version"),
        "arguments": comparable(log.arguments or None),
        "data set": mapping(log.spec.get("dataset")).get("name"),
        "solvers": digest(solvers) if (solvers := _solvers(plan)) else None,
        **dict(_scorers(log)),
        "model roles": comparable(_roles(log) or None),
        "backend": str(log.spec.get("model", "")).partition("/")[0],
        "epochs": log.epochs,
        **_generation(generation),
        **{name.replace("_", " "): comparable(log.config.get(name)) for name in _LIMITS},
        **{name: comparable(log.model_arguments[name]) for name in _MODEL_ARGUMENTS if name in log.model_arguments},
        "limit": comparable(log.config.get("limit")),
        "sample ids": comparable(log.config.get("sample_id")),
        **({} if log.evaluated is None else {"samples": log.evaluated}),
    }


def _set(values: Any) -> dict[str, Any]:
    """Return the settings with a value. Logs write null for the others."""
    return {name: value for name, value in mapping(values).items() if value is not None}


def _generation(values: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in values.items() if name not in (*_GENERATION, *_OPERATION)}
    known = {name.replace("_", " "): comparable(values.get(name)) for name in _GENERATION}
    return {**known, "other generation settings": comparable(others or None)}


def _solvers(plan: Mapping[str, Any]) -> list[Any]:
    """Return the solvers with the parameters that the user gave."""
    steps = [*mappings(plan.get("steps")), *mappings([plan.get("finish")])]
    given = [(step.get("solver"), step.get("params_passed"), step.get("params")) for step in steps]
    return [[solver, _set(every if passed is None else passed)] for solver, passed, every in given]


def _scorers(log: InspectLog) -> Iterator[tuple[str, Any]]:
    """Yield the options of each scorer. Older versions log them only as parameters of the scores."""
    scorers = [(one.get("name"), one.get("options")) for one in mappings(log.spec.get("scorers"))]
    scores = [(one.get("scorer", one.get("name")), one.get("params")) for one in mappings(log.results.get("scores"))]
    by_name: dict[str, list[Any]] = {}
    for name, options in scorers or scores:
        by_name.setdefault(str(name), []).append(_set(options))
    for name, given in by_name.items():
        distinct = [one for place, one in enumerate(given) if one not in given[:place]]
        yield f"scorer {name}", comparable(distinct[0] if len(distinct) == 1 else distinct) if any(given) else None


def _roles(log: InspectLog) -> dict[str, Any]:
    """Return the models of the roles, for example of a grader."""
    roles = _set(log.spec.get("model_roles"))
    return {
        role: [_role(one) for one in mappings(found)] if isinstance(found, list) else _role(mapping(found))
        for role, found in roles.items()
    }


def _role(found: Mapping[str, Any]) -> Any:
    """Return the name of a model, with its arguments and settings of generation if it has any."""
    generation = {name: value for name, value in _set(found.get("config")).items() if name not in _OPERATION}
    arguments = {name: value for name, value in _set(found.get("args")).items() if name != "device"}
    return [found.get("model"), generation, arguments] if generation or arguments else found.get("model")
