"""Text of unknown origin made fit to be shown: nothing in it is invisible, endless, or turns the text around it."""

from typing import Any

from markupsafe import Markup

MOST_CHARACTERS = 3_000
"""Longer texts of a model are cut: a page of the same loop teaches nothing."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DIRECTIONS = {
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
}
"""Characters that reorder the text after them, by their Unicode abbreviation."""
_SHOWN: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
    **dict.fromkeys((0xFFFE, 0xFFFF), _REPLACEMENT),
    **{code: f"\N{LEFT CEILING}{name}\N{RIGHT CEILING}" for code, name in _DIRECTIONS.items()},
}


def visible(text: str) -> str:
    """Return the text with control characters as pictures, and with what UTF-8 can't hold replaced."""
    return text.translate(_SHOWN)


def printed(value: Any) -> Any:
    """Return what a template prints for a value: text is made visible, markup is left as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def cut(text: str, most: int = MOST_CHARACTERS) -> tuple[str, int]:
    """Return the beginning of the text and how many characters were left out."""
    return text[:most], max(0, len(text) - most)
