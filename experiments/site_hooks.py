"""Hooks of the documentation site."""

import re
from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """Remove the backslash before `|` in code in tables, which GitHub needs and Python-Markdown keeps."""
    return re.sub(r"<td[ >].*?</td>", _without_backslashes, html, flags=re.DOTALL)


def _without_backslashes(cell: re.Match[str]) -> str:
    return re.sub(r"<code>[^<]*</code>", lambda code: code[0].replace(r"\|", "|"), cell[0])
