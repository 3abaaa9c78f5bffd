"""`neftune preview`: the tokens of training examples, with the parts that are learned, cut off and get noise."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands import data_options, options, run_options
from neftune_cli.commands.output import OutputFile
from neftune_cli.commands.routing import Destination, values_for
from neftune_cli.errors import Problems

if TYPE_CHECKING:
    from neftune_cli.reporting.preview import Preview


def preview(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Experiment in YAML. Options override its fields.")
    ] = None,
    model: data_options.Model = None,
    dataset: data_options.DatasetName = None,
    format_: data_options.Format = None,
    train_examples: data_options.TrainExamples = None,
    eval_examples: data_options.EvalExamples = None,
    columns: data_options.Columns = None,
    split: data_options.SplitName = None,
    eval_dataset: data_options.EvalDataset = None,
    eval_split: data_options.EvalSplit = None,
    loss: data_options.Loss = None,
    raw: data_options.Raw = None,
    allow_special_tokens: data_options.AllowSpecialTokens = None,
    skip_bad_rows: data_options.SkipBadRows = None,
    max_bad_share: data_options.MaxBadShare = None,
    load_in_4bit: data_options.LoadIn4Bit = None,
    max_length: options.MaxLength = None,
    lora_rank: options.LoraRank = None,
    rows: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of examples to show.", rich_help_panel=data_options.DATA)
    ] = 3,
    alpha: options.Alpha = None,
    noise: options.NoiseName = None,
    noise_target: options.NoiseTarget = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the preview as an HTML page.", rich_help_panel=run_options.RUN),
    ] = None,
    as_json: run_options.Json = False,
) -> None:
    """Show training examples as the model receives them: tokens, loss, noise, and columns that are not read.

    Nothing is trained. Data and model are checked as before a sweep.
    """
    arguments = locals()
    from neftune_cli.commands.preview_contents import make_preview
    from neftune_cli.config.values import parse_size

    fields = values_for(Destination.SPEC, preview, arguments)
    problems = Problems()
    size = problems.attempt(lambda: parse_size(alpha, None))
    page = OutputFile("--html", html, "preview.html") if html else None
    if page:
        problems.attempt(page.check)
    shown = make_preview(experiment, fields, problems, alpha=size[1] if size else 0.0, rows=rows)
    if as_json:
        from neftune_cli.reporting.preview import preview_json

        typer.echo(json.dumps(preview_json(shown), indent=2, ensure_ascii=False))
    else:
        _print(shown)
    if page:
        from neftune_cli.reporting.preview import preview_page

        page.write(preview_page(shown))


def _print(shown: "Preview") -> None:
    from rich.console import Console

    from neftune_cli.reporting.preview import preview_text

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(preview_text(shown, colored=console.is_terminal and not console.no_color))
