"""Text in panels of two columns, as rich prints it, without the import of rich, which takes longer than the page."""

import os
import re
import sys
from collections.abc import Iterator, Sequence

import typer

_Row = tuple[str, str]
_DEFAULT_WIDTH = 80
_BOX = "╭─╮│╰╯"
_ASCII_BOX = str.maketrans(_BOX, "+-+|++")
_OPTION = re.compile(r"(?<!\S)--?[a-z][a-z-]*")
_LEAST_MEANING = 12
"""Least width of the second column, in characters, for which the first one becomes narrower."""


def print_text(lines: Sequence[str]) -> None:
    """Print styled lines: with the styles in a terminal, and with ASCII frames where the encoding has no others."""
    text = "".join(f"{line}\n" for line in lines)
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        text = text.translate(_ASCII_BOX)
    typer.echo(text, nl=False, color=_has_styles())


def page_width() -> int:
    """Return the width of the terminal in characters: the variable COLUMNS, else that of any standard stream."""
    if columns := columns_variable():
        return columns
    for stream in range(3):
        try:
            return os.get_terminal_size(stream).columns or _DEFAULT_WIDTH
        except OSError:
            continue
    return _DEFAULT_WIDTH


def columns_variable() -> int | None:
    """Return the width that the variable COLUMNS sets, None if it sets none."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) or None if columns.isdigit() else None


def paragraph(text: str, width: int, *, bold: bool = False) -> Iterator[str]:
    """Yield the lines of a text with a margin of one character, and an empty line after them."""
    for line in [*wrapped(text, width - 2), ""]:
        yield f" {typer.style(line.ljust(width - 2), bold=bold) if line else ' ' * (width - 2)} "


def panel(title: str, rows: Sequence[_Row], first: int, width: int) -> Iterator[str]:
    """Yield the lines of a frame with a title around two columns.

    Args:
        title: title on the upper edge.
        rows: texts of the two columns. Options in them are highlighted.
        first: width of the first column in characters.
        width: width of the frame in characters.

    """
    first = max(1, min(first, width - 6 - _LEAST_MEANING))
    second = max(1, width - 6 - first)
    edge = typer.style("│", dim=True)
    yield typer.style(f"╭─ {title} {'─' * (width - len(title) - 5)}╮", dim=True)
    for name, meaning in rows:
        names, meanings = wrapped(name, first), wrapped(meaning, second)
        for number in range(max(len(names), len(meanings))):
            left, right = (_cell(lines, number, size) for lines, size in ((names, first), (meanings, second)))
            yield f"{edge} {_styled_name(left)}  {_highlighted(right)} {edge}"
    yield typer.style(f"╰{'─' * (width - 2)}╯", dim=True)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, broken between words. A word that is longer than a line begins on a line of its own.

    >>> wrapped("one two three", 8)
    ['one two', 'three']
    """
    lines = []
    for line in text.split("\n"):
        lines += [part.rstrip() for part in _broken(line, max(1, width))]
    return lines


def _broken(line: str, width: int) -> list[str]:
    parts = [""]
    for word in re.findall(r"\S+\s*", line):
        if len(parts[-1] + word.rstrip()) <= width:
            parts[-1] += word
        elif len(word.rstrip()) <= width:
            parts.append(word)
        else:
            parts = [*filter(None, parts), *(word[start : start + width] for start in range(0, len(word), width))]
    return parts


def _cell(lines: Sequence[str], number: int, width: int) -> str:
    return (lines[number] if number < len(lines) else "").ljust(width)


def _styled_name(text: str) -> str:
    """Return a name with its option in one color and the type of its value in another."""
    parts, end = [], 0
    for option in _OPTION.finditer(text):
        parts += [_type(text[end : option.start()]), typer.style(option[0], fg="cyan", bold=True)]
        end = option.end()
    return "".join([*parts, _type(text[end:])])


def _type(text: str) -> str:
    return typer.style(text, fg="yellow") if text.strip() else text


def _highlighted(text: str) -> str:
    return _OPTION.sub(lambda option: typer.style(option[0], fg="cyan"), text)


def _has_styles() -> bool | None:
    """Return whether the environment demands or refuses colors; None if that depends on the terminal."""
    if (forced := os.environ.get("FORCE_COLOR")) is not None:
        return forced != ""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    return None
