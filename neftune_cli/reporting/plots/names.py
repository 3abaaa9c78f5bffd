"""Names that users gave, made fit to be drawn: printable, on one line, and short."""

import unicodedata
from collections.abc import Iterable
from typing import Final

ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
_HEADS: Final = (0.5, 1.0, 0.75, 0.25, 0.0)
_CHARACTER: Final = 0.63
"""Width of a digit in the widest of the usual fonts, as a share of its size."""


def short_name(name: str, most: int, head: float = 0.5) -> str:
    """Return a name of at most `most` columns that can be drawn; of a longer one this share of them from its head."""
    printable = " ".join("".join(_printable(character) for character in name).split())
    if columns(printable) <= most:
        return printable
    tail = _cut(printable[::-1], round((1 - head) * (most - 1)))[::-1]
    return _cut(printable, most - 1 - columns(tail)).rstrip() + ELLIPSIS + tail.lstrip()


def short_names(names: Iterable[str], most: int) -> dict[str, str]:
    """Return each name with its short form, cut where the names differ if that is at their heads or tails."""
    every = list(dict.fromkeys(names))
    for head in _HEADS:
        short = {name: short_name(name, most, head) for name in every}
        if len(set(short.values())) == len(every):
            return short
    return {name: short_name(name, most) for name in every}


def columns(text: str) -> int:
    """Return how wide a text is in the columns of a terminal."""
    return sum(map(_columns, text))


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is in points, in a font of `size` points."""
    return columns(text) * size * _CHARACTER


def columns_in(width: float, size: float) -> int:
    """Return how many columns fit into `width` points, in a font of `size` points; 3 at least."""
    return max(3, int(width / (size * _CHARACTER)))


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, most: int) -> str:
    kept = 0
    for place, character in enumerate(text):
        kept += _columns(character)
        if kept > most:
            return text[:place]
    return text


def _printable(character: str) -> str:
    """Return what stands for a character: XML knows neither control characters nor halves of surrogate pairs."""
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else "\N{REPLACEMENT CHARACTER}"
