"""Which arms are drawn, and how each of them looks in every plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neftune_cli.analysis.results import ArmSummary, Comparison
from neftune_cli.reporting.plots.svg import INK

MOST_ARMS: Final = 7
"""More lines than these can't be told apart."""

Dashes = Literal["solid"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """Colour, and what tells an arm from others where colours can't: in grey print, and for the colour-blind."""

    colour: str
    dashes: Dashes
    marker: str


BASELINE_LOOK: Final = Look(INK, "solid", "o")
BASE_LOOK: Final = Look(INK, (0, (1.5, 2.5)), "x")
OTHER_LOOK: Final = Look("#808080", "solid", "o")
_TREATED_LOOKS: Final = (
    Look("#0072B2", (0, (6, 1.5)), "s"),
    Look("#D55E00", (0, (2, 1.2)), "^"),
    Look("#009E73", (0, (7, 1.5, 1.5, 1.5)), "D"),
    Look("#CC79A7", (0, (4, 1, 1, 1, 1, 1)), "v"),
    Look("#E69F00", (0, (10, 2)), "P"),
    Look("#56B4E9", (0, (3, 2.5)), "X"),
)
"""Of Okabe and Ito's palette, which colour-blind readers tell apart, without its yellow, which vanishes on white."""


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """Return the look of each arm, the baseline first; those beyond `MOST_ARMS` all look alike."""
    own = dict(zip(arms, (BASELINE_LOOK, *_TREATED_LOOKS), strict=False))
    return {arm: own.get(arm, OTHER_LOOK) for arm in arms}


def looks_in(comparison: Comparison) -> dict[str, Look]:
    """Return the look of each arm: one of its own for those that are drawn everywhere."""
    drawn = [arm.name for arm in drawn_arms(comparison)]
    return looks([*drawn, *(arm.name for arm in comparison.arms if arm.name not in drawn)])


def drawn_arms(comparison: Comparison, most: int = MOST_ARMS) -> tuple[ArmSummary, ...]:
    """Return the baseline and, where there are more than `most`, the arms that are best by the primary metric.

    The baseline comes first, the others in the sweep's order.
    """
    baseline = tuple(arm for arm in comparison.arms if arm.name == comparison.baseline)
    chosen = {arm.name for arm in ranked(comparison)[: most - len(baseline)]}
    return baseline + tuple(arm for arm in comparison.treated if arm.name in chosen)


def ranked(comparison: Comparison) -> list[ArmSummary]:
    """Return the treated arms, the best mean of the primary metric first, those without one last.

    The lowest mean where neither way is good by itself.
    """
    sign = -1.0 if comparison.metrics[comparison.primary].goal == "higher" else 1.0
    means = {arm.name: primary_mean(comparison, arm) for arm in comparison.treated}
    return sorted(
        comparison.treated, key=lambda arm: sign * means[arm.name] if math.isfinite(means[arm.name]) else math.inf
    )


def primary_mean(comparison: Comparison, arm: ArmSummary) -> float:
    """Return the arm's mean of the primary metric, not a number where it has none."""
    estimate = arm.estimates.get(comparison.primary)
    return math.nan if estimate is None else estimate.mean
