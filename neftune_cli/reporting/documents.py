"""Output formats of comparisons, and comparisons as one text in the chosen format.

The writers are imported late, so that `neftune compare --help` starts fast.
"""

import io
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neftune_cli.analysis.results import Comparison


class OutputFormat(StrEnum):
    """Format of printed or written comparisons."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"
    LATEX = "latex"
    HTML = "html"


def document(comparisons: "Sequence[Comparison]", output_format: OutputFormat, *, hypotheses: bool = False) -> str:
    """Return the comparisons as a text that ends with a line break and has no terminal codes.

    `hypotheses` adds the paper's claims to the tables of `OutputFormat.TABLE`; the other formats ignore it.

    Raises:
        ValueError: the format is HTML, which `reports.render_page` writes.
    """
    match output_format:
        case OutputFormat.TABLE:
            return to_text(comparisons, hypotheses=hypotheses)
        case OutputFormat.JSON:
            from neftune_cli.reporting.exports import to_json

            return to_json(comparisons)
        case OutputFormat.CSV:
            from neftune_cli.reporting.exports import to_csv

            return to_csv(comparisons)
        case OutputFormat.MARKDOWN:
            from neftune_cli.reporting.markdown import to_markdown

            return to_markdown(comparisons)
        case OutputFormat.LATEX:
            from neftune_cli.reporting.latex import to_latex

            return to_latex(comparisons)
        case OutputFormat.HTML:
            raise ValueError("the page is written by reports.render_page")


def is_document(text: str) -> bool:
    """Return whether a text is a document of this program: comparisons in any output format, or a page."""
    return any(pattern.match(text) for pattern in _STARTS.values())


_LEGEND = r"Mean ± standard deviation over seeds\."
_STARTS = {
    OutputFormat.JSON: re.compile(r'\{\s*"schema_version": \d+,\s*"comparisons": \['),
    OutputFormat.CSV: re.compile("sweep,arm,alpha,metric,"),
    OutputFormat.LATEX: re.compile(r"% Needs \\usepackage\{booktabs\}\."),
    OutputFormat.HTML: re.compile(r'\s*<!DOCTYPE html>.{,2000}<meta name="generator" content="neftune">', re.DOTALL),
    OutputFormat.MARKDOWN: re.compile(rf"# .+\n\n.*^## Notes\n\n- {_LEGEND}", re.DOTALL | re.MULTILINE),
    OutputFormat.TABLE: re.compile(rf"[^#%<{{[\n][^\n]*\n\n.*^{_LEGEND}", re.DOTALL | re.MULTILINE),
}
"""How the documents of each format start. Tables and Markdown have no fixed start, but the legend under the tables."""


def to_text(comparisons: "Sequence[Comparison]", *, hypotheses: bool = False) -> str:
    """Return the terminal output at `PLAIN_WIDTH` columns, without colors."""
    from rich.console import Console

    from neftune_cli.formatting import PLAIN_WIDTH
    from neftune_cli.reporting.tables import print_comparisons

    text = io.StringIO()
    console = Console(file=text, width=PLAIN_WIDTH, color_system=None, force_terminal=False)
    print_comparisons(console, comparisons, hypotheses=hypotheses)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
