"""A model that was found, loaded: float32 weights of a causal language model, and a tokenizer ready to talk."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from neftune_cli.errors import Problem, UsageError
from neftune_cli.models.chat_template import prepare_tokenizer
from neftune_cli.models.files import CONFIG, quiet_transformers
from neftune_cli.models.gguf import converted, default_cache
from neftune_cli.models.sources import ModelSource

PASS_A_DECODER = "Pass a model that continues text, such as SmolLM2, Qwen, Llama or GPT-2."
CAUSAL_TOLERANCE = 1e-4
"""Share of the largest logit that float32 rounding stays far below."""
FETCH_AGAIN = "Copy or download it again (in a git clone: git lfs pull)."


@dataclass(frozen=True)
class LoadedModel:
    """A model and the tokenizer that belongs to it, ready to fine-tune."""

    model: PreTrainedModel
    """In evaluation mode, on the CPU, all weights float32."""
    tokenizer: PreTrainedTokenizerBase
    """Has a padding token, an end-of-sequence token and a chat template."""
    notes: tuple[str, ...]
    """What was changed or chosen on the way, each in one sentence for the user."""


def load_model(source: ModelSource, *, cache: Path | None = None) -> LoadedModel:
    """Load model and tokenizer, never running code that comes with them.

    Args:
        source: what `find_model` found.
        cache: where a GGUF file is unpacked to, once; the user's cache directory unless given.

    Raises:
        UsageError: the files are damaged, or hold no causal language model that transformers knows by itself.
    """
    checkpoint = _checkpoint(source, cache or default_cache())
    with quiet_transformers():
        config = _load_config(checkpoint)
        model, weight_notes = _load_weights(checkpoint, config)
        tokenizer = _load_tokenizer(checkpoint)
        tokenizer_notes = prepare_tokenizer(tokenizer, model)
    return LoadedModel(model, tokenizer, (*_format_notes(source), *weight_notes, *tokenizer_notes))


@dataclass(frozen=True)
class _Checkpoint:
    """The files that transformers is to read."""

    name: str
    directory: Path
    remedy: str
    """What helps where a file is damaged."""


def _checkpoint(source: ModelSource, cache: Path) -> _Checkpoint:
    if not source.gguf_file:
        return _Checkpoint(source.name, source.path, FETCH_AGAIN)
    directory = converted(source, cache)
    return _Checkpoint(source.name, directory, f"Remove {directory}, which will be made again from the GGUF file.")


def _format_notes(source: ModelSource) -> Iterator[str]:
    if source.gguf_file:
        yield f"The weights are those of {source.gguf_file}, rounded by quantization and unpacked to float32."


def _load_config(checkpoint: _Checkpoint) -> PreTrainedConfig:
    directory, name = checkpoint.directory, checkpoint.name
    with _explained(f"The {CONFIG} of '{name}' can't be read", checkpoint.remedy):
        _check_architecture(name, json.loads((directory / CONFIG).read_bytes()))
        config: PreTrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        what = f"'{name}' is no causal language model: the architecture {config.model_type} doesn't continue text."
        raise UsageError(Problem(what, PASS_A_DECODER))
    return config


def _check_architecture(name: str, config: dict[str, Any]) -> None:
    architecture = config.get("model_type")
    if architecture in CONFIG_MAPPING:
        return
    if "auto_map" in config:
        what = f"'{name}' brings its own code for the architecture {architecture}, which is never run."
        raise UsageError(Problem(what, "Pass a model whose architecture is part of transformers."))
    what = f"The installed transformers doesn't know the architecture of '{name}': {architecture}."
    raise UsageError(Problem(what, "Upgrade it (pip install -U transformers), or pass another model."))


def _load_weights(checkpoint: _Checkpoint, config: PreTrainedConfig) -> tuple[PreTrainedModel, tuple[str, ...]]:
    with _explained(f"The weights of '{checkpoint.name}' can't be loaded", checkpoint.remedy):
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # a pair, which its annotation doesn't say
            checkpoint.directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported, and refused below with the names
            output_loading_info=True,
        )
    model, report = loaded
    _check_causal(checkpoint.name, model)
    _check_weights(checkpoint.name, report)
    return model, tuple(_unused_weights(report))


def _check_weights(name: str, report: dict[str, Any]) -> None:
    if mismatched := sorted(report["mismatched_keys"]):
        key, stored, expected = mismatched[0]
        what = f"The weights of '{name}' don't fit its {CONFIG}: {key} is {tuple(stored)}, not {tuple(expected)}"
        raise UsageError(Problem(f"{what}{_and_others(mismatched)}.", "Pass a directory whose files belong together."))
    if missing := sorted(report["missing_keys"]):
        what = f"The weights of '{name}' are incomplete: {missing[0]} is missing{_and_others(missing)}."
        raise UsageError(
            Problem(what, "Pass a checkpoint saved from the whole model, language modelling head included.")
        )


def _and_others(names: list[Any]) -> str:
    return f", and so with {len(names) - 1} more" if len(names) > 1 else ""


def _unused_weights(report: dict[str, Any]) -> Iterator[str]:
    if unexpected := sorted(report["unexpected_keys"]):
        yield f"Weights in the checkpoint that the model has no use for were left out: {', '.join(unexpected)}."


@torch.no_grad()
def _check_causal(name: str, model: PreTrainedModel) -> None:
    """Refuse a model whose predictions depend on the tokens that follow, such as BERT.

    Only a trial tells: transformers loads BERT as a causal language model, and configurations contradict each other
    (`is_decoder` is false for BERT, and for GPT-NeoX too).
    """
    token_ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]])
    one, other = model(input_ids=token_ids).logits[:, :-1]  # each (3, vocabulary)
    if (one - other).abs().max() > CAUSAL_TOLERANCE * one.abs().max():
        what = f"'{name}' is no causal language model: its predictions depend on the tokens that follow."
        raise UsageError(Problem(what, PASS_A_DECODER))


def _load_tokenizer(checkpoint: _Checkpoint) -> PreTrainedTokenizerBase:
    with _explained(f"The tokenizer of '{checkpoint.name}' can't be loaded", checkpoint.remedy):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            checkpoint.directory, local_files_only=True, trust_remote_code=False
        )
    return tokenizer


@contextmanager
def _explained(what: str, fix: str) -> Iterator[None]:
    """Turn what the libraries raise into words for the user; their own first line says why."""
    try:
        yield
    except UsageError:
        raise
    except SafetensorError as error:
        raise UsageError(Problem(f"{what}: a file is damaged ({error}).", fix)) from error
    except Exception as error:  # transformers lets through whatever its parsers and layers raise
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UsageError(Problem(f"{what}: {reason}.", fix)) from error
