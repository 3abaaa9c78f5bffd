"""Names that users gave, made fit to be drawn: printable, on one line, and short."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Final

from neftune_cli.analysis.results import Comparison

ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
_HEADS: Final = (0.5, 1.0, 0.75, 0.25, 0.0)
_WORD_AT_END: Final = re.compile(r"[\w.]+\Z")
"""Cut within a word, `alpha=10` and `alpha=15` would become 0 and 5."""
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
    """Return each name with a short form of its own, cut where the names differ not.

    Where no cut leaves them different, what all begin and end with goes first; where that doesn't do either, they are
    numbered.
    """
    every = list(dict.fromkeys(names))
    for whole in (every, _without_common_ends(every)):
        for head in _HEADS:
            short = [short_name(name, most, head) for name in whole]
            if len(set(short)) == len(every):
                return dict(zip(every, short, strict=True))
    return {name: _numbered(name, number, most) for number, name in enumerate(every, 1)}


def columns(text: str) -> int:
    """Return how wide a text is in the columns of a terminal."""
    return sum(map(_columns, text))


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is in points, in a font of `size` points."""
    return columns(text) * size * _CHARACTER


def columns_in(width: float, size: float) -> int:
    """Return how many columns fit into `width` points, in a font of `size` points; 3 at least."""
    return max(3, int(width / (size * _CHARACTER)))


def _without_common_ends(names: Sequence[str]) -> list[str]:
    """Return what is left of names without the whole words that all of them begin and end with."""
    before = _shared_head(names)
    rest = [name[before:] for name in names]
    after = _shared_head([name[::-1] for name in rest])
    head, tail = ELLIPSIS if before else "", ELLIPSIS if after else ""
    return [head + name[: len(name) - after] + tail for name in rest]


def _shared_head(names: Sequence[str]) -> int:
    """Return how many characters the whole words have that all names begin with."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    return len(_WORD_AT_END.sub("", "".join(characters[0] for characters in alike)))


def _numbered(name: str, number: int, most: int) -> str:
    room = most - len(f" {number}")
    return f"{short_name(name, room)} {number}" if room > 2 else str(number)


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


MOST_SEEDS: Final = 20
"""More seeds than these drawn one by one would be a blot."""
LONGEST_NAME: Final = 40
"""Of an arm in a sentence."""


def drawn_seeds(by_seed: Iterable[Mapping[int, float]]) -> list[int]:
    """Return the seeds to draw, the first `MOST_SEEDS` of all that any of these has."""
    return sorted({seed for values in by_seed for seed in values})[:MOST_SEEDS]


def seeds_left_out(by_seed: Iterable[Mapping[int, float]]) -> str:
    """Return the sentence about seeds that aren't drawn, empty where all are."""
    seeds = len({seed for values in by_seed for seed in values})
    if seeds <= MOST_SEEDS:
        return ""
    return f"The first {MOST_SEEDS} of {seeds} seeds are drawn; means and intervals are over all of them."


def arms_left_out(comparison: Comparison, drawn: int) -> str:
    """Return the sentence about arms that aren't drawn for want of room, empty where all are."""
    if drawn >= len(comparison.arms):
        return ""
    metric = comparison.metrics[comparison.primary]
    which = f"{'best' if metric.goal else 'lowest'} {metric.name_within}"
    return f"Of {len(comparison.arms)} arms the baseline and the {drawn - 1} with the {which} are drawn."


def not_finite(comparison: Comparison) -> str:
    """Return the sentence about arms whose primary metric can't be drawn, empty where all can."""
    estimates = {arm.name: arm.estimates.get(comparison.primary) for arm in comparison.arms}
    lost = [arm for arm, found in estimates.items() if found and not math.isfinite(found.mean)]
    return f"Not drawn, because a value isn't finite: {listed(lost)}." if lost else ""


def listed(arms: Iterable[str]) -> str:
    """Return the names of arms as a part of a sentence."""
    *others, last = (short_name(arm, LONGEST_NAME) for arm in arms)
    return f"{', '.join(others)} and {last}" if others else last


def sentences(parts: Iterable[str]) -> str:
    """Return the parts that say something as one text."""
    return " ".join(filter(None, parts))
