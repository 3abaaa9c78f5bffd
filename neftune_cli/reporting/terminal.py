"""Comparisons on a terminal: the first screen, and on request all tables and the claims of the paper."""

from collections.abc import Collection, Sequence

from rich.console import Console

from neftune_cli.analysis.results import Comparison
from neftune_cli.reporting.screen import print_screen
from neftune_cli.reporting.terminal_tables import print_claims, print_details
from neftune_cli.store import REPORT_FILE


def print_comparisons(
    console: Console,
    comparisons: Sequence[Comparison],
    *,
    full: bool = False,
    hypotheses: bool = False,
    reported: Collection[str] = (),
) -> None:
    """Print comparisons one after another.

    Args:
        console: its width determines the layout.
        comparisons: what to print.
        full: whether to print all tables and footnotes after the first screen.
        hypotheses: whether to print the claims of the paper.
        reported: folders that have a report of their comparison.
    """
    for number, comparison in enumerate(comparisons):
        if number:
            console.print("\n")
        print_screen(console, comparison, report=_report(comparison, reported))
        if full:
            print_details(console, comparison)
        if hypotheses:
            print_claims(console, comparison.claims)


def _report(comparison: Comparison, reported: Collection[str]) -> str:
    folders = comparison.origin.folders
    return f"{folders[0]}/{REPORT_FILE}" if len(folders) == 1 and folders[0] in reported else ""
