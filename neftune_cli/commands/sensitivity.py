"""`neftune sensitivity`: what noise of several alphas does to a model's embeddings and predictions, nothing trained."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands import options

if TYPE_CHECKING:
    from neftune_cli.geometry.sensitivity.measurement import Sensitivity


def sensitivity(
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    examples: Annotated[
        int, typer.Option(help="Training examples to look at.", metavar="N", rich_help_panel="Data and model")
    ] = 64,
    max_length: options.MaxLength = None,
    alphas: Annotated[str, typer.Option(help="Sizes of noise.", rich_help_panel="Noise")] = "0,1,5,10,15,20,30",
    noise: options.NoiseShape = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the draw.", rich_help_panel="Noise")] = 0,
    output: options.Output = None,
    as_json: options.Json = False,
) -> None:
    """Measure what noise does to embeddings and next-token predictions, and which alphas here match the paper's."""
    from neftune_cli.commands.request import default_name
    from neftune_cli.geometry.sensitivity.request import SensitivityRequest, measure, prepare, write

    request = SensitivityRequest(
        model=model or "tiny",
        dataset=dataset or "bios",
        layout=format_,
        examples=examples,
        max_length=max_length,
        alphas=alphas,
        noise=noise or "uniform",
        seed=seed,
    )
    folder = output or Path("results") / f"sensitivity-{default_name(request.model, request.dataset)}"
    prepared = prepare(request, folder)
    for note in prepared.notes:
        typer.echo(note, err=True)
    typer.echo(f"Measuring noise of {len(prepared.alphas)} alphas on {len(prepared.examples)} examples", err=True)
    measured = measure(prepared)
    files = write(measured, folder)
    _print(measured, files, as_json=as_json)
    typer.echo(f"Wrote {' and '.join(map(str, files))}", err=True)


def _print(measured: "Sensitivity", files: tuple[Path, ...], *, as_json: bool) -> None:
    from rich.console import Console

    from neftune_cli.geometry.sensitivity.report import print_sensitivity, summary, to_text

    if as_json:
        typer.echo(json.dumps({"files": [str(file) for file in files], **summary(measured)}, indent=2))
    elif sys.stdout.isatty():
        print_sensitivity(Console(), measured)
    else:
        typer.echo(to_text(measured), nl=False)
