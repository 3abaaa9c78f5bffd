"""`neftune compare`: finished sweeps on disk -> tables and a verdict on the terminal, a page, or a document."""

from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.reporting.documents import OutputFormat


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Sweeps, or folders with sweeps or with others' runs below them."),
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Arm to compare with: alpha or name; by default the first.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="KEY", help="What the verdict is about (default eval_loss).")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=SIZE", help="What counts as no difference: eval_loss=0.02, response_chars=10%."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of intervals; tests are made at 1 minus it.")] = 0.95,
    hypotheses: Annotated[bool, typer.Option("--hypotheses", help="The paper's claims beside what was found.")] = False,
    format_: Annotated[
        OutputFormat, typer.Option("--format", help="How the comparison is written.")
    ] = OutputFormat.TABLE,
    output: Annotated[Path | None, typer.Option(help="File to write to instead of the terminal.")] = None,
) -> None:
    """Compare the arms of finished sweeps, paired by seed and example: a verdict in words, tables, plots and a page."""
    from neftune_cli.commands.comparing import Request, compare_and_report

    wanted = Request(tuple(paths), baseline, metric, tuple(margin or ()), confidence, hypotheses=hypotheses)
    compare_and_report(wanted, format_, output)
