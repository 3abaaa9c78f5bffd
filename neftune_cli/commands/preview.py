"""`neftune preview`: the tokens of training examples, with the parts that are learned, cut off and get noise."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.commands import data_options, options
from neftune_cli.commands.routing import Destination, values_for
from neftune_cli.errors import Problem, Problems, UsageError

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
    problems = Problems()
    size = problems.attempt(lambda: parse_size(alpha, None))
    problems.attempt(lambda: _check_page(html))
    shown = make_preview(experiment, fields, problems, alpha=size[1] if size else 0.0, rows=rows)
    if as_json:
        from neftune_cli.reporting.preview import preview_json

        typer.echo(json.dumps(preview_json(shown), indent=2, ensure_ascii=False))
    else:
        _print(shown)
    if html:
        _write(html, shown)


def _check_page(html: Path | None) -> None:
    """Check that a file can be at the path of the page, before the data are read.

    Raises:
        UsageError: the path is a folder, is in no folder, or cannot be a path.
    """
    with _explained(html):
        if html is not None and html.is_dir():
            fix = f"Use the path of a file, for example --html {html / 'preview.html'}."
            raise UsageError(Problem(f"--html {html}: this is a folder.", fix))
        if html is not None and not html.parent.is_dir():
            what = f"--html {html}: there is no folder '{html.parent}'."
            raise UsageError(Problem(what, "Create it, or use another path."))


def _write(html: Path, shown: "Preview") -> None:
    from neftune_cli.reporting.preview import preview_page

    with _explained(html):
        html.write_text(preview_page(shown), encoding="utf-8")
    typer.echo(f"Wrote {html}", err=True)


@contextmanager
def _explained(html: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"--html {html}: the page cannot be written: {error.strerror}."
        raise UsageError(Problem(what, "Use a file in a folder that is writable.")) from error


def _print(shown: "Preview") -> None:
    from rich.console import Console

    from neftune_cli.reporting.preview import preview_text

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(preview_text(shown, colored=console.is_terminal and not console.no_color))
