"""Labels beside the ends of lines, moved apart where ends meet, with a thin line to where they belong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from neftune_cli.reporting.plots.canvas import HEADING, POINTS_AN_INCH, SMALL
from neftune_cli.reporting.plots.looks import Look
from neftune_cli.reporting.plots.names import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
