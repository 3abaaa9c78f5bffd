"""The little picture beside an interval: where it lies between the arms' intervals, the margin and no difference."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neftune_cli.analysis.results import Judgement

WIDTH = 104.0
"""Of the picture, in its own unit."""
_EDGE = 6.0


@dataclass(frozen=True)
class IntervalDrawing:
    """Positions from left to right, 0 to `WIDTH`."""

    zero: float
    margin_low: float
    margin_width: float
    low: float
    high: float
    mean: float


def draw_intervals(judgements: Mapping[str, Judgement | None]) -> dict[str, IntervalDrawing]:
    """Return a picture for each arm whose interval is known, all on one scale that has no difference in it."""
    known = {arm: one for arm, one in judgements.items() if one and math.isfinite(one.comparison.ci_low)}
    if not known:
        return {}
    ends = [0.0]
    for one in known.values():
        ends += [one.comparison.ci_low, one.comparison.ci_high]
    low, high = min(ends), max(ends)
    return {arm: _drawing(one, low, (high - low) or 1.0) for arm, one in known.items()}


def _drawing(judgement: Judgement, low: float, extent: float) -> IntervalDrawing:
    def place(value: float) -> float:
        inside = min(max((value - low) / extent, 0.0), 1.0)
        return round(_EDGE + inside * (WIDTH - 2 * _EDGE), 1)

    margin_low, margin_high = place(-judgement.margin), place(judgement.margin)
    return IntervalDrawing(
        zero=place(0.0),
        margin_low=margin_low,
        margin_width=round(margin_high - margin_low, 1),
        low=place(judgement.comparison.ci_low),
        high=place(judgement.comparison.ci_high),
        mean=place(judgement.comparison.difference),
    )
