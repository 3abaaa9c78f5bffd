"""`neftune compare`: finished sweeps on disk -> tables on the terminal, or a document for another program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.analysis.comparison import Comparison
from neftune_cli.commands.printing import print_tables
from neftune_cli.errors import NothingToCompareError, Problem, UsageError
from neftune_cli.reporting.documents import Format, document
from neftune_cli.reporting.sweep_report import compare_sweep, write_reports
from neftune_cli.store import SweepFolder, find_sweeps


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Sweeps, or folders with sweeps below them.")],
    baseline: Annotated[
        str | None, typer.Option(help="Arm to compare with: alpha or name; by default the first.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How the comparison is written.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option(help="File to write to instead of the terminal.")] = None,
) -> None:
    """Compare the arms of finished sweeps seed by seed: as tables, in words and, beside the trials, as plots."""
    compared = _compare_all(find_sweeps(paths), baseline)
    comparisons = [comparison for _, comparison in compared]
    if output is not None:
        _write(output, document(comparisons, format_))
        typer.echo(f"Wrote {output}", err=True)
    elif format_ is Format.TABLE:
        print_tables(comparisons)
    else:
        typer.echo(document(comparisons, format_), nl=False)
    if format_ is Format.TABLE and baseline is None:
        for folder, comparison in compared:
            _report(folder, comparison)


def _compare_all(folders: Sequence[SweepFolder], baseline: str | None) -> list[tuple[SweepFolder, Comparison]]:
    """Compare each sweep; one without a finished trial is left out with a word, unless all are."""
    compared, empty = [], []
    for folder in folders:
        try:
            compared.append((folder, compare_sweep(folder, baseline)))
        except NothingToCompareError as error:
            empty.append(str(error))
    if not compared:
        raise NothingToCompareError("\n".join(empty))
    for message in empty:
        typer.echo(message, err=True)
    return compared


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fix = "Name a file in a folder that exists and that you can write to."
        raise UsageError(Problem(f"--output {output} can't be written: {error.strerror}.", fix)) from None


def _report(folder: SweepFolder, comparison: Comparison) -> None:
    try:
        write_reports(folder, comparison)
    except OSError as error:  # someone else's results may be read-only, and the tables are out already
        typer.echo(f"{folder.path} got no summary.md and plots: {error.strerror}.", err=True)
    else:
        typer.echo(f"Wrote summary.md and plots/ to {folder.path}", err=True)
