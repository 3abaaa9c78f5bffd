"""The formats a comparison can be written in; apart from what writes them, so that `--help` is quick."""

from enum import StrEnum


class Format(StrEnum):
    """How comparisons are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"
    LATEX = "latex"
    HTML = "html"
