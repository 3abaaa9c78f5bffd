"""Load a causal language model, with a tokenizer that has a chat template and a padding token."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from neftune_cli.config.process import user_cache
from neftune_cli.errors import Problem, UsageError, first_line
from neftune_cli.formatting import and_more
from neftune_cli.models.adapters import merged
from neftune_cli.models.files import CONFIG
from neftune_cli.models.gguf import converted
from neftune_cli.models.quantization import is_quantized, loading_options, prepared_for_training
from neftune_cli.models.sources import ModelSource
from neftune_cli.models.tokenizer import prepare_tokenizer

DECODER_FIX = "Use a decoder model, such as SmolLM2, Qwen, Llama or GPT-2."
CAUSAL_TOLERANCE = 1e-4
"""Tolerance relative to the largest logit, far above the rounding error of float32."""
QUANTIZED_TOLERANCE = 1e-2
"""The same for weights of 4 bits, which are multiplied in bfloat16."""
WRONG_BASE = "Set base_model_name_or_path in its adapter_config.json to the model that it was trained on."
FETCH_AGAIN = "Copy or download it again (in a git clone: git lfs pull)."


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokenizer, ready to fine-tune."""

    model: PreTrainedModel
    """In evaluation mode. On the CPU and in float32, or, with linear layers of 4 bits, on the GPU."""
    tokenizer: PreTrainedTokenizerBase
    """Has a padding token, an end-of-sequence token and a chat template."""
    notes: tuple[str, ...]
    """Notes for the user on changes to model and tokenizer, one sentence each."""


def load_model(source: ModelSource, *, load_in_4bit: bool = False, cache: Path | None = None) -> LoadedModel:
    """Load model and tokenizer without running any code that comes with them.

    Args:
        source: the result of `find_model`.
        load_in_4bit: whether to quantize the weights of linear layers, as `quantization_problems` allows.
        cache: directory of converted GGUF files; by default in the user's cache directory.

    Raises:
        UsageError: the files are damaged, they are not a causal language model that transformers supports, or an
            adapter does not fit its base model.
    """
    cache = cache or user_cache()
    with quiet_transformers():
        model, notes = _load_weights(source, cache, load_in_4bit=load_in_4bit)
        tokenizer = _load_tokenizer(_model_files(source.of_tokenizer, cache))
        tokenizer_notes = prepare_tokenizer(tokenizer, model)
    return LoadedModel(model, tokenizer, (*notes, *tokenizer_notes))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars, warnings and log messages below errors inside the context, and restore the settings."""
    verbosity = logging.get_verbosity()
    hook = logging.set_tqdm_hook(_disabled_bar)
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(hook)


def _disabled_bar(bar: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return bar(*args, **{**options, "disable": True})


def _load_weights(source: ModelSource, cache: Path, *, load_in_4bit: bool) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Return the model, with an adapter merged into it, and notes for the user."""
    if source.base is None:
        files = _model_files(source, cache)
        model, notes = _load_base(files, _load_config(files), load_in_4bit=load_in_4bit)
        return model, (*_format_notes(source), *notes)
    if load_in_4bit:
        what = f"'{source.name}' is an adapter, which cannot be merged into weights of 4 bits."
        raise UsageError(Problem(what, "Merge it (PEFT's merge_and_unload), save the result, and pass that directory."))
    model, notes = _load_weights(source.base, cache, load_in_4bit=False)
    with _explained(f"The adapter '{source.name}' cannot be merged into '{source.base.name}'", WRONG_BASE):
        model = merged(model, source.path)
    return model, (*notes, f"The adapter '{source.name}' was merged into its base model, '{source.base.name}'.")


def move_to(model: PreTrainedModel, device: str) -> None:
    """Move a model to a kind of device. A quantized model is where it was loaded, and refuses to be moved."""
    if not is_quantized(model):
        cast(nn.Module, model).to(device)


@dataclass(frozen=True)
class _ModelFiles:
    """The files of a model for transformers to read."""

    name: str
    directory: Path
    fix: str
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
    with _explained(f"The {CONFIG} of '{name}' cannot be read", files.fix):
        _check_architecture(name, json.loads((directory / CONFIG).read_bytes()))
        config: PreTrainedConfig = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    _check_kind(name, config)
    return config


