"""Figures as people read them on a screen: time spans, a curve in a few characters, text that can't harm a terminal."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

PLAIN_WIDTH = 120
"""Characters of a line where there is no terminal to fit."""

_BLOCKS, _ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-=*#"


def duration(seconds: float) -> str:
    """Return a time span as people say it.

    >>> duration(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rough_duration(seconds: float) -> str:
    """Return a time span that is only guessed at, without digits that nobody can know.

    >>> rough_duration(47), rough_duration(200), rough_duration(7500)
    ('45 s', '3 min', '2 h 5 min')
    """
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Return a number of bytes as people say it.

    >>> size(75_400_000), size(3_210_000_000)
    ('75 MB', '3.2 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def condensed(values: Sequence[float], parts: int) -> tuple[float, ...]:
    """Return the means of so many successive parts, alike in size, or the values themselves where there are fewer."""
    count = len(values)
    if count <= parts:
        return tuple(values)
    ends = [count * part // parts for part in range(parts + 1)]
    return tuple(fmean(values[begin:end]) for begin, end in pairwise(ends))


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return a curve of at most so many characters, from its own lowest to its own highest value.

    >>> sparkline([3.0, 2.0, 1.0], 8)
    '█▅▁'
    """
    levels = _ASCII_LEVELS if ascii_only else _BLOCKS
    shown = condensed(values, width)
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown)
    if not span:
        return levels[len(levels) // 2] * len(shown)
    return "".join(levels[round((value - low) / span * (len(levels) - 1))] for value in shown)


def printable(text: str) -> str:
    """Return text on one line, without characters that would move a terminal's cursor or change its colours."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
