"""Settings in the results of lm-evaluation-harness that can change scores. Runs are compared if all of them agree."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neftune_cli.evidence.json_parts import comparable, digest, mapping
from neftune_cli.evidence.lm_eval_files import Results, Sample

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


def without_extent(shared: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    """Return the settings without those that determine the documents and the prompts of these tasks."""
    parts = {task: {part: value for part, value in shared[task].items() if part not in _OF_DOCUMENTS} for task in tasks}
    return {**shared, **parts}


def prompts_agree(samples: Sequence[Sample], others: Sequence[Sample]) -> bool:
    """Return whether two runs have a document in common, and the same prompts for documents with the same content."""
    prompts = {(one.number, one.filter): (one.content, one.prompt) for one in samples}
    pairs = [(prompts.get((one.number, one.filter)), (one.content, one.prompt)) for one in others]
    common = [(first, second) for first, second in pairs if first is not None]
    return bool(common) and all(first == second or first[0] != second[0] for first, second in common)
