"""Convert a GGUF file once to a plain checkpoint in the user's cache, so that it can be fine-tuned."""

import contextlib
import io
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from neftune_cli.errors import Problem, UsageError
from neftune_cli.models.sources import ModelSource

CONVERSION = 1
"""Version of the conversion. Increase it when the same GGUF file gives another checkpoint."""


def converted(source: ModelSource, cache: Path) -> Path:
    """Return the directory of the checkpoint converted from a GGUF file; convert it first if it is not in the cache.

    Several processes may call this at the same time. An interrupted conversion leaves no incomplete checkpoint.

    Args:
        source: a model source with a `gguf_file`.
        cache: directory of conversions, created if it does not exist.

    Raises:
        UsageError: the file cannot be read, transformers does not support its architecture in GGUF, or the package
            gguf is missing.
    """
    target = cache / f"gguf-{source.fingerprint}-{CONVERSION}"
    if not target.is_dir():
        _require_reader()
        model, tokenizer = _read(source)
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix="converting-") as scratch:
            _write(Path(scratch) / "model", model, tokenizer)
            _move(Path(scratch) / "model", target)
    return target


def _require_reader() -> None:
    if find_spec("gguf") is None:
        what = "Reading a GGUF file requires the Python package gguf, which is not installed."
        raise UsageError(Problem(what, "Run: pip install --no-deps gguf"))


def _read(source: ModelSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        with _without_output():
            tokenizer = AutoTokenizer.from_pretrained(source.path, gguf_file=source.gguf_file)
            dequantized = AutoModelForCausalLM.from_pretrained(
                source.path, gguf_file=source.gguf_file, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:  # transformers and gguf raise many types for damaged files
        what = f"{source.path / str(source.gguf_file)} cannot be read: {error}"
        fix = "Check that the file is complete. If its architecture is not supported, pass a safetensors directory."
        raise UsageError(Problem(what, fix)) from error
    return _plain(dequantized), _bounded(tokenizer, dequantized)


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    # The progress bar of dequantization has no option to turn it off.
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _plain(dequantized: PreTrainedModel) -> PreTrainedModel:
    """Copy the weights to a new model, because transformers refuses to train or save a model read from a GGUF file."""
    config = deepcopy(dequantized.config)
    del config.quantization_config
    plain: PreTrainedModel = type(dequantized)(config)
    plain.load_state_dict(dequantized.state_dict())
    plain.generation_config = dequantized.generation_config
    return plain


def _bounded(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Limit the tokenizer's maximum length to the model's context, which GGUF stores with the model only."""
    context = getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    return tokenizer


def _write(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with _without_output():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def _move(finished: Path, target: Path) -> None:
    try:
        finished.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process finished first, with the same content
            raise
