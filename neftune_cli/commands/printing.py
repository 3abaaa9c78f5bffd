"""How commands print comparisons on stdout: coloured to fit a terminal, plain elsewhere."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from neftune_cli.analysis.results import Comparison
from neftune_cli.reporting.documents import OutputFormat, document
from neftune_cli.reporting.tables import print_comparisons


def print_tables(comparisons: Sequence[Comparison], *, hypotheses: bool = False) -> None:
    """Print each comparison: verdict, tables, footnotes and, if asked for, the paper's claims."""
    if sys.stdout.isatty():
        print_comparisons(Console(), comparisons, hypotheses=hypotheses)
    else:
        typer.echo(document(comparisons, OutputFormat.TABLE, hypotheses=hypotheses), nl=False)
