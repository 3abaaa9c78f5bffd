"""From what the user asked for to a sensitivity, and from that to files: every problem is found before any is told."""

from dataclasses import dataclass
from pathlib import Path

from neftune_cli.config.spec import default_recipe
from neftune_cli.config.values import parse_alphas
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import length_notes, require_examples, tokenize
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.geometry.sensitivity.measurement import Sensitivity, measure_sensitivity
from neftune_cli.geometry.sensitivity.plot import plot_sensitivity
from neftune_cli.geometry.sensitivity.report import to_csv
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import ModelSource, find_model
from neftune_cli.store import check_writable, write_files
from neftune_cli.training.hardware import device_name, keep_memory_between_steps
from neftune_cli.training.prepared_data import check_context


@dataclass(frozen=True)
class SensitivityRequest:
    """What to measure, as the user wrote it."""

    model: str
    dataset: str
    layout: str | None
    examples: int
    """Training examples to look at, at most: the first in the order of their content hashes."""
    max_length: int | None
    """Tokens after which an example is cut; the recipe's if None."""
    alphas: str
    noise: str
    seed: int


@dataclass(frozen=True)
class Prepared:
    """A request whose model and data were found and fit together."""

    request: SensitivityRequest
    alphas: tuple[float, ...]
    loaded: LoadedModel
    examples: tuple[tuple[int, ...], ...]
    """Token ids of each, without padding."""
    notes: tuple[str, ...]
    """What the user should know of the model and of the examples' lengths."""


def prepare(request: SensitivityRequest, folder: Path) -> Prepared:
    """Find and load what the request names; the folder for the files is looked at, and nothing is written yet.

    Raises:
        UsageError: every problem with alphas, model, data, number of examples and folder at once; then those of the
            lengths and of the weights.
    """
    source, data, alphas = _found(request, folder)
    loaded = load_model(source)
    max_length = request.max_length or default_recipe(request.model, lora=False)["max_length"]
    tokenized = tokenize(data.train[: request.examples], loaded.tokenizer, max_length=max_length)
    require_examples(tokenized, "training", max_length)
    check_context(tokenized, request.model, loaded)
    return Prepared(
        request=request,
        alphas=alphas,
        loaded=loaded,
        examples=tuple(example.input_ids for example in tokenized.examples),
        notes=(*data.notes, *loaded.notes, *length_notes(tokenized, "training", max_length)),
    )


def measure(prepared: Prepared) -> Sensitivity:
    """Measure on the best device there is; the model moves there."""
    keep_memory_between_steps()
    request = prepared.request
    return measure_sensitivity(
        prepared.loaded.model.to(device_name()),  # type: ignore[arg-type]
        prepared.examples,
        prepared.alphas,
        names=(_shown(request.model), _shown(request.dataset)),
        noise=request.noise,
        seed=request.seed,
    )


def write(sensitivity: Sensitivity, folder: Path) -> tuple[Path, ...]:
    """Write sensitivity.csv and sensitivity.png into a folder, and return their paths.

    Raises:
        UsageError: the folder can't be written.
    """
    contents: dict[str, str | bytes] = {
        "sensitivity.csv": to_csv(sensitivity),
        "sensitivity.png": plot_sensitivity(sensitivity),
    }
    return write_files(folder, contents)


def _found(request: SensitivityRequest, folder: Path) -> tuple[ModelSource, InstructionData, tuple[float, ...]]:
    problems = Problems()
    alphas = problems.attempt(lambda: parse_alphas(request.alphas))
    problems.attempt(lambda: _check_counts(request))
    problems.attempt(lambda: check_writable(folder))
    source = problems.attempt(lambda: find_model(request.model))
    data = problems.attempt(lambda: load_data(request.dataset, layout=request.layout))
    problems.raise_any()
    assert source is not None
    assert data is not None
    assert alphas is not None
    return source, data, tuple(alphas)


def _check_counts(request: SensitivityRequest) -> None:
    counts = {"--examples": (request.examples, "training examples"), "--max-length": (request.max_length, "tokens")}
    problems = [
        Problem(f"{option} {number} is too few {what}.", "Ask for 1 or more.")
        for option, (number, what) in counts.items()
        if number is not None and number < 1
    ]
    if problems:
        raise UsageError(*problems)


def _shown(name: str) -> str:
    """Return a hub id or embedded name as it is, and a path by its last part."""
    return Path(name).resolve().name if Path(name).exists() else name
