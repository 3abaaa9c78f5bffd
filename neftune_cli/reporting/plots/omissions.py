"""Sentences for captions: what isn't drawn, and why."""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from neftune_cli.analysis.results import Comparison
from neftune_cli.reporting.plots.names import short_name

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
