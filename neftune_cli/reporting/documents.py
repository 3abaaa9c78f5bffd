"""A comparison as one text in the format the user asked for."""

import io
from collections.abc import Callable, Sequence
from enum import StrEnum

from rich.console import Console

from neftune_cli.analysis.comparison import Comparison
from neftune_cli.reporting.export import to_csv, to_json, to_markdown
from neftune_cli.reporting.tables import print_comparisons

PAGE_WIDTH = 120
"""Columns of a text that isn't on a terminal: what is wider is folded, nothing is cut."""


class Format(StrEnum):
    """How comparisons are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"


def document(comparisons: Sequence[Comparison], format_: Format) -> str:
    """Return the sweeps' comparisons as a text that ends with a line break and has no terminal codes in it."""
    return _WRITERS[format_](comparisons)


def to_text(comparisons: Sequence[Comparison]) -> str:
    """Return what a terminal of that width would show, without its colours."""
    text = io.StringIO()
    print_comparisons(Console(file=text, width=PAGE_WIDTH, color_system=None, force_terminal=False), comparisons)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


_WRITERS: dict[Format, Callable[[Sequence[Comparison]], str]] = {
    Format.TABLE: to_text,
    Format.JSON: to_json,
    Format.CSV: to_csv,
    Format.MARKDOWN: to_markdown,
}
