"""Formatting of times, sizes, counts, percentages and sparklines, and of text that is safe for a terminal."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import fmean

PLAIN_WIDTH = 120
"""Line width in characters of tables if the output is not a terminal."""
SCREEN_WIDTH = 80
"""Line width in characters of the first screen of a comparison if the output is not a terminal.

At this width the screen has at most 25 lines.
"""

_BLOCKS, _ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-=*#"


def duration(seconds: float) -> str:
    """Return a time span in hours, minutes and seconds.

    >>> duration(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rough_duration(seconds: float) -> str:
    """Return an estimated time span without insignificant digits.

    >>> rough_duration(47), rough_duration(200), rough_duration(7500)
    ('45 s', '3 min', '2 h 5 min')
    """
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def utc_now() -> str:
    """Return the current time in UTC in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def local_time(iso: str) -> str:
    """Return a time in ISO 8601 as date and time of this time zone, to the minute.

    Raises:
        ValueError: the text is not such a time.
    """
    return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M")


def size(count: int) -> str:
    """Return a number of bytes in MB or GB.

    >>> size(75_400_000), size(3_210_000_000)
    ('75 MB', '3.2 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration within a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes, separated by commas.

    >>> quoted(["a", "b"])
    "'a', 'b'"
    """
    return ", ".join(f"'{name}'" for name in names)


def listed_at_most(names: Sequence[str], most: int, separator: str = ", ", noun: str = "") -> str:
    """Return the first names, and the number of the others, with a noun for them if there is one.

    >>> listed_at_most(["a", "b", "c"], 2), listed_at_most(["a", "b"], 2), listed_at_most(["a", "b"], 1, "; ", "arm")
    ('a, b and 1 more', 'a, b', 'a and 1 more arm')
    """
    others = len(names) - most
    more = f" and {counted(others, f'more {noun}') if noun else f'{others} more'}" if others > 0 else ""
    return separator.join(names[:most]) + more


def and_more(names: Sequence[object]) -> str:
    """Return the number of names after the first one, for a message that names the first.

    >>> and_more(["a", "b", "c"]), and_more(["a"])
    (' (and 2 more)', '')
    """
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def capitalized(text: str) -> str:
    """Return a text with a capital letter at its start. The rest is unchanged, unlike with `str.capitalize`.

    >>> capitalized("alpha 5 of LLaMA")
    'Alpha 5 of LLaMA'
    """
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """Return a share, for example a confidence level, as a percentage with at most six significant digits.

    >>> percent(0.95), percent(1 - 0.95), percent(0.999), percent(0.9999)
    ('95%', '5%', '99.9%', '99.99%')
    """
    return f"{100 * share:.6g}%"


def rough_share(share: float) -> str:
    """Return an estimated share in whole percent; shares near 0 and 1 are bounds.

    >>> rough_share(0.005), rough_share(0.2), rough_share(0.995)
    ('<1%', '20%', '>99%')
    """
    if share < 0.01:
        return "<1%"
    return ">99%" if share > 0.99 else f"{share:.0%}"


def number_range(values: Sequence[float], form: str) -> str:
    """Return the lowest and the highest value in a format, or one number if they look equal.

    >>> number_range([0.5, 0.25], "{:.0%}"), number_range([0.5, 0.501], "{:.0%}")
    ('25% to 50%', '50%')
    """
    lowest, highest = form.format(min(values)), form.format(max(values))
    return lowest if lowest == highest else f"{lowest} to {highest}"


def condensed(values: Sequence[float], parts: int) -> tuple[float, ...]:
    """Return the means of `parts` successive parts of about equal length, or the values if there are fewer."""
    count = len(values)
    if count <= parts:
        return tuple(values)
    ends = [count * part // parts for part in range(parts + 1)]
    return tuple(fmean(values[begin:end]) for begin, end in pairwise(ends))


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return a curve of at most `width` characters, scaled from its lowest to its highest value.

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


def terminal_text(text: str) -> str:
    """Return text on one line, without control characters that affect a terminal."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
