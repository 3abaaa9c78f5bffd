"""Load a causal language model in float32, with a tokenizer that has a chat template and a padding token."""

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
from neftune_cli.models.gguf import converted, default_cache, quiet_transformers
from neftune_cli.models.sources import CONFIG, ModelSource

DECODER_FIX = "Pass a decoder model, such as SmolLM2, Qwen, Llama or GPT-2."
CAUSAL_TOLERANCE = 1e-4
"""Tolerance relative to the largest logit, far above the rounding error of float32."""
FETCH_AGAIN = "Copy or download it again (in a git clone: git lfs pull)."


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokenizer, ready to fine-tune."""

    model: PreTrainedModel
    """In evaluation mode, on the CPU, with all weights in float32."""
    tokenizer: PreTrainedTokenizerBase
    """Has a padding token, an end-of-sequence token and a chat template."""
    notes: tuple[str, ...]
    """Notes for the user on changes to model and tokenizer, one sentence each."""


def load_model(source: ModelSource, *, cache: Path | None = None) -> LoadedModel:
    """Load model and tokenizer without running any code that comes with them.

    Args:
        source: the result of `find_model`.
        cache: directory of converted GGUF files; by default in the user's cache directory.

    Raises:
        UsageError: the files are damaged, or they are not a causal language model that transformers supports.
    """
    files = _model_files(source, cache or default_cache())
    with quiet_transformers():
        config = _load_config(files)
        model, weight_notes = _load_weights(files, config)
        tokenizer = _load_tokenizer(files)
        tokenizer_notes = prepare_tokenizer(tokenizer, model)
    return LoadedModel(model, tokenizer, (*_format_notes(source), *weight_notes, *tokenizer_notes))


@dataclass(frozen=True)
class _ModelFiles:
    """The files of a model for transformers to read."""

    name: str
    directory: Path
    remedy: str
    """Advice for a damaged file."""


def _model_files(source: ModelSource, cache: Path) -> _ModelFiles:
    if not source.gguf_file:
        return _ModelFiles(source.name, source.path, FETCH_AGAIN)
    directory = converted(source, cache)
    return _ModelFiles(source.name, directory, f"Delete {directory}. It will be created again from the GGUF file.")


def _format_notes(source: ModelSource) -> Iterator[str]:
    if source.gguf_file:
        yield f"The weights come from {source.gguf_file}, which is quantized, and were converted to float32."


def _load_config(files: _ModelFiles) -> PreTrainedConfig:
    directory, name = files.directory, files.name
    with _explained(f"The {CONFIG} of '{name}' cannot be read", files.remedy):
        _check_architecture(name, json.loads((directory / CONFIG).read_bytes()))
        config: PreTrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        what = f"'{name}' is not a causal language model: its architecture is {config.model_type}."
        raise UsageError(Problem(what, DECODER_FIX))
    return config


def _check_architecture(name: str, config: dict[str, Any]) -> None:
    architecture = config.get("model_type")
    if architecture in CONFIG_MAPPING:
        return
    if "auto_map" in config:
        what = f"'{name}' has its own code for the architecture {architecture}. Code of models is never run."
        raise UsageError(Problem(what, "Pass a model whose architecture is part of transformers."))
    what = f"The installed version of transformers does not support the architecture of '{name}': {architecture}."
    raise UsageError(Problem(what, "Upgrade it (pip install -U transformers), or pass another model."))


def _load_weights(files: _ModelFiles, config: PreTrainedConfig) -> tuple[PreTrainedModel, tuple[str, ...]]:
    with _explained(f"The weights of '{files.name}' cannot be loaded", files.remedy):
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # returns a pair, contrary to its annotation
            files.directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # _check_weights raises with the names
            output_loading_info=True,
        )
    model, report = loaded
    _check_causal(files.name, model)
    _check_weights(files.name, report)
    return model, tuple(_unused_weights(report))


def _check_weights(name: str, report: dict[str, Any]) -> None:
    if mismatched := sorted(report["mismatched_keys"]):
        key, stored, expected = mismatched[0]
        what = f"The weights of '{name}' do not fit its {CONFIG}: {key} is {tuple(stored)}, not {tuple(expected)}"
        raise UsageError(Problem(f"{what}{_and_others(mismatched)}.", "Pass a directory whose files belong together."))
    if missing := sorted(report["missing_keys"]):
        what = f"The weights of '{name}' are incomplete: {missing[0]} is missing{_and_others(missing)}."
        raise UsageError(
            Problem(what, "Pass a checkpoint of the complete model, including the language modeling head.")
        )


def _and_others(names: list[Any]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _unused_weights(report: dict[str, Any]) -> Iterator[str]:
    if unexpected := sorted(report["unexpected_keys"]):
        yield f"Ignored weights of the checkpoint that the model does not use: {', '.join(unexpected)}."


@torch.no_grad()
def _check_causal(name: str, model: PreTrainedModel) -> None:
    """Raise a UsageError for a model whose predictions depend on later tokens, such as BERT.

    The configuration does not show this: transformers loads BERT as a causal language model, and `is_decoder` is false
    for BERT and for GPT-NeoX. So the model is called with two different last tokens.
    """
    token_ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]])
    one, other = model(input_ids=token_ids).logits[:, :-1]  # each (3, vocabulary)
    if (one - other).abs().max() > CAUSAL_TOLERANCE * one.abs().max():
        what = f"'{name}' is not a causal language model: its predictions depend on later tokens."
        raise UsageError(Problem(what, DECODER_FIX))


def _load_tokenizer(files: _ModelFiles) -> PreTrainedTokenizerBase:
    with _explained(f"The tokenizer of '{files.name}' cannot be loaded", files.remedy):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            files.directory, local_files_only=True, trust_remote_code=False
        )
    return tokenizer


@contextmanager
def _explained(what: str, fix: str) -> Iterator[None]:
    """Turn errors of the libraries into a UsageError with the first line of their message."""
    try:
        yield
    except UsageError:
        raise
    except SafetensorError as error:
        raise UsageError(Problem(f"{what}: a file is damaged ({error}).", fix)) from error
    except Exception as error:  # transformers raises many types for damaged files
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UsageError(Problem(f"{what}: {reason}.", fix)) from error
