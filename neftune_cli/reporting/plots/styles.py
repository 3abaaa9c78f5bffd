"""Style shared by the plots: the arms that are drawn, the style of each arm, axes, and labels at line ends."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from neftune_cli.analysis.results import ArmSummary, Comparison
from neftune_cli.metrics import Metric
from neftune_cli.reporting.plots.canvas import INK, POINTS_PER_INCH, SMALL
from neftune_cli.reporting.sanitizing import printable_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


MOST_ARMS: Final = 7
"""Arms drawn in one plot; more lines could not be distinguished."""

Dashes = Literal["solid"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class ArmStyle:
    """Color, dashes and marker of an arm; the latter two identify it in grayscale and for color-blind readers."""

    color: str
    dashes: Dashes
    marker: str


BASELINE_STYLE: Final = ArmStyle(INK, "solid", "o")
BASE_STYLE: Final = ArmStyle(INK, (0, (1.5, 2.5)), "x")
OTHER_STYLE: Final = ArmStyle("#808080", "solid", "o")
_TREATED_STYLES: Final = (
    ArmStyle("#0072B2", (0, (6, 1.5)), "s"),
    ArmStyle("#D55E00", (0, (2, 1.2)), "^"),
    ArmStyle("#009E73", (0, (7, 1.5, 1.5, 1.5)), "D"),
    ArmStyle("#CC79A7", (0, (4, 1, 1, 1, 1, 1)), "v"),
    ArmStyle("#E69F00", (0, (10, 2)), "P"),
    ArmStyle("#56B4E9", (0, (3, 2.5)), "X"),
)
"""Okabe and Ito's palette for color-blind readers, without its yellow, which is invisible on white.

The contrast of its last two colors on white is 2.3:1. Darker ones would look like the second and the first color to
color-blind readers, so their lines rely on labels, dashes and markers.
"""


def arm_styles(comparison: Comparison) -> dict[str, ArmStyle]:
    """Return the style of each arm, unique for the arms of `drawn_arms`."""
    drawn = [arm.name for arm in drawn_arms(comparison)]
    return styles_in_order([*drawn, *(arm.name for arm in comparison.arms if arm.name not in drawn)])


def styles_in_order(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Return the style of each arm, the baseline first; arms beyond `MOST_ARMS` share one style."""
    unique = dict(zip(arms, (BASELINE_STYLE, *_TREATED_STYLES), strict=False))
    return {arm: unique.get(arm, OTHER_STYLE) for arm in arms}


def drawn_arms(comparison: Comparison, most: int = MOST_ARMS) -> tuple[ArmSummary, ...]:
    """Return at most `most` arms: the baseline, then the best arms by the primary metric in the sweep's order."""
    baseline = tuple(arm for arm in comparison.arms if arm.name == comparison.baseline)
    chosen = {arm.name for arm in ranked(comparison)[: most - len(baseline)]}
    return baseline + tuple(arm for arm in comparison.treated if arm.name in chosen)


def ranked(comparison: Comparison) -> list[ArmSummary]:
    """Return the treated arms by their mean of the primary metric, the best first, arms without a finite mean last.

    The lowest mean is first for a metric without a direction.
    """
    sign = -1.0 if comparison.metrics[comparison.primary].goal == "higher" else 1.0
    means = {arm.name: primary_mean(comparison, arm) for arm in comparison.treated}
    return sorted(
        comparison.treated, key=lambda arm: sign * means[arm.name] if math.isfinite(means[arm.name]) else math.inf
    )


def primary_mean(comparison: Comparison, arm: ArmSummary) -> float:
    """Return the arm's mean of the primary metric; NaN where it has none."""
    estimate = arm.estimates.get(comparison.primary)
    return math.nan if estimate is None else estimate.mean


WIDE: Final = 8.0
"""Positive values whose maximum exceeds this multiple of their minimum get a logarithmic axis."""
_STEPS: Final = {2.0: (1.0, 2.0, 5.0), 3.0: (1.0, 3.0), math.inf: (1.0,)}
"""Decades that an axis spans at most, mapped to the ticks in each decade."""


def is_wide(values: Iterable[float], wide: float = WIDE) -> bool:
    """Return whether the values span a range that needs a logarithmic axis."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > wide * min(finite)


def lower_bound(values: Iterable[float]) -> float:
    """Return 0 for values of which none is negative, such as losses and scores, minus infinity for others."""
    return -math.inf if any(value < 0 for value in values) else 0.0


def limits(
    values: Iterable[float], *, logarithmic: bool, room: float = 0.06, floor: float = -math.inf
) -> tuple[float, float]:
    """Return the limits of an axis around all finite values (positive ones if logarithmic), padded by `room`.

    The axis does not begin below `floor`.
    """
    shown = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    low, high = (math.log10(end) if logarithmic else end for end in (min(shown), max(shown)))
    spare = room * (high - low) or 0.05 * abs(high) or 0.05
    ends = low - spare, high + spare
    return (10 ** ends[0], 10 ** ends[1]) if logarithmic else (max(ends[0], floor), ends[1])


def set_scale(axes: "Axes", axis: "Axis", *, logarithmic: bool, ticks: int = 5) -> None:
    """Set the scale and about `ticks` ticks of an axis whose limits are set."""
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
    """Return the title of a metric's panel: name, arrow in the good direction, and unit."""
    title = metric.name + metric.arrow
    return printable_text(f"{title}, {metric.unit}" if metric.unit else title)


def plain(value: float) -> str:
    """Return a number for a tick, with a typographic minus sign."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


LEADER: Final = 16.0
"""Points between the right edge of a panel and its labels."""
GAP: Final = 11.0
"""Smallest distance of two labels in points."""


@dataclass(frozen=True)
class LineEnd:
    """Label of a line and the data coordinates of its end."""

    name: str
    style: ArmStyle
    x: float
    y: float


def label_ends(axes: "Axes", ends: Sequence[LineEnd]) -> None:
    """Label each line to the right of a panel whose limits are set, as close to its end as the labels allow."""
    box = axes.get_window_extent()
    points = axes.figure.dpi / POINTS_PER_INCH
    width, height = box.width / points, box.height / points
    to_panel = axes.transData + axes.transAxes.inverted()
    places = sorted(((*to_panel.transform((end.x, end.y)), end) for end in ends), key=lambda place: float(place[1]))
    heights = spread_labels([float(y) * height for _, y, _ in places], GAP, height)
    label = 1 + LEADER / width
    for (x, y, end), moved in zip(places, heights, strict=True):
        xs, ys = [x, 1 + (label - 1) * 0.25, 1 + (label - 1) * 0.8], [y, y, moved / height]
        axes.plot(xs, ys, color=end.style.color, linewidth=0.8, transform=axes.transAxes, clip_on=False)
        axes.text(label, moved / height, end.name, fontsize=SMALL, transform=axes.transAxes, va="center_baseline")


def spread_labels(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Return ascending heights at least `gap` apart, between 0 and `top` if they fit, closest to `heights`.

    The result minimizes the sum of squared moves: an isotonic regression of the heights minus their gaps.
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
