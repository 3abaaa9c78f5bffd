"""Files of a model directory: checks for missing or unsuitable files, and the fingerprint of the model."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from neftune_cli.errors import Problem

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_MODEL = "base_model_name_or_path"
FINGERPRINT_DIGITS = 16

TOKENIZER_PATTERNS = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken")
"""A directory has a tokenizer if it contains one of these files."""
OTHER_PATTERNS = (
    CONFIG,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "*.jinja",
    "additional_chat_templates/*.jinja",
)
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TRAINER_STATE = {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt"}
"""Pickled files of a trainer that contain no weights."""

CONVERT_PICKLES = (
    "Convert files that you trust, once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR). Only "
    "safetensors files are read, because .bin and .pt files are pickles, which can run code."
)


def directory_problems(directory: Path) -> tuple[Problem, ...]:
    """Return the problems that prevent fine-tuning the model in a directory, as far as its files show them."""
    return (*_config_problems(directory), *_weight_problems(directory), *_tokenizer_problems(directory))


def model_fingerprint(directory: Path) -> str:
    """Return the hash of names and contents of all files that can change the model's numbers.

    The path of the directory does not matter.

    Returns:
        The first 16 hex digits of a SHA-256.
    """
    return files_fingerprint({*_metadata_files(directory), *_weight_files(directory)})


def adapter_fingerprint(directory: Path, base_fingerprint: str) -> str:
    """Return the hash of an adapter's files and of the fingerprint of its base model: 16 hex digits.

    The configuration of the adapter contains the path of the base model, and other lines that change no number. Only
    its settings count.
    """
    settings = {
        name: value for name, value in (read_json(directory / ADAPTER_CONFIG) or {}).items() if name != BASE_MODEL
    }
    files = files_fingerprint({*_metadata_files(directory), directory / ADAPTER_WEIGHTS})
    whole = f"{base_fingerprint}\n{files}\n{json.dumps(settings, sort_keys=True)}"
    return hashlib.sha256(whole.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def has_tokenizer(directory: Path) -> bool:
    """Return whether a directory contains a tokenizer."""
    return any(path for pattern in TOKENIZER_PATTERNS for path in directory.glob(pattern))


def missing_weights(directory: Path) -> list[str]:
    """Return the names of the weight files that a saved model or adapter lacks."""
    is_adapter = (directory / ADAPTER_CONFIG).is_file()
    files = (directory / ADAPTER_WEIGHTS,) if is_adapter else _weight_files(directory)
    return [path.name for path in files if not path.is_file()]


def _metadata_files(directory: Path) -> set[Path]:
    return {path for pattern in (*OTHER_PATTERNS, *TOKENIZER_PATTERNS) for path in directory.glob(pattern)}


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Return the hash of names and contents of files, in the order of their names: 16 hex digits."""
    whole = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        whole.update(f"{path.name}\0{content.hexdigest()}\n".encode())
    return whole.hexdigest()[:FINGERPRINT_DIGITS]


def _config_problems(directory: Path) -> Iterator[Problem]:
    path = directory / CONFIG
    if not path.is_file():
        fix = "Use a directory written by save_pretrained."
        yield Problem(f"{directory} has no {CONFIG}.", fix)
        return
    config = read_json(path)
    if config is None:
        yield Problem(f"{path} is not a JSON object.", "Copy or download it again.")
    elif quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        what = f"The weights in {directory} are quantized{f' ({method})' if method else ''}."
        yield Problem(what, "Use the model before quantization. --load-in-4bit quantizes it while it is loaded.")


def _weight_problems(directory: Path) -> Iterator[Problem]:
    files = _weight_files(directory)
    if files == (directory / WEIGHTS_INDEX,):
        yield Problem(f"{files[0]} names no weight files.", "Copy or download it again.")
    elif (missing := [path.name for path in files if not path.is_file()]) == [WEIGHTS]:
        yield _no_weights(directory)
    elif missing:
        yield Problem(f"{directory} does not contain {', '.join(missing)}.", "Copy or download the missing files.")


def _no_weights(directory: Path) -> Problem:
    pickles = {path.name for pattern in PICKLE_PATTERNS for path in directory.glob(pattern)} - TRAINER_STATE
    if pickles:
        return Problem(f"{directory} has no {WEIGHTS}, only {', '.join(sorted(pickles))}.", CONVERT_PICKLES)
    return Problem(f"{directory} has no {WEIGHTS}.", CONVERT_PICKLES)


def _tokenizer_problems(directory: Path) -> Iterator[Problem]:
    if not has_tokenizer(directory):
        fix = f"Save it there: AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained('{directory}')"
        yield Problem(f"{directory} has no tokenizer.", fix)


def _weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the weight files that transformers would read, existing or not."""
    index = directory / WEIGHTS_INDEX
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return (directory / WEIGHTS,)
    return (index, *(directory / shard for shard in _shards(index)))


def _shards(index: Path) -> list[str]:
    """Return the names of the weight files in an index; none if it is damaged."""
    names = (read_json(index) or {}).get("weight_map")
    shards = names.values() if isinstance(names, dict) else ()
    return sorted({shard for shard in shards if isinstance(shard, str)})


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no object in it."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
