"""A comparison as one text in the format the user asked for."""

import io
from collections.abc import Callable, Sequence

from rich.console import Console

from neftune_cli.analysis.results import Comparison
from neftune_cli.reporting.exports import to_csv, to_json
from neftune_cli.reporting.formats import Format
from neftune_cli.reporting.latex import to_latex
from neftune_cli.reporting.markdown import to_markdown
from neftune_cli.reporting.tables import print_comparisons

PAGE_WIDTH = 120
"""Columns of a text that isn't on a terminal: what is wider is folded, nothing is cut."""


def document(comparisons: Sequence[Comparison], format_: Format, *, hypotheses: bool = False) -> str:
    """Return the sweeps' comparisons as a text that ends with a line break and has no terminal codes in it; not HTML.

    `hypotheses` puts the paper's claims under the tables of `Format.TABLE`; the others have them anyway, or no place
    for them.
    """
    if format_ is Format.TABLE:
        return to_text(comparisons, hypotheses=hypotheses)
    return _WRITERS[format_](comparisons)


def to_text(comparisons: Sequence[Comparison], *, hypotheses: bool = False) -> str:
    """Return what a terminal of that width would show, without its colours."""
    text = io.StringIO()
    console = Console(file=text, width=PAGE_WIDTH, color_system=None, force_terminal=False)
    print_comparisons(console, comparisons, hypotheses=hypotheses)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


_WRITERS: dict[Format, Callable[[Sequence[Comparison]], str]] = {
    Format.JSON: to_json,
    Format.CSV: to_csv,
    Format.MARKDOWN: to_markdown,
    Format.LATEX: to_latex,
}
