"""GGUF files made trainable: unpacked once into a plain checkpoint in the user's cache, which loads like any other."""

import contextlib
import io
import os
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from neftune_cli.errors import Problem, UsageError
from neftune_cli.models.files import quiet_transformers
from neftune_cli.models.sources import ModelSource

CONVERSION = 1
"""Raised when the same GGUF file comes to give another checkpoint, so that no stale one is read."""


def default_cache() -> Path:
    """Return where conversions are kept: `neftune` in the user's cache directory (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neftune"


def converted(source: ModelSource, cache: Path) -> Path:
    """Return the directory with the checkpoint that the GGUF file gives, converting it if `cache` lacks it.

    Several processes may call this at once; an interrupted conversion leaves nothing that is taken for a whole one.

    Args:
        source: has a `gguf_file`.
        cache: made if it doesn't exist.

    Raises:
        UsageError: the file can't be read, holds an architecture that transformers can't read from GGUF, or the
            package gguf is missing.
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
        what = "Reading a GGUF file takes the Python package gguf, which is not installed."
        raise UsageError(Problem(what, "Run: pip install --no-deps gguf"))


def _read(source: ModelSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        with _silent():
            tokenizer = AutoTokenizer.from_pretrained(source.path, gguf_file=source.gguf_file)
            packed = AutoModelForCausalLM.from_pretrained(
                source.path, gguf_file=source.gguf_file, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:  # transformers and gguf raise whatever the bytes made them stumble over
        what = f"{source.path / str(source.gguf_file)} can't be read: {error}"
        fix = "Check that it is whole; if its architecture is the reason, pass the model's safetensors directory."
        raise UsageError(Problem(what, fix)) from error
    return _plain(packed), _bounded(tokenizer, packed)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    # The bar of the dequantization can't be turned off in any other way.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        yield


def _plain(packed: PreTrainedModel) -> PreTrainedModel:
    """Copy the unpacked weights into a model that may be trained and saved, which one read from GGUF may not."""
    config = deepcopy(packed.config)
    del config.quantization_config
    plain: PreTrainedModel = type(packed)(config)
    plain.load_state_dict(packed.state_dict())
    plain.generation_config = packed.generation_config
    return plain


def _bounded(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Give the tokenizer the model's context as its maximum length, which GGUF keeps with the model alone."""
    context = getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    return tokenizer


def _write(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with _silent():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


def _move(finished: Path, target: Path) -> None:
    try:
        finished.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process was first, with the same content
            raise
