"""The picture of a shift: tokens before and after the noise, and how far each one moved; same input, same bytes."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neftune_cli.geometry.projection.shift import (
    PANELS,
    Shift,
    ShownNoise,
    bar_words,
    footnote,
    moved_words,
    size_words,
    title,
)
from neftune_cli.geometry.projection.token_groups import GROUP_NAMES, PUNCTUATION
from neftune_cli.geometry.projection.token_map import TokenMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox


Points = NDArray[np.float64]
"""Places on the map: (tokens, 2)."""

GROUP_COLOURS: Final = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#7F7F7F")
"""Okabe and Ito's palette without its yellow, which vanishes on white; black is kept for tokens that changed group."""
GROUP_MARKERS: Final = ("o", "s", "^", "D", "P", "X", "v")
LABELS_A_GROUP: Final = 4
QUOTATION_MARKS: Final = frozenset("\"'`“”")
MOST_NAMED_ARROWS: Final = 20
"""Where more tokens changed group, none is named: nobody could tell which arrow a name is for."""

SIZE: Final = (12.8, 7.0)
"""Inches: 1920 pixels wide at 150 dpi."""
_PANEL: Final = 4.06
_GAP: Final = 0.11
_BOTTOM: Final = 1.12
_MARGIN: Final = 0.08
"""Room round the dots for labels, as a share of what the dots fill; as much again below them, for the bar."""
_INK, _FAINT, _FRAME = "#222222", "#666666", "#cccccc"

BAR: Final = 0.25
"""Length of the bar in the third panel, where the map is 1 wide; shorter if arrows would pass `LONGEST_ARROW`."""
LONGEST_ARROW: Final = 0.12

_STYLE = {"figure.dpi": 150, "font.size": 9, "axes.edgecolor": _FRAME, "axes.linewidth": 0.8, "text.color": _INK}


def draw_shift(shift: Shift, token_map: TokenMap, *, model: str, noise: ShownNoise) -> bytes:
    """Draw three panels of one scale: before, after, and an arrow a token; return a PNG at 150 dpi.

    An arrow is as long as the noise in the embedding's own space, to the scale of a bar: the median distance from a
    token to its nearest other token, or the longest shift where most embeddings are equal to another. Only its
    direction is the map's: there, noise in hundreds of directions shrinks to the two that are shown. Black arrows are
    tokens whose nearest neighbour changed group.
    """
    before, after = _fill_panel(token_map)
    order = _labelling_order(shift, before)
    with _figure() as (figure, panels, image):
        for axes, (name, explanation) in zip(panels, PANELS.items(), strict=True):
            _set_title(axes, name, explanation)
        _draw_before(panels[0], shift, before, order)
        _draw_after(panels[1], shift, before, after, order)
        _draw_arrows(panels[2], shift, before, after)
        _write_words(figure, shift, token_map, model, noise)
        _add_legend(figure, shift)
    return image.getvalue()


def _fill_panel(token_map: TokenMap) -> tuple[Points, Points]:
    """Stretch both axes of the map to fill the unit square: they have no unit, and a PCA map is mostly flat."""
    both = np.concatenate([token_map.before, token_map.after])
    low, extent = both.min(0), np.ptp(both, axis=0)
    scale = np.where(extent > 0, extent, 1.0)
    return (token_map.before - low) / scale, (token_map.after - low) / scale


def _labelling_order(shift: Shift, points: Points) -> dict[str, list[int]]:
    """Return each group's tokens, each as far as possible from those before it, so that every cluster gets names."""
    names = np.asarray(shift.tokens.group_names)
    return {group.name: _farthest_first(np.flatnonzero(names == group.name), points) for group in shift.tokens.groups}


def _farthest_first(places: NDArray[np.int64], points: Points) -> list[int]:
    order = [int(places[0])]
    while len(order) < len(places):
        gaps = np.linalg.norm(points[places][:, None] - points[order], axis=2).min(1)
        gaps[np.isin(places, order)] = -1.0  # tokens may lie on top of one another
        order.append(int(places[gaps.argmax()]))
    return order


