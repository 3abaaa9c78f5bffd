"""Steps of `neftune sensitivity`: options to model and examples, the measurement, its files and the sweep command."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.config.noises import DEFAULT_NOISE
from neftune_cli.config.resolve import default_recipe
from neftune_cli.config.spec import DEFAULT_DATASET, DEFAULT_MODEL
from neftune_cli.config.values import parse_alphas
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import length_notes, require_examples, tokenize
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.geometry.output import check_output, input_spec, write_output
from neftune_cli.geometry.sensitivity.measurement import Sensitivity, equivalent_alphas, measure_sensitivity
from neftune_cli.geometry.sensitivity.plot import plot_sensitivity
from neftune_cli.geometry.sensitivity.report import to_csv, two_digits
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import ModelSource, find_model
from neftune_cli.training.hardware import device_kind
from neftune_cli.training.prepared_data import check_context

MEASURED_ALPHAS = "0,1,5,10,15,20,30"
TABLE, PNG, SVG = "sensitivity.csv", "sensitivity.png", "sensitivity.svg"


@dataclass(frozen=True)
class SensitivityOptions:
    """The options of the command."""

    model: str = DEFAULT_MODEL
    dataset: str = DEFAULT_DATASET
    layout: str | None = None
    columns: str | None = None
    """Columns by meaning, as `--columns` gives them."""
    examples: int = 64
    """Largest number of training examples, the first in the order of their content hashes."""
    max_length: int | None = None
    """Tokens after which an example is truncated; None is the recipe's."""
    alphas: str = MEASURED_ALPHAS
    noise: str = DEFAULT_NOISE
    seed: int = 0


@dataclass(frozen=True)
class SensitivityInputs:
    """A loaded model and the tokenized examples."""

    options: SensitivityOptions
    alphas: tuple[float, ...]
    loaded: LoadedModel
    examples: tuple[tuple[int, ...], ...]
    """Token ids of each example, without padding."""
    notes: tuple[str, ...]
    """Notes for the user on the model and the lengths of the examples."""


def prepare(options: SensitivityOptions, folder: Path) -> SensitivityInputs:
    """Find and load model and data; check the output folder without writing to it.

    Raises:
        UsageError: all problems with alphas, model, data, number of examples and folder together; then those with the
            lengths and the weights.
    """
    source, data, alphas = _find(options, folder)
    loaded = load_model(source)
    max_length = options.max_length or default_recipe(options.model, lora=False)["max_length"]
    tokenized = tokenize(data.train[: options.examples], loaded.tokenizer, max_length=max_length)
    require_examples(tokenized, "training", max_length)
    check_context(tokenized, options.model, loaded)
    return SensitivityInputs(
        options=options,
        alphas=alphas,
        loaded=loaded,
        examples=tuple(example.input_ids for example in tokenized.examples),
        notes=(*data.notes, *loaded.notes, *length_notes(tokenized, "training", max_length)),
    )


def measure(inputs: SensitivityInputs) -> Sensitivity:
    """Measure on the best available device; the model is moved there."""
    options = inputs.options
    return measure_sensitivity(
        inputs.loaded.model.to(device_kind()),  # type: ignore[arg-type]
        inputs.examples,
        inputs.alphas,
        names=(_display_name(options.model), _display_name(options.dataset)),
        noise=options.noise,
        seed=options.seed,
    )


def write(sensitivity: Sensitivity, options: SensitivityOptions, folder: Path) -> tuple[Path, ...]:
    """Write table, figures and options into a folder, and return their paths.

    Raises:
        UsageError: the folder is not writable.
    """
    picture = plot_sensitivity(sensitivity)
    return write_output(folder, options, {TABLE: to_csv(sensitivity), PNG: picture.png, SVG: picture.svg})


def sweep_command(sensitivity: Sensitivity, options: SensitivityOptions) -> str:
    """Return the command that sweeps alpha 0 and the alphas equivalent to the paper's, on the same model and data."""
    alphas = dict.fromkeys(map(two_digits, (0.0, *equivalent_alphas(sensitivity.scale).values())))
    words = ["neftune", "sweep", "--alphas", ",".join(alphas)]
    for option, value, default in (
        ("--model", options.model, SensitivityOptions.model),
        ("--dataset", options.dataset, SensitivityOptions.dataset),
        ("--format", options.layout, None),
        ("--columns", options.columns, None),
        ("--max-length", options.max_length, None),
        ("--noise", options.noise, SensitivityOptions.noise),
    ):
        if value != default:
            words += [option, str(value)]
    return shlex.join(words)


def _find(options: SensitivityOptions, folder: Path) -> tuple[ModelSource, InstructionData, tuple[float, ...]]:
    problems = Problems()
    alphas = problems.attempt(lambda: parse_alphas(options.alphas))
    problems.attempt(lambda: _check_counts(options))
    problems.attempt(lambda: check_output(folder, options, (TABLE, PNG, SVG)))
    source = problems.attempt(lambda: find_model(options.model))
    data = problems.attempt(lambda: load_data(input_spec(options.dataset, options.layout, options.columns)))
    problems.raise_any()
    assert source is not None
    assert data is not None
    assert alphas is not None
    return source, data, tuple(alphas)


def _check_counts(options: SensitivityOptions) -> None:
    counts = {"--examples": options.examples, "--max-length": options.max_length}
    problems = [
        Problem(f"{option} is {number}.", "Use 1 or more.")
        for option, number in counts.items()
        if number is not None and number < 1
    ]
    if problems:
        raise UsageError(*problems)


def _display_name(name: str) -> str:
    """Return the last part of a path, and any other name unchanged."""
    return Path(name).resolve().name if Path(name).exists() else name
