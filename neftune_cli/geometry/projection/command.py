"""Steps of `neftune visualize`: options to model, noise and map, the drawing, and its files."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from neftune_cli.config.choices import ProjectionMethod
from neftune_cli.config.noises import DEFAULT_NOISE
from neftune_cli.config.resolve import default_recipe
from neftune_cli.config.spec import DEFAULT_DATASET, DEFAULT_MODEL
from neftune_cli.config.values import check_alpha
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import require_examples, tokenize
from neftune_cli.errors import Problems
from neftune_cli.geometry.output import check_output, input_spec, write_output
from neftune_cli.geometry.projection.embedding_shift import NoiseDraw, Shift, shift_tokens, to_csv
from neftune_cli.geometry.projection.plot import draw_shift
from neftune_cli.geometry.projection.token_groups import group_tokens
from neftune_cli.geometry.projection.token_map import (
    TokenMap,
    check_method,
    check_perplexity,
    project,
)
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import ModelSource, find_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PNG: Final = "projection.png"
SVG: Final = "projection.svg"
POINTS: Final = "points.csv"


@dataclass(frozen=True)
class VisualizationOptions:
    """The options of the command."""

    model: str = DEFAULT_MODEL
    dataset: str = DEFAULT_DATASET
    layout: str | None = None
    columns: str | None = None
    """Columns by meaning, as `--columns` gives them."""
    length: int | None = None
    """Length of the example, in tokens; None is the median length of the training examples."""
    alpha: float = 5.0
    noise: str = DEFAULT_NOISE
    projection: ProjectionMethod = "tsne"
    points: int = 40
    """Largest number of tokens per group."""
    perplexity: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Visualization:
    """An embedding shift and its map."""

    model: str
    noise: NoiseDraw
    shift: Shift
    token_map: TokenMap
    notes: tuple[str, ...]
    """Notes for the user on the model, the groups and the length of the example."""


def visualize_noise(options: VisualizationOptions, folder: Path) -> Visualization:
    """Select tokens, add the noise and project; the same options give the same numbers on one machine.

    The output folder is checked first, and nothing is written to it.

    Raises:
        UsageError: all problems with options, folder, model and data together; then those with the vocabulary, the
            number of tokens for the perplexity, and the map.
    """
    source, data = _find(options, folder)
    loaded = load_model(source)
    tokens = group_tokens(loaded.tokenizer, max_tokens=options.points, model=options.model)
    check_perplexity(options.projection, options.perplexity, len(tokens.token_ids))
    length = options.length or _median_length(data, loaded.tokenizer, options.model)
    noise = NoiseDraw(options.alpha, length, options.noise, options.seed)
    shift = shift_tokens(loaded.model, tokens, noise)
    token_map = project(shift.before, shift.after, options.projection, perplexity=options.perplexity, seed=options.seed)
    notes = (*loaded.notes, *tokens.notes, *_notes_on_length(options, length))
    return Visualization(options.model, noise, shift, token_map, notes)


def write_visualization(shown: Visualization, options: VisualizationOptions, folder: Path) -> tuple[Path, ...]:
    """Write the figures, the table of points and the options into a folder, and return their paths.

    Raises:
        UsageError: the folder is not writable.
    """
    picture = draw_shift(shown.shift, shown.token_map, model=shown.model, noise=shown.noise)
    table = to_csv(shown.shift, shown.token_map)
    return write_output(folder, options, {PNG: picture.png, SVG: picture.svg, POINTS: table})


def _find(options: VisualizationOptions, folder: Path) -> tuple[ModelSource, InstructionData | None]:
    """Find model and data, before either is loaded."""
    problems = Problems()
    problems.attempt(lambda: check_alpha(options.alpha))
    problems.attempt(lambda: check_method(options.projection))
    problems.attempt(lambda: check_perplexity(options.projection, options.perplexity, math.inf))
    problems.attempt(lambda: check_output(folder, options, (PNG, SVG, POINTS)))
    source = problems.attempt(lambda: find_model(options.model))
    needed = options.length is None
    chosen = (options.dataset, options.layout, options.columns)
    data = problems.attempt(lambda: load_data(input_spec(*chosen))) if needed else None
    problems.raise_any()
    assert source is not None
    return source, data


def _notes_on_length(options: VisualizationOptions, length: int) -> tuple[str, ...]:
    if options.length is not None:
        return ()
    source = f"the median length of the training examples of {options.dataset}"
    return (
        f"The noise is that of an example of {length} tokens, {source}. --dataset or --length sets another length.",
    )


def _median_length(data: InstructionData | None, tokenizer: "PreTrainedTokenizerBase", model: str) -> int:
    assert data is not None
    max_length = int(default_recipe(model, lora=False)["max_length"])
    tokenized = tokenize(data.train, tokenizer, max_length=max_length)
    require_examples(tokenized, "training", max_length)
    return round(median(len(example.input_ids) for example in tokenized.examples))
