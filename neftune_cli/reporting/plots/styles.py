"""Which arms are drawn, and how each of them looks in every plot."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from neftune_cli.analysis.results import ArmSummary, Comparison
from neftune_cli.evidence.metrics import Metric
from neftune_cli.reporting.plots.canvas import HEADING, INK, POINTS_AN_INCH, SMALL
from neftune_cli.reporting.plots.captions import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


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


WIDE: Final = 8.0
"""Positive values whose largest is this many times the smallest are drawn on a logarithmic axis."""
_STEPS: Final = {2.0: (1.0, 2.0, 5.0), 3.0: (1.0, 3.0), math.inf: (1.0,)}
"""Most decades of an axis to the ticks in each of them."""


def is_wide(values: Iterable[float], wide: float = WIDE) -> bool:
    """Return whether a linear axis would squeeze most of these values together."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > wide * min(finite)


def limits(values: Iterable[float], *, logarithmic: bool, room: float = 0.06) -> tuple[float, float]:
    """Return the ends of an axis that holds all finite values, those above 0 on a logarithmic one, with some room."""
    shown = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = (math.log10(end) if logarithmic else end for end in (min(shown), max(shown)))
    spare = room * (high - low) or 0.05 * abs(high) or 0.05
    ends = low - spare, high + spare
    return (10 ** ends[0], 10 ** ends[1]) if logarithmic else ends


def set_scale(axes: "Axes", axis: "Axis", *, logarithmic: bool, ticks: int = 5) -> None:
    """Give an axis its scale and a few ticks; the limits must be set before."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if not logarithmic:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
        return
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else math.inf
    steps = next(steps for reach, steps in _STEPS.items() if decades <= reach)
    axis.set_major_locator(LogLocator(subs=steps, numticks=ticks + 5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def heading(metric: Metric) -> str:
    """Return what stands above a panel of a metric: its name, an arrow in the direction that is good, and its unit."""
    arrow = metric.title.removeprefix(metric.heading)
    return f"{metric.name}{arrow}, {metric.unit}" if metric.unit else metric.name + arrow


def plain(value: float) -> str:
    """Return a number for a tick, with a true minus sign."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


LEADER: Final = 16.0
"""Points between a panel's edge and its labels."""
_HANDLE: Final = 22.0
GAP: Final = 11.0
"""Least distance of two labels, in points."""


@dataclass(frozen=True)
class LineEnd:
    """Where a line ends, in data coordinates, and what it is called."""

    name: str
    look: Look
    x: float
    y: float


def label_ends(axes: "Axes", ends: Sequence[LineEnd]) -> None:
    """Write each line's name to the right of a panel whose limits are set, as high as its end if that is free."""
    box = axes.get_window_extent()
    points = axes.figure.dpi / POINTS_AN_INCH
    width, height = box.width / points, box.height / points
    to_panel = axes.transData + axes.transAxes.inverted()
    places = sorted(((*to_panel.transform((end.x, end.y)), end) for end in ends), key=lambda place: float(place[1]))
    heights = moved_apart([float(y) * height for _, y, _ in places], GAP, height)
    label = 1 + LEADER / width
    for (x, y, end), moved in zip(places, heights, strict=True):
        xs, ys = [x, 1 + (label - 1) * 0.25, 1 + (label - 1) * 0.8], [y, y, moved / height]
        axes.plot(xs, ys, color=end.look.colour, linewidth=0.8, transform=axes.transAxes, clip_on=False)
        axes.text(label, moved / height, end.name, fontsize=SMALL, transform=axes.transAxes, va="center_baseline")


def key(figure: "Figure", entries: Sequence[tuple[str, Look]], left: float) -> None:
    """Write names beside a piece of their line in one row at the top of the sheet, from `left` points on."""
    from matplotlib.lines import Line2D

    width, height = (inches * POINTS_AN_INCH for inches in figure.get_size_inches())
    middle = 1 - 0.9 * HEADING / height
    for name, look in entries:
        ends = [left / width, (left + _HANDLE) / width]
        figure.add_artist(Line2D(ends, [middle, middle], color=look.colour, linestyle=look.dashes))
        figure.text(ends[1] + 5 / width, middle, name, fontsize=SMALL, va="center_baseline")
        left += _HANDLE + 5 + text_width(name, SMALL) + 16


def moved_apart(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Return ascending heights at least `gap` apart, between 0 and `top` if they fit, as near as can be to the given.

    Nearest by the sum of squares: isotonic regression of what is left of the heights when the gaps are taken off.
    """
    blocks: list[tuple[float, int]] = []
    for place, height in enumerate(heights):
        blocks.append((height - place * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (upper, above), (lower, below) = blocks.pop(), blocks.pop()
            blocks.append(((upper * above + lower * below) / (above + below), above + below))
    free = [mean for mean, size in blocks for _ in range(size)]
    room = max(0.0, top - gap * (len(heights) - 1))
    return [min(max(height, 0.0), room) + place * gap for place, height in enumerate(free)]
