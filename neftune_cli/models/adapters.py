"""Adapters of PEFT as models: find the base model, and merge the adapter into it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from neftune_cli.config.values import parse_path
from neftune_cli.errors import Problem
from neftune_cli.formatting import and_more
from neftune_cli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE_MODEL, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_PICKLE = "adapter_model.bin"
NOT_MERGEABLE = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT"}
"""Types of adapters that PEFT cannot merge into the weights of a model."""


def is_adapter(directory: Path) -> bool:
    """Return whether a directory contains an adapter."""
    return (directory / ADAPTER_CONFIG).is_file()


def adapter_problems(directory: Path) -> Iterator[Problem]:
    """Yield the problems that prevent merging the adapter in a directory, as far as its files show them."""
    path = directory / ADAPTER_CONFIG
    config = read_json(path)
    if config is None:
        yield Problem(f"{path} is not a JSON object.", "Copy or download it again.")
        return
    if (kind := config.get("peft_type")) in NOT_MERGEABLE:
        yield Problem(f"The adapter in {directory}, {kind}, cannot be merged into a model.", "Use a LoRA adapter.")
    if (task := config.get("task_type")) not in (None, "CAUSAL_LM"):
        what = f"The adapter in {directory} is for the task {task}, not for a language model."
        yield Problem(what, "Use an adapter of a causal language model.")
    if not config.get(BASE_MODEL):
        yield Problem(f"{path} does not name a base model.", f"Set {BASE_MODEL} in it.")
    if not (directory / ADAPTER_WEIGHTS).is_file():
        pickled = f", only {ADAPTER_PICKLE}, which can run code" if (directory / ADAPTER_PICKLE).is_file() else ""
        fix = "Copy or download it, or save the adapter again with save_pretrained."
        yield Problem(f"{directory} has no {ADAPTER_WEIGHTS}{pickled}.", fix)


def base_model_name(directory: Path) -> str:
    """Return the name of the base model of an adapter; a path relative to the adapter is made absolute."""
    name = str((read_json(directory / ADAPTER_CONFIG) or {})[BASE_MODEL])
    beside = directory / Path(name)
    return str(beside.resolve()) if not parse_path(name).is_dir() and beside.is_dir() else name


def merged(model: "PreTrainedModel", directory: Path) -> "PreTrainedModel":
    """Merge the adapter in a directory into its base model, which is modified, and return it.

    Raises:
        ValueError: the weights of the adapter belong to another model.
    """
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(cast(Any, model), str(directory))
    report = adapted.load_adapter(str(directory), adapter_name="default")
    if unknown := sorted([*report.missing_keys, *report.unexpected_keys]):
        raise ValueError(f"the adapter belongs to another model, {unknown[0]} does not fit{and_more(unknown)}")
    plain = cast(Any, adapted).merge_and_unload(safe_merge=True).requires_grad_(requires_grad=True).eval()
    # adapters that are trained on this model name it as their base
    plain.name_or_path = plain.config._name_or_path = str(directory)
    return cast("PreTrainedModel", plain)
