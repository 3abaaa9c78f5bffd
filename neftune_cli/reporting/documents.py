"""Output formats of comparisons, and comparisons as one text in the chosen format.

The writers are imported late, so that `neftune compare --help` starts fast.
"""

import io
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neftune_cli.analysis.results import Comparison
    from neftune_cli.evidence.measurements import Evidence


class OutputFormat(StrEnum):
    """Format of printed or written comparisons."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"
    LATEX = "latex"
    CHECKLIST = "checklist"
    HTML = "html"


def document(
    comparisons: "Sequence[Comparison]",
    output_format: OutputFormat,
    *,
    hypotheses: bool = False,
    evidence: "Sequence[Evidence]" = (),
) -> str:
    """Return the comparisons as a text that ends with a line break and has no terminal codes.

    `hypotheses` adds the paper's claims to the tables of `OutputFormat.TABLE`; the other formats ignore it. `evidence`
    has the trials of each comparison, for the files that the checklist reads.

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
        case OutputFormat.CHECKLIST:
            from neftune_cli.reporting.checklist.document import to_checklist

            return to_checklist(comparisons, evidence)
        case OutputFormat.HTML:
            raise ValueError("the page is written by reports.render_page")


def to_text(comparisons: "Sequence[Comparison]", *, hypotheses: bool = False) -> str:
    """Return the terminal output at `PLAIN_WIDTH` columns, without colors."""
    from rich.console import Console

    from neftune_cli.formatting import PLAIN_WIDTH
    from neftune_cli.reporting.tables import print_comparisons

    text = io.StringIO()
    console = Console(file=text, width=PLAIN_WIDTH, color_system=None, force_terminal=False)
    print_comparisons(console, comparisons, hypotheses=hypotheses)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
