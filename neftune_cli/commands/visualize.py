"""`neftune visualize`: token embeddings before and after the noise, as a picture."""

import json
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands import options

if TYPE_CHECKING:
    from neftune_cli.geometry.projection.visualization import Visualization


class Projection(StrEnum):
    """Ways to a map."""

    TSNE = "tsne"
    PCA = "pca"
    UMAP = "umap"


_noise = partial(typer.Option, rich_help_panel="Noise")
_map = partial(typer.Option, rich_help_panel="Map")
_LENGTH = "Tokens of the example whose noise is shown (default: of the data's median training example)."


def visualize(
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    alpha: Annotated[float, _noise(min=0, help="The noise; 0 is none.")] = 5.0,
    noise: options.NoiseShape = None,
    length: Annotated[int | None, _noise(min=1, max=1_000_000, metavar="L", help=_LENGTH)] = None,
    seed: Annotated[int, _noise(min=0, max=2**32 - 1, help="Decides the noise and the map.")] = 0,
    projection: Annotated[Projection, _map(help="Way to the map; umap needs umap-learn.")] = Projection.TSNE,
    points: Annotated[int, _map(min=5, metavar="N", help="Tokens a group has at most.")] = 40,
    perplexity: Annotated[float, _map(help="How many neighbours t-SNE keeps close.")] = 30.0,
    output: options.Output = None,
    as_json: options.Json = False,
) -> None:
    """Draw token embeddings in groups before and after the noise, and an arrow for how far each one moved."""
    from neftune_cli.commands.request import default_name
    from neftune_cli.geometry.projection.visualization import Wish, visualize_noise, write_visualization

    wish = Wish(
        model=model or "tiny",
        dataset=dataset or "bios",
        layout=format_,
        length=length,
        alpha=alpha,
        noise=noise or "uniform",
        projection=projection.value,
        points=points,
        perplexity=perplexity,
        seed=seed,
    )
    folder = output or Path("results") / f"visualize-{default_name(wish.model)}"
    shown = visualize_noise(wish, folder)
    _report(shown, write_visualization(shown, folder), as_json=as_json)


def _report(shown: "Visualization", files: tuple[Path, ...], *, as_json: bool) -> None:
    from rich.console import Console

    from neftune_cli.geometry.projection.shift import moved_words, size_words, to_json, to_table

    if as_json:
        typer.echo(json.dumps({"files": [str(file) for file in files], **to_json(shown.shift, shown.noise)}, indent=2))
    else:
        Console().print(to_table(shown.shift))
        typer.echo(f"\n{size_words(shown.shift)}\n{moved_words(shown.shift)}")
    for line in (*shown.notes, *(f"Wrote {file}" for file in files)):
        typer.echo(line, err=True)
