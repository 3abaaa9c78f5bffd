"""`neftune preview`: the tokens of training examples, with the parts that are learned, cut off and get noise."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import data_options, options
from neftune_cli.commands.routing import Destination, values_for


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
    max_length: options.MaxLength = None,
    rows: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of examples to show.", rich_help_panel=data_options.DATA)
    ] = 3,
    alpha: options.Alpha = None,
    noise: options.NoiseName = None,
    noise_target: options.NoiseTarget = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the preview as an HTML page.", rich_help_panel=options.RUN),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show training examples as the model receives them: tokens, loss, noise, and columns that are not read.

    Nothing is trained. Data and model are checked as before a sweep.
    """
    arguments = locals()
    from neftune_cli.commands.preview_contents import make_preview
    from neftune_cli.config.values import parse_size

    fields = values_for(Destination.SPEC, preview, arguments)
    _, size = parse_size(alpha, None)
    shown = make_preview(experiment, fields, alpha=size, rows=rows)
    if as_json:
        from neftune_cli.reporting.preview import preview_json

        typer.echo(json.dumps(preview_json(shown), indent=2, ensure_ascii=False))
    else:
        _print(shown)
    if html:
        from neftune_cli.reporting.preview import preview_page

        html.write_text(preview_page(shown), encoding="utf-8")
        typer.echo(f"Wrote {html}", err=True)


def _print(shown: object) -> None:
    from rich.console import Console

    from neftune_cli.reporting.preview import Preview, preview_text

    assert isinstance(shown, Preview)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(preview_text(shown, colored=console.is_terminal and not console.no_color))
