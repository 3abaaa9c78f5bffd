"""Words in plots: names of arms shortened to fit, and the sentences that captions share."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Final

from rich.cells import cell_len, set_cell_size

from neftune_cli.analysis.results import Assessment, Comparison
from neftune_cli.formatting import listed, percent
from neftune_cli.reporting.cells import interval_kind
from neftune_cli.reporting.sanitizing import printable_text

MOST_SEEDS: Final = 20
"""Seeds shown one by one; more would overlap."""
LONGEST_NAME: Final = 40
"""Cells of an arm's name in a sentence."""
ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


def sentences(parts: Iterable[str]) -> str:
    """Return the parts that are not empty as one text."""
    return " ".join(filter(None, parts))


def drawn_seeds(by_seed: Iterable[Mapping[int, float]]) -> list[int]:
    """Return the seeds to draw: the first `MOST_SEEDS` of the seeds in any of the mappings."""
    return sorted({seed for values in by_seed for seed in values})[:MOST_SEEDS]


def seeds_left_out(by_seed: Iterable[Mapping[int, float]]) -> str:
    """Return the sentence about seeds that are not shown; empty where all are shown."""
    seeds = len({seed for values in by_seed for seed in values})
    if seeds <= MOST_SEEDS:
        return ""
    return f"Only the first {MOST_SEEDS} of {seeds} seeds are shown; means and intervals include all seeds."


def arms_left_out(comparison: Comparison, drawn: int) -> str:
    """Return the sentence about arms that are not shown for lack of space; empty where all are shown."""
    if drawn >= len(comparison.arms):
        return ""
    metric = comparison.metrics[comparison.primary]
    rank = f"{'best' if metric.goal else 'lowest'} {metric.name_within}"
    return f"Of {len(comparison.arms)} arms, only the baseline and the {drawn - 1} with the {rank} are shown."


def not_finite(comparison: Comparison) -> str:
    """Return the sentence about arms whose primary metric is not finite; empty where all are finite."""
    estimates = {arm.name: arm.estimates.get(comparison.primary) for arm in comparison.arms}
    missing = [arm for arm, found in estimates.items() if found and not math.isfinite(found.mean)]
    return f"Not shown because a value is not finite: {listed_arms(missing)}." if missing else ""


def interval_name(comparison: Comparison) -> str:
    """Return the name of the intervals of the primary metric, for example `simultaneous 95% interval`."""
    return f"{interval_kind(comparison)} {percent(comparison.confidence)} interval".lstrip()


def equivalence_interval_note(comparison: Comparison, assessments: Iterable[Assessment]) -> str:
    """Return the sentence on the intervals of equivalent arms; empty where no arm is equivalent."""
    if not any(one.verdict == "equivalent" for one in assessments):
        return ""
    return (
        f"The interval of an equivalent arm is the {percent(comparison.equivalence_confidence)} interval of its test."
    )


def listed_arms(arms: Iterable[str]) -> str:
    """Return the names of arms, shortened, as part of a sentence."""
    return listed([short_name(arm, LONGEST_NAME) for arm in arms])


_HEAD_SHARES: Final = (0.5, 1.0, 0.6, 0.75, 0.25, 0.0)
_WORD_AT_END: Final = re.compile(r"[\w.]+\Z")
"""Names are never cut inside a word: `alpha=10` and `alpha=15` would become 0 and 5."""
_NUMBER: Final = "0123456789."
"""Characters of numbers."""
_DIGIT_WIDTH: Final = 0.63
"""Width of a digit in the widest of the usual fonts, as a share of the font size."""


def short_name(name: str, most: int, head: float = 0.5) -> str:
    """Return a sanitized name of at most `most` cells; a longer name keeps the share `head` of them from its start.

    A number is kept whole or left out, because `alpha=10` must not become `alpha=1`.
    """
    return _shortened(name, most, head)[0]


def _shortened(name: str, most: int, head: float) -> tuple[str, bool]:
    """Return the short name, and whether the cut fell inside a number."""
    printable = printable_text(name)
    if cell_len(printable) <= most:
        return printable, False
    end = set_cell_size(printable[::-1], round((1 - head) * (most - 1)))[::-1].lstrip()
    start = set_cell_size(printable, most - 1 - cell_len(end)).rstrip()
    cut = start + ELLIPSIS + end
    if _is_in_number(printable, len(start)):
        start = start.rstrip(_NUMBER)
    if _is_in_number(printable, len(printable) - len(end)):
        end = end.lstrip(_NUMBER)
    whole = start + ELLIPSIS + end
    return (whole, whole != cut) if start or end else (cut, True)  # a name may be a single number


def _is_in_number(text: str, place: int) -> bool:
    """Return whether a number has characters on both sides of a place."""
    return 0 < place < len(text) and text[place - 1] in _NUMBER and text[place] in _NUMBER


def short_names(names: Iterable[str], most: int) -> dict[str, str]:
    """Return a unique short form of each name, cut where the names are equal, and not at a number if possible.

    If no cut keeps them distinct, their common start and end are removed first; if that fails too, they are numbered.
    """
    every = list(dict.fromkeys(names))
    cuts = [
        [_shortened(name, most, head) for name in whole]
        for whole in (every, _without_common_ends(every))
        for head in _HEAD_SHARES
    ]
    cuts.sort(key=lambda short: any(is_in_number for _, is_in_number in short))
    for short in cuts:
        if len({cut for cut, _ in short}) == len(every):
            return {name: cut for name, (cut, _) in zip(every, short, strict=True)}
    return {name: _numbered(name, number, most) for number, name in enumerate(every, 1)}


def text_width(text: str, size: float) -> float:
    """Return the approximate width of a text in points, in a font of `size` points."""
    return cell_len(text) * size * _DIGIT_WIDTH


def cells_in(width: float, size: float) -> int:
    """Return the number of cells that fit into `width` points, in a font of `size` points; 3 at least."""
    return max(3, int(width / (size * _DIGIT_WIDTH)))


def _without_common_ends(names: Sequence[str]) -> list[str]:
    """Return the names without the whole words that all of them start and end with."""
    before = _common_start(names)
    rest = [name[before:] for name in names]
    after = _common_start([name[::-1] for name in rest])
    head, tail = ELLIPSIS if before else "", ELLIPSIS if after else ""
    return [head + name[: len(name) - after] + tail for name in rest]


def _common_start(names: Sequence[str]) -> int:
    """Return the number of characters in the whole words that all names start with."""
    equal = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    return len(_WORD_AT_END.sub("", "".join(characters[0] for characters in equal)))


def _numbered(name: str, number: int, most: int) -> str:
    room = most - len(f" {number}")
    return f"{short_name(name, room)} {number}" if room > 2 else str(number)
