"""Labels beside dots: written only where they cover neither another label nor another dot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

ENOUGH: Final = 2
"""Labels a group gets even if they have to stand further off, with a line to their dot."""

_NEAR: Final = 6.0
_FAR: Final = (16.0, 28.0, 40.0)
"""Points between a dot and its label."""
_SIDES: Final = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Where a label may stand, seen from its dot, the best first: right is 1, above is 1."""
_HORIZONTAL: Final = {1: "left", 0: "center", -1: "right"}
_VERTICAL: Final = {1: "bottom", 0: "center", -1: "top"}
_DOT_RADIUS: Final = 5.0
"""Pixels round the middle of a dot that no label may cover."""
_PADDING: Final = 1.5
_LAST_IN_FONT: Final = 0x2100
"""Scripts that come later may be missing in the font, and would become boxes."""


class Labels:
    """The labels of one panel, which know where each of them is."""

    def __init__(self, axes: "Axes", points: NDArray[np.float64], *, avoid_dots: bool = True) -> None:
        self._axes = axes
        self._points = points  # (tokens, 2), on the map
        self._dots: NDArray[np.float64] = axes.transData.transform(points)  # (tokens, 2), pixels
        self._avoid_dots = avoid_dots
        self._taken: list[Bbox] = []

    def add(self, places: Sequence[int], texts: Sequence[str], *, colour: str, most: int) -> None:
        """Write up to `most` of the tokens at these places, the first that have room.

        Where fewer than `ENOUGH` have room beside their dot, others stand further off, with a line to it.
        """
        readable = [place for place in places if all(ord(mark) < _LAST_IN_FONT for mark in texts[place])]
        written: set[int] = set()
        for reach in (_NEAR, *_FAR):
            for place in readable:
                if len(written) >= (most if reach == _NEAR else min(most, ENOUGH)):
                    break
                if place not in written and self._write(place, texts[place], colour, reach):
                    written.add(place)

    def _write(self, place: int, text: str, colour: str, reach: float) -> bool:
        label = self._label(place, text, colour, line=reach > _NEAR)
        for x, y in _SIDES:
            label.set(position=(reach * x, reach * y), ha=_HORIZONTAL[x], va=_VERTICAL[y])
            box = self._text_box(label)
            if self._is_free(box, place):
                self._taken += [box, self._line_box(box, place)]
                return True
        label.remove()
        return False

    def _label(self, place: int, text: str, colour: str, *, line: bool) -> "Annotation":
        from matplotlib.patheffects import withStroke

        return self._axes.annotate(
            text,
            (float(self._points[place, 0]), float(self._points[place, 1])),
            xytext=(0.0, 0.0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1} if line else None,
            fontsize=8,
            color=colour,
            parse_math=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=5,
        )

    def _text_box(self, label: "Annotation") -> "Bbox":
        from matplotlib.text import Text

        renderer = self._axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        label.update_positions(renderer)
        return Text.get_window_extent(label, renderer).padded(_PADDING)  # of the text alone, without its line

    def _line_box(self, box: "Bbox", place: int) -> "Bbox":
        """Return what the line from the dot to the middle of its label passes through."""
        from matplotlib.transforms import Bbox

        return Bbox([self._dots[place], ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)])

    def _is_free(self, box: "Bbox", place: int) -> bool:
        panel = self._axes.get_window_extent()
        inside = panel.contains(box.x0, box.y0) and panel.contains(box.x1, box.y1)
        alone = not any(one.overlaps(other) for one in (box, self._line_box(box, place)) for other in self._taken)
        return bool(inside) and alone and not self._hides_dot(box, place)

    def _hides_dot(self, box: "Bbox", place: int) -> bool:
        if not self._avoid_dots:
            return False
        grown = box.padded(_DOT_RADIUS)
        hidden = ((self._dots > (grown.x0, grown.y0)) & (self._dots < (grown.x1, grown.y1))).all(axis=1)
        return bool(np.delete(hidden, place).any())
