"""`neftune preview`: the tokens of training examples, with the parts that are learned, cut off and get noise."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import options
from neftune_cli.commands.routing import Destination, values_for


def preview(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Experiment in YAML. Options override its fields.")
    ] = None,
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    train_examples: options.TrainExamples = None,
    eval_examples: options.EvalExamples = None,
    columns: options.Columns = None,
    split: options.SplitName = None,
    eval_dataset: options.EvalDataset = None,
    eval_split: options.EvalSplit = None,
    loss: options.Loss = None,
    raw: options.Raw = None,
    allow_special_tokens: options.AllowSpecialTokens = None,
    skip_bad_rows: options.SkipBadRows = None,
    max_bad_share: options.MaxBadShare = None,
    max_length: options.MaxLength = None,
    rows: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of examples to show.", rich_help_panel=options.DATA)
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
