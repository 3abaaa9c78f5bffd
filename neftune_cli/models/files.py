"""The files that make up a model in a directory: which ones count, what is wrong among them, and their fingerprint."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging

from neftune_cli.errors import Problem

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
FINGERPRINT_DIGITS = 16

TOKENIZER_PATTERNS = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken")
"""Any one of these holds a vocabulary."""
OTHER_PATTERNS = (
    CONFIG,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "*.jinja",
)
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TRAINER_STATE = {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt"}
"""Pickles that a trainer leaves beside the weights, and that hold none."""

CONVERT_PICKLES = (
    "Weights in .bin or .pt are pickles, which can run code when opened, so only safetensors are read. If you trust "
    "them, convert them once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)"
)


def directory_problems(directory: Path) -> tuple[Problem, ...]:
    """Return everything that keeps the directory from being a model to fine-tune, as far as its files tell."""
    if (directory / "adapter_config.json").is_file():
        what = f"{directory} holds a LoRA adapter, not a whole model."
        fix = "Merge it into its base model (PEFT's merge_and_unload), save that, and pass the new directory."
        return (Problem(what, fix),)
    return (*_config_problems(directory), *_weight_problems(directory), *_tokenizer_problems(directory))


def model_fingerprint(directory: Path) -> str:
    """Hash names and contents of the files that can change the model's numbers, wherever the directory lies.

    Returns:
        The first 16 hex digits of a SHA-256.
    """
    patterns = (*OTHER_PATTERNS, *TOKENIZER_PATTERNS)
    described = {path for pattern in patterns for path in directory.glob(pattern)}
    return files_fingerprint({*described, *_weight_files(directory)})


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Hash names and contents of files, in the order of their names; 16 hex digits."""
    whole = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        whole.update(f"{path.name}\0{content.hexdigest()}\n".encode())
    return whole.hexdigest()[:FINGERPRINT_DIGITS]


def _config_problems(directory: Path) -> Iterator[Problem]:
    path = directory / CONFIG
    if not path.is_file():
        fix = "Pass the directory that save_pretrained wrote, which holds it beside the weights."
        yield Problem(f"{directory} has no {CONFIG}.", fix)
        return
    config = _read_json(path)
    if config is None:
        yield Problem(f"{path} is not a JSON object.", "Copy or download it again.")
    elif config.get("quantization_config"):
        fix = "Pass the model as it was before it was quantized: fine-tuning needs weights in full precision."
        yield Problem(f"The weights in {directory} are quantized.", fix)


def _weight_problems(directory: Path) -> Iterator[Problem]:
    if (missing := [path.name for path in _weight_files(directory) if not path.is_file()]) == [WEIGHTS]:
        yield _no_weights(directory)
    elif missing:
        yield Problem(f"{directory} lacks {', '.join(missing)}.", "Copy or download the missing weights.")


def _no_weights(directory: Path) -> Problem:
    pickles = {path.name for pattern in PICKLE_PATTERNS for path in directory.glob(pattern)} - TRAINER_STATE
    if pickles:
        return Problem(f"{directory} has no {WEIGHTS}, only {', '.join(sorted(pickles))}.", CONVERT_PICKLES)
    return Problem(f"{directory} has no {WEIGHTS}.", CONVERT_PICKLES)


def _tokenizer_problems(directory: Path) -> Iterator[Problem]:
    if not any(path for pattern in TOKENIZER_PATTERNS for path in directory.glob(pattern)):
        fix = f"Save it beside the model: AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained('{directory}')"
        yield Problem(f"{directory} has no tokenizer.", fix)


def _weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the files that transformers would read, whether they exist or not."""
    index = directory / WEIGHTS_INDEX
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return (directory / WEIGHTS,)
    shards = (_read_json(index) or {}).get("weight_map", {}).values()
    return (index, *(directory / shard for shard in sorted(set(shards))))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars and everything below an error inside the block, and put the settings back after it."""
    verbosity = logging.get_verbosity()
    hook = logging.set_tqdm_hook(_hidden_bar)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(hook)


def _hidden_bar(bar: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return bar(*args, **{**options, "disable": True})