def _check_kind(name: str, config: PreTrainedConfig) -> None:
    """Raise a UsageError for a model that is not a decoder of text."""
    kind = config.model_type
    if config.is_encoder_decoder:
        raise UsageError(
            Problem(f"'{name}' is an encoder-decoder model ({kind}), which cannot be trained.", DECODER_FIX)
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not _reads_images(config):
        what = f"'{name}' is not a causal language model: its architecture is {kind}."
        raise UsageError(Problem(what, DECODER_FIX))


def _reads_images(config: PreTrainedConfig) -> bool:
    """Return whether a model of this configuration reads images and text, and writes text."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and config.get_text_config() is not config


def _check_architecture(name: str, config: dict[str, Any]) -> None:
    architecture = config.get("model_type")
    if architecture in CONFIG_MAPPING:
        return
    if "auto_map" in config:
        what = f"'{name}' has its own code for the architecture {architecture}. Code of models is never run."
        raise UsageError(Problem(what, "Use a model whose architecture is part of transformers."))
    what = f"The installed version of transformers does not support the architecture of '{name}': {architecture}."
    raise UsageError(Problem(what, "Upgrade it (pip install -U transformers), or pass another model."))


def _load_base(
    files: _ModelFiles, config: PreTrainedConfig, *, load_in_4bit: bool
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    is_causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    model_class: Any = AutoModelForCausalLM if is_causal else AutoModelForImageTextToText
    with _explained(f"The weights of '{files.name}' cannot be loaded", files.fix):
        loaded: Any = model_class.from_pretrained(
            files.directory,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # _check_weights raises with the names
            output_loading_info=True,
            **(loading_options() if load_in_4bit else {}),
        )
    model, report = loaded
    with _explained(f"'{files.name}' fails on a text of four tokens", f"Check its {CONFIG}, or pass another model."):
        _check_causal(files.name, model)
    _check_weights(files.name, report)
    model = prepared_for_training(model) if load_in_4bit else model
    return model, (*_unused_weights(report), *_image_notes(files.name, config))


def _image_notes(name: str, config: PreTrainedConfig) -> Iterator[str]:
    if _reads_images(config):
        yield f"'{name}' also reads images. It is trained and measured on text; its other parts stay as they are."


def _check_weights(name: str, report: dict[str, Any]) -> None:
    if mismatched := sorted(report["mismatched_keys"]):
        key, stored, expected = mismatched[0]
        what = f"The weights of '{name}' do not fit its {CONFIG}: {key} is {tuple(stored)}, not {tuple(expected)}"
        raise UsageError(Problem(f"{what}{and_more(mismatched)}.", "Use a directory whose files belong together."))
    if missing := sorted(report["missing_keys"]):
        what = f"The weights of '{name}' are incomplete: {missing[0]} is missing{and_more(missing)}."
        raise UsageError(Problem(what, "Use a checkpoint of the complete model, including the language modeling head."))


def _unused_weights(report: dict[str, Any]) -> Iterator[str]:
    if unexpected := sorted(report["unexpected_keys"]):
        yield f"Ignored weights of the checkpoint that the model does not use: {', '.join(unexpected)}."


@torch.no_grad()
def _check_causal(name: str, model: PreTrainedModel) -> None:
    """Raise a UsageError for a model whose predictions depend on later tokens, such as BERT, or are not numbers.

    The configuration does not show this: transformers loads BERT as a causal language model, and `is_decoder` is false
    for BERT and for GPT-NeoX. So the model is called with two different last tokens.
    """
    token_ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=model.device)
    one, other = model(input_ids=token_ids).logits[:, :-1]  # each (3, vocabulary)
    if one.isnan().any():
        what = f"'{name}' predicts logits that are not numbers (NaN)."
        raise UsageError(Problem(what, "Check its weights, or pass another model."))
    tolerance = QUANTIZED_TOLERANCE if is_quantized(model) else CAUSAL_TOLERANCE
    if (one - other).abs().max() > tolerance * one.abs().max():
        what = f"'{name}' is not a causal language model: its predictions depend on later tokens."
        raise UsageError(Problem(what, DECODER_FIX))


def _load_tokenizer(files: _ModelFiles) -> PreTrainedTokenizerBase:
    with _explained(f"The tokenizer of '{files.name}' cannot be loaded", files.fix):
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
        raise UsageError(Problem(f"{what}: {first_line(error)}.", fix)) from error
