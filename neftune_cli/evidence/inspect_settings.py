"""Settings in a log of inspect_ai that can change scores. Runs are compared if all known settings agree."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neftune_cli.evidence.inspect_content import InspectLog
from neftune_cli.evidence.json_parts import comparable, digest, mapping, mappings

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


def without_extent(shared: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    """Return the settings without those that determine the samples of these tasks."""
    parts = {task: {part: value for part, value in shared[task].items() if part not in _EXTENT} for task in tasks}
    return {**shared, **parts}


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
