"""Output formats of comparisons, and comparisons as one text in the chosen format.

The writers are imported late, so that `neftune compare --help` starts fast.
"""

import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, get_args

from neftune_cli.formatting import PLAIN_WIDTH

if TYPE_CHECKING:
    from neftune_cli.analysis.comparison import ComparedEvidence
    from neftune_cli.analysis.results import Comparison


class OutputFormat(StrEnum):
    """Format of printed or written comparisons."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"
    LATEX = "latex"
    CHECKLIST = "checklist"
    HTML = "html"


FORMATS_BY_SUFFIX = {
    ".json": OutputFormat.JSON,
    ".csv": OutputFormat.CSV,
    ".md": OutputFormat.MARKDOWN,
    ".markdown": OutputFormat.MARKDOWN,
    ".tex": OutputFormat.LATEX,
    ".latex": OutputFormat.LATEX,
    ".html": OutputFormat.HTML,
    ".htm": OutputFormat.HTML,
}
"""Formats that the suffix of a file announces."""


@dataclass(frozen=True)
class ScreenOptions:
    """Parts of comparisons to print on a terminal, beside their first screens."""

    full: bool = False
    """All tables and footnotes, after the first screen."""
    hypotheses: bool = False
    """Claims of the paper and the further hypotheses."""
    reported: Collection[str] = ()
    """Folders that have a report of their comparison, which the first screen names."""


FIRST_SCREEN = ScreenOptions()


def document(compared: "Sequence[ComparedEvidence]", output_format: OutputFormat) -> str:
    """Return the comparisons as a text without terminal codes."""
    comparisons = list(map(attrgetter("comparison"), compared))
    match output_format:
        case OutputFormat.TABLE:
            text = to_text(comparisons, options=ScreenOptions(full=True))
        case OutputFormat.JSON:
            from neftune_cli.reporting.exports import to_json

            text = to_json(comparisons)
        case OutputFormat.CSV:
            from neftune_cli.reporting.exports import to_csv

            text = to_csv(comparisons)
        case OutputFormat.MARKDOWN:
            from neftune_cli.reporting.markdown import to_markdown

            text = to_markdown(comparisons)
        case OutputFormat.LATEX:
            from neftune_cli.reporting.latex import to_latex

            text = to_latex(comparisons)
        case OutputFormat.CHECKLIST:
            from neftune_cli.reporting.checklist.document import to_checklist

            text = to_checklist(compared)
        case OutputFormat.HTML:
            from neftune_cli.reporting.reports import render_page

            text = render_page(compared)
    return text


def is_document(text: str) -> bool:
    """Return whether a text is a document of this program: comparisons in any output format, or a page."""
    return any(pattern.match(text) for pattern in (*_STARTS.values(), *_starts_with_title()))


@cache
def _starts_with_title() -> tuple[re.Pattern[str], ...]:
    """Return the starts of the formats that begin with a title, as other texts do: tables, Markdown and checklists.

    A table has the state of the decision in a column of its own, then the title of the primary metric. Markdown has
    both indented.
    """
    from neftune_cli.analysis.headline import DecisionState
    from neftune_cli.reporting.checklist.document import TITLE

    states = "|".join(("PROBLEM", *get_args(DecisionState)))
    goal = r"(?:(?:lower|higher)\s+is\s+better|no\s+preferred\s+direction)\)"

    def first_screen(indent: str) -> str:
        return rf"(?:{indent}[^\n]+\n){{1,12}}\n{indent}(?:{states}) {{2,}}\S.{{,4000}}?{goal}"

    return (
        re.compile(first_screen(""), re.DOTALL),
        re.compile(r"# [^\n]+\n\n" + first_screen("    "), re.DOTALL),
        re.compile(f"# {re.escape(TITLE)}: "),
    )


_STARTS = {
    OutputFormat.JSON: re.compile(r'\{\s*"schema_version": \d+,\s*"comparisons": \['),
    OutputFormat.CSV: re.compile("sweep,arm,alpha,metric,"),
    OutputFormat.LATEX: re.compile(r"% Needs \\usepackage\{booktabs\}\."),
    OutputFormat.HTML: re.compile(r'\s*<!DOCTYPE html>.{,2000}<meta name="generator" content="neftune">', re.DOTALL),
}
"""Starts of the documents of the other formats."""


def to_text(
    comparisons: "Sequence[Comparison]", width: int = PLAIN_WIDTH, options: ScreenOptions = FIRST_SCREEN
) -> str:
    """Return the terminal output with lines of this width, without colors."""
    from rich.console import Console

    from neftune_cli.reporting.terminal import print_comparisons

    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, force_terminal=False)
    print_comparisons(console, comparisons, options)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
