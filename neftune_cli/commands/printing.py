"""How commands print comparisons on stdout: coloured to fit a terminal, plain elsewhere."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from neftune_cli.analysis.comparison import Comparison
from neftune_cli.reporting.documents import Format, document
from neftune_cli.reporting.tables import print_comparisons


def print_tables(comparisons: Sequence[Comparison]) -> None:
    """Print the tables of each comparison with its footnotes and its reading."""
    if sys.stdout.isatty():
        print_comparisons(Console(), comparisons)
    else:
        typer.echo(document(comparisons, Format.TABLE), nl=False)
