"""`neftune sensitivity`: the effect of noise of several alphas on embeddings and predictions, without training."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands import data_options, options, run_options
from neftune_cli.config import choices
from neftune_cli.config.noises import DEFAULT_NOISE

if TYPE_CHECKING:
    from neftune_cli.geometry.sensitivity.measurement import Sensitivity


def sensitivity(
    model: data_options.Model = None,
    dataset: data_options.DatasetName = None,
    format_: data_options.Format = None,
    columns: data_options.Columns = None,
    examples: Annotated[
        int,
        typer.Option(
            help="Maximum number of training examples to measure.", metavar="N", rich_help_panel=data_options.DATA
        ),
    ] = 64,
    max_length: options.MaxLength = None,
    alphas: Annotated[
        str, typer.Option(help="Alphas to measure.", metavar="LIST", rich_help_panel=options.NOISE)
    ] = "0,1,5,10,15,20,30",
    noise: options.NoiseName = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=choices.LARGEST_SEED,
            metavar="N",
            help="Seed of the random draws of the noise.",
            rich_help_panel=options.NOISE,
        ),
    ] = 0,
    output: Annotated[
        Path | None,
        run_options.derived_folder("sensitivity"),
    ] = None,
    as_json: run_options.Json = False,
) -> None:
    """Measure the effect of noise on embeddings and predictions, and estimate the alphas that match those of the paper.

    At these alphas, the ratio of noise norm to mean embedding norm is the same as on LLaMA-2-7B at alpha 5, 10 and 15.
    The last line is the `neftune sweep` command with these alphas. Nothing is trained.
    """
    from neftune_cli.commands.request import default_name
    from neftune_cli.config.spec import DEFAULT_DATASET, DEFAULT_MODEL
    from neftune_cli.geometry.output import default_folder
    from neftune_cli.training.hardware import configure_process

    configure_process()
    from neftune_cli.geometry.sensitivity.command import (
        SensitivityOptions,
        measure,
        prepare,
        sweep_command,
        write,
    )

    chosen = SensitivityOptions(
        model=DEFAULT_MODEL if model is None else model,
        dataset=DEFAULT_DATASET if dataset is None else dataset,
        layout=format_,
        columns=columns,
        examples=examples,
        max_length=max_length,
        alphas=alphas,
        noise=noise or DEFAULT_NOISE,
        seed=seed,
    )
    names = default_name(chosen.model, chosen.dataset)
    folder = output or default_folder("sensitivity", names, chosen, named=("model", "dataset"))
    inputs = prepare(chosen, folder)
    for note in inputs.notes:
        typer.echo(note, err=True)
    measured_on = f"{len(inputs.examples)} examples of {chosen.dataset}"
    typer.echo(f"Measuring {len(inputs.alphas)} alphas on {measured_on}", err=True)
    measured = measure(inputs)
    files = write(measured, chosen, folder)
    for file in files:
        typer.echo(f"Wrote {file}", err=True)
    _print(measured, files, sweep_command(measured, chosen), as_json=as_json)


def _print(measured: "Sensitivity", files: tuple[Path, ...], command: str, *, as_json: bool) -> None:
    from rich.console import Console

    from neftune_cli.geometry.sensitivity.report import print_sensitivity, summary, to_text

    if as_json:
        paths = [str(file) for file in files]
        typer.echo(json.dumps({"files": paths, **summary(measured), "sweep_command": command}, indent=2))
        return
    if sys.stdout.isatty():
        print_sensitivity(Console(), measured)
    else:
        typer.echo(to_text(measured), nl=False)
    typer.echo(f"\nTo train with the equivalent alphas:\n\n    {command}")
