"""`neftune visualize`: a figure of token embeddings before and after the noise."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands import data_options, options, run_options
from neftune_cli.config import choices
from neftune_cli.config.noises import DEFAULT_NOISE

if TYPE_CHECKING:
    from neftune_cli.geometry.projection.command import Visualization


_noise = partial(typer.Option, rich_help_panel=options.NOISE)
_map = partial(typer.Option, rich_help_panel="Map")
_LENGTH = "Length of the example in the noise formula, in tokens (default: median of the training examples)."


def visualize(
    model: data_options.Model = None,
    dataset: data_options.DatasetName = None,
    format_: data_options.Format = None,
    columns: data_options.Columns = None,
    alpha: Annotated[float, _noise(min=0, metavar="A", help="Noise size; 0 is no noise.")] = 5.0,
    noise: options.NoiseName = None,
    length: Annotated[int | None, _noise(min=1, max=1_000_000, metavar="L", help=_LENGTH)] = None,
    seed: Annotated[
        int, _noise(min=0, max=choices.LARGEST_SEED, metavar="N", help="Seed of the noise and the map.")
    ] = 0,
    projection: Annotated[
        choices.ProjectionMethod, _map(help="Projection to two dimensions; umap needs umap-learn.")
    ] = "tsne",
    points: Annotated[int, _map(min=5, metavar="N", help="Maximum number of tokens per group.")] = 40,
    perplexity: Annotated[float, _map(metavar="P", help="Effective number of neighbors per token in t-SNE.")] = 30.0,
    output: Annotated[Path | None, run_options.derived_folder("visualize")] = None,
    as_json: run_options.Json = False,
) -> None:
    """Plot groups of token embeddings before and after the noise, with one arrow per token for its shift."""
    from neftune_cli.commands.request import default_name
    from neftune_cli.config.spec import DEFAULT_DATASET, DEFAULT_MODEL
    from neftune_cli.geometry.output import default_folder
    from neftune_cli.geometry.projection.command import (
        VisualizationOptions,
        visualize_noise,
        write_visualization,
    )

    chosen = VisualizationOptions(
        model=DEFAULT_MODEL if model is None else model,
        dataset=DEFAULT_DATASET if dataset is None else dataset,
        layout=format_,
        columns=columns,
        length=length,
        alpha=alpha,
        noise=noise or DEFAULT_NOISE,
        projection=projection,
        points=points,
        perplexity=perplexity,
        seed=seed,
    )
    names = default_name(chosen.model, chosen.dataset)
    folder = output or default_folder("visualize", names, chosen, named=("model", "dataset"))
    shown = visualize_noise(chosen, folder)
    _report(shown, write_visualization(shown, chosen, folder), as_json=as_json)


def _report(shown: "Visualization", files: tuple[Path, ...], *, as_json: bool) -> None:
    from rich.console import Console

    from neftune_cli.geometry.projection.embedding_shift import neighbour_sentences, shift_sentence, to_json, to_table

    if as_json:
        typer.echo(json.dumps({"files": [str(file) for file in files], **to_json(shown.shift, shown.noise)}, indent=2))
    else:
        Console().print(to_table(shown.shift))
        typer.echo(f"\n{shift_sentence(shown.shift)}\n{' '.join(neighbour_sentences(shown.shift))}")
    for line in (*shown.notes, *(f"Wrote {file}" for file in files)):
        typer.echo(line, err=True)