@contextmanager
def _figure() -> Iterator[tuple["Figure", list["Axes"], io.BytesIO]]:
    """Give an empty figure with three square panels, and write it into the image at the end."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = io.BytesIO()
    # A user's own matplotlibrc must not change the picture, and pyplot's global figures aren't needed.
    with matplotlib.style.context(["default", _STYLE], after_reset=True):
        figure = Figure(figsize=SIZE)
        FigureCanvasAgg(figure)  # measures texts, so that labels don't overlap
        yield figure, [_add_panel(figure, column) for column in range(3)], image
        figure.savefig(image, format="png", metadata={"Software": None})


def _add_panel(figure: "Figure", column: int) -> "Axes":
    width, height = SIZE
    left = (width - 3 * _PANEL - 2 * _GAP) / 2 + column * (_PANEL + _GAP)
    axes = figure.add_axes((left / width, _BOTTOM / height, _PANEL / width, _PANEL / height))
    axes.set(xticks=[], yticks=[], xlim=(-_MARGIN, 1 + _MARGIN), ylim=(-2 * _MARGIN, 1 + _MARGIN))
    return axes


def _draw_before(axes: "Axes", shift: Shift, before: Points, order: Mapping[str, list[int]]) -> None:
    _draw_dots(axes, shift, before, size=26)
    _label_groups(axes, shift, before, order)


def _draw_after(axes: "Axes", shift: Shift, before: Points, after: Points, order: Mapping[str, list[int]]) -> None:
    """Draw where tokens are with noise; a thin trail leads there from where they were."""
    axes.plot(*np.stack([before, after]).transpose(2, 0, 1), color="#bbbbbb", linewidth=0.6, zorder=1)
    _draw_dots(axes, shift, after, size=26)
    _label_groups(axes, shift, after, order)


def _draw_arrows(axes: "Axes", shift: Shift, before: Points, after: Points) -> None:
    _draw_dots(axes, shift, before, size=7)
    colours = np.asarray([_look(name)[0] for name in shift.tokens.group_names])
    bar, ways = _ways(shift, before, after)
    still, moved = ~shift.moved, shift.moved
    _draw_quiver(axes, before[still], ways[still], colours[still].tolist(), zorder=3)
    _draw_quiver(axes, before[moved], ways[moved], _INK, zorder=4)
    _draw_bar(axes, bar, bar_words(shift))
    if moved.sum() <= MOST_NAMED_ARROWS:
        labels = Labels(axes, before, avoid_dots=False)
        labels.add(np.flatnonzero(moved).tolist(), _label_texts(shift), colour=_INK, most=MOST_NAMED_ARROWS)


def _ways(shift: Shift, before: Points, after: Points) -> tuple[float, Points]:
    """Return the length of the bar and each token's arrow, as wide and as high as on the panel: (tokens, 2)."""
    # equal embeddings have no distance to each other: arrows are then to the scale of the longest
    lengths = shift.noise_norms / (shift.neighbour_distance or float(shift.noise_norms.max()) or 1.0)
    bar = min(BAR, LONGEST_ARROW / max(float(lengths.max()), BAR))
    ways = after - before
    norms = np.linalg.norm(ways, axis=1, keepdims=True)
    return bar, bar * lengths[:, None] * np.divide(ways, norms, out=np.zeros_like(ways), where=norms > 0)


def _draw_quiver(axes: "Axes", starts: Points, ways: Points, colour: str | list[str], *, zorder: int) -> None:
    axes.quiver(
        *starts.T,
        *ways.T,
        color=colour,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0032,
        headwidth=4,
        headlength=4.5,
        headaxislength=4,
        minlength=0.3,
        zorder=zorder,
    )


def _draw_bar(axes: "Axes", length: float, words: str) -> None:
    left, height = -0.6 * _MARGIN, -1.4 * _MARGIN
    axes.errorbar(
        left + length / 2, height, xerr=length / 2, color=_INK, linewidth=1.4, capsize=3, capthick=1.4, zorder=6
    )
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axes.text(left + length + 0.02, height, words, fontsize=8, va="center", bbox=box, zorder=6)


def _draw_dots(axes: "Axes", shift: Shift, points: Points, *, size: float) -> None:
    names = np.asarray(shift.tokens.group_names)
    for group in shift.tokens.groups:
        colour, marker = _look(group.name)
        x, y = points[names == group.name].T
        axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0.4, edgecolors="white", zorder=2)


def _look(group: str) -> tuple[str, str]:
    """Return a group's colour and marker, the same in every picture."""
    place = GROUP_NAMES.index(group)
    return GROUP_COLOURS[place], GROUP_MARKERS[place]


def _label_groups(axes: "Axes", shift: Shift, points: Points, order: Mapping[str, list[int]]) -> None:
    """Write a few tokens of each group beside their dots, where there is room."""
    labels = Labels(axes, points)
    for name, places in order.items():
        shown = [place for place in places if QUOTATION_MARKS.isdisjoint(shift.tokens.texts[place])]
        labels.add(shown, _label_texts(shift), colour=_look(name)[0], most=LABELS_A_GROUP)


def _label_texts(shift: Shift) -> list[str]:
    """Return the tokens, punctuation in quotation marks: a lone full stop would be taken for dirt."""
    named = zip(shift.tokens.texts, shift.tokens.group_names, strict=True)
    return [f"“{text}”" if group == PUNCTUATION else text for text, group in named]


def _set_title(axes: "Axes", name: str, explanation: str) -> None:
    axes.annotate(name, (0, 1), (0, 32), "axes fraction", "offset points", fontsize=12, weight="bold")
    axes.annotate(explanation, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9, color=_FAINT)


def _write_words(figure: "Figure", shift: Shift, token_map: TokenMap, model: str, noise: ShownNoise) -> None:
    left, top = 0.2 / SIZE[0], SIZE[1]
    figure.text(left, 1 - 0.36 / top, title(model, noise), fontsize=15, weight="bold", parse_math=False)
    figure.text(left, 1 - 0.92 / top, f"{size_words(shift)}\n{moved_words(shift)}", fontsize=11, linespacing=1.35)
    figure.text(left, 0.14 / top, footnote(shift, token_map, noise), fontsize=7.5, color=_FAINT, linespacing=1.45)


def _add_legend(figure: "Figure", shift: Shift) -> None:
    from matplotlib.lines import Line2D

    looks = {f"{group.name} ({len(group.texts)})": _look(group.name) for group in shift.tokens.groups}
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, label=label)
        for label, (colour, marker) in looks.items()
    ]
    figure.legend(
        handles=handles,
        loc="center",
        bbox_to_anchor=(0.5, (_BOTTOM - 0.24) / SIZE[1]),
        ncols=len(handles),
        frameon=False,
        fontsize=9.5,
        handletextpad=0.2,
        columnspacing=1.8,
    )


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
