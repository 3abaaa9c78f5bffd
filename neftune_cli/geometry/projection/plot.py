"""The figure of an embedding shift: tokens before and after the noise, and the shift of each token."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neftune_cli.geometry.output import RenderedFigure, figure_style, render
from neftune_cli.geometry.projection.embedding_shift import (
    PANELS,
    NoiseDraw,
    Shift,
    bar_label,
    footnote,
    neighbour_sentences,
    shift_sentence,
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
"""Map coordinates: (tokens, 2)."""

GROUP_COLOURS: Final = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#7F7F7F")
"""Okabe and Ito's palette without yellow, which is invisible on white. Black marks changes of the neighbor's group."""
GROUP_MARKERS: Final = ("o", "s", "^", "D", "P", "X", "v")
LABELS_PER_GROUP: Final = 4
QUOTATION_MARKS: Final = frozenset("\"'`“”")
MAX_LABELLED_ARROWS: Final = 20
"""With more black arrows than this, none has a label, because labels could not be assigned to arrows."""

SIZE: Final = (12.8, 7.2)
"""Width and height in inches: 1920 pixels wide at 150 dpi."""
_PANEL: Final = 4.06
_GAP: Final = 0.11
_BOTTOM: Final = 1.12
_MARGIN: Final = 0.08
"""Margin around the dots for labels, as a share of their extent; twice that below them, for the bar."""
_INK, _FAINT, _FRAME = "#222222", "#666666", "#cccccc"

BAR: Final = 0.25
"""Length of the scale bar as a share of the map's width; shorter if an arrow would exceed `MAX_ARROW_LENGTH`."""
MAX_ARROW_LENGTH: Final = 0.12

_STYLE = {"axes.edgecolor": _FRAME, "axes.linewidth": 0.8, "text.color": _INK}


def draw_shift(shift: Shift, token_map: TokenMap, *, model: str, noise: NoiseDraw) -> RenderedFigure:
    """Draw three panels on one scale: before, after, and one arrow per token; the same bytes for the same input.

    The length of an arrow is the norm of the noise in the full embedding space, relative to a scale bar. The bar is the
    median distance of a token to the nearest other token, or the longest shift if most embeddings have an equal one.
    The direction of an arrow is that on the map, where projection shrinks noise of hundreds of dimensions. Arrows are
    black if the group of the nearest neighbor changed.
    """
    before, after = _fill_panel(token_map)
    order = _labelling_order(shift, before)
    with figure_style(_STYLE):
        figure = _new_figure()
        panels = [_add_panel(figure, column) for column in range(3)]
        for axes, (name, explanation) in zip(panels, PANELS.items(), strict=True):
            _set_title(axes, name, explanation)
        _draw_before(panels[0], shift, before, order)
        _draw_after(panels[1], shift, before, after, order)
        _draw_arrows(panels[2], shift, before, after)
        _add_texts(figure, shift, token_map, model, noise)
        _add_legend(figure, shift)
        return render(figure)


def _fill_panel(token_map: TokenMap) -> tuple[Points, Points]:
    """Stretch both axes of the map to the unit square: they have no unit, and a PCA map may be very flat."""
    both = np.concatenate([token_map.before, token_map.after])
    low, extent = both.min(0), np.ptp(both, axis=0)
    scale = np.where(extent > 0, extent, 1.0)
    return (token_map.before - low) / scale, (token_map.after - low) / scale


def _labelling_order(shift: Shift, points: Points) -> dict[str, list[int]]:
    """Return each group's tokens, each as far as possible from those before it, so that every cluster gets labels."""
    names = np.asarray(shift.tokens.group_names)
    return {group.name: _farthest_first(np.flatnonzero(names == group.name), points) for group in shift.tokens.groups}


def _farthest_first(places: NDArray[np.int64], points: Points) -> list[int]:
    order = [int(places[0])]
    while len(order) < len(places):
        gaps = np.linalg.norm(points[places][:, None] - points[order], axis=2).min(1)
        gaps[np.isin(places, order)] = -1.0  # tokens may have equal coordinates
        order.append(int(places[gaps.argmax()]))
    return order


def _new_figure() -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)
    FigureCanvasAgg(figure)  # measures texts, so that labels do not overlap
    return figure


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
    """Draw the tokens with noise, and a thin line to each from its position without noise."""
    axes.plot(*np.stack([before, after]).transpose(2, 0, 1), color="#bbbbbb", linewidth=0.6, zorder=1)
    _draw_dots(axes, shift, after, size=26)
    _label_groups(axes, shift, after, order)


def _draw_arrows(axes: "Axes", shift: Shift, before: Points, after: Points) -> None:
    _draw_dots(axes, shift, before, size=7)
    colours = np.asarray([_group_style(name)[0] for name in shift.tokens.group_names])
    bar, arrows = _arrows(shift, before, after)
    still, moved = ~shift.moved, shift.moved
    _draw_quiver(axes, before[still], arrows[still], colours[still].tolist(), zorder=3)
    _draw_quiver(axes, before[moved], arrows[moved], _INK, zorder=4)
    _draw_bar(axes, bar, bar_label(shift))
    if moved.sum() <= MAX_LABELLED_ARROWS:
        labels = LabelPlacer(axes, before, avoid_dots=False)
        labels.add(np.flatnonzero(moved).tolist(), _label_texts(shift), colour=_INK, maximum=MAX_LABELLED_ARROWS)


def _arrows(shift: Shift, before: Points, after: Points) -> tuple[float, Points]:
    """Return the length of the bar and each token's arrow, in panel coordinates: (tokens, 2)."""
    # If most embeddings are equal, the neighbor distance is 0 and the longest arrow is the scale.
    lengths = shift.noise_norms / (shift.neighbour_distance or float(shift.noise_norms.max()) or 1.0)
    bar = min(BAR, MAX_ARROW_LENGTH / max(float(lengths.max()), BAR))
    steps = after - before
    norms = np.linalg.norm(steps, axis=1, keepdims=True)
    return bar, bar * lengths[:, None] * np.divide(steps, norms, out=np.zeros_like(steps), where=norms > 0)


def _draw_quiver(axes: "Axes", starts: Points, arrows: Points, colour: str | list[str], *, zorder: int) -> None:
    axes.quiver(
        *starts.T,
        *arrows.T,
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


def _draw_bar(axes: "Axes", length: float, label: str) -> None:
    left, height = -0.6 * _MARGIN, -1.4 * _MARGIN
    axes.errorbar(
        left + length / 2, height, xerr=length / 2, color=_INK, linewidth=1.4, capsize=3, capthick=1.4, zorder=6
    )
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axes.text(left + length + 0.02, height, label, fontsize=8, va="center", bbox=box, zorder=6)


def _draw_dots(axes: "Axes", shift: Shift, points: Points, *, size: float) -> None:
    names = np.asarray(shift.tokens.group_names)
    for group in shift.tokens.groups:
        colour, marker = _group_style(group.name)
        x, y = points[names == group.name].T
        axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0.4, edgecolors="white", zorder=2)


def _group_style(group: str) -> tuple[str, str]:
    """Return the colour and marker of a group, the same in every figure."""
    place = GROUP_NAMES.index(group)
    return GROUP_COLOURS[place], GROUP_MARKERS[place]


def _label_groups(axes: "Axes", shift: Shift, points: Points, order: Mapping[str, list[int]]) -> None:
    """Label a few tokens of each group, where there is room."""
    labels = LabelPlacer(axes, points)
    for name, places in order.items():
        shown = [place for place in places if QUOTATION_MARKS.isdisjoint(shift.tokens.texts[place])]
        labels.add(shown, _label_texts(shift), colour=_group_style(name)[0], maximum=LABELS_PER_GROUP)


def _label_texts(shift: Shift) -> list[str]:
    """Return the texts of the tokens, with punctuation in quotation marks: a bare full stop is hard to see."""
    named = zip(shift.tokens.texts, shift.tokens.group_names, strict=True)
    return [f"“{text}”" if group == PUNCTUATION else text for text, group in named]


def _set_title(axes: "Axes", name: str, explanation: str) -> None:
    axes.annotate(name, (0, 1), (0, 32), "axes fraction", "offset points", fontsize=12, weight="bold")
    axes.annotate(explanation, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=9, color=_FAINT)


def _add_texts(figure: "Figure", shift: Shift, token_map: TokenMap, model: str, noise: NoiseDraw) -> None:
    left, top = 0.2 / SIZE[0], SIZE[1]
    figure.text(left, 1 - 0.36 / top, title(model, noise), fontsize=15, weight="bold", parse_math=False)
    sentences = "\n".join((shift_sentence(shift), *neighbour_sentences(shift)))
    figure.text(left, 1 - 0.62 / top, sentences, fontsize=11, linespacing=1.35, verticalalignment="top")
    figure.text(left, 0.14 / top, footnote(shift, token_map, noise), fontsize=7.5, color=_FAINT, linespacing=1.45)


def _add_legend(figure: "Figure", shift: Shift) -> None:
    from matplotlib.lines import Line2D

    styles = {f"{group.name} ({len(group.texts)})": _group_style(group.name) for group in shift.tokens.groups}
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=7, label=label)
        for label, (colour, marker) in styles.items()
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


DISTANT_LABELS: Final = 2
"""Labels per group that may be placed farther from their dot, with a line to it."""

_NEAR: Final = 6.0
_FAR: Final = (16.0, 28.0, 40.0)
"""Distances between a dot and its label, in points."""
_SIDES: Final = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Positions of a label relative to its dot, in order of preference; 1 is right or above."""
_HORIZONTAL: Final = {1: "left", 0: "center", -1: "right"}
_VERTICAL: Final = {1: "bottom", 0: "center", -1: "top"}
_DOT_RADIUS: Final = 5.0
"""Pixels around the center of a dot that no label may cover."""
_PADDING: Final = 1.5
_LAST_IN_FONT: Final = 0x2100
"""Code points from here on may be missing in the font and would be drawn as boxes."""


class LabelPlacer:
    """Places the labels of one panel without overlaps."""

    def __init__(self, axes: "Axes", points: NDArray[np.float64], *, avoid_dots: bool = True) -> None:
        self._axes = axes
        self._points = points  # (tokens, 2), map coordinates
        self._dots: NDArray[np.float64] = axes.transData.transform(points)  # (tokens, 2), pixels
        self._avoid_dots = avoid_dots
        self._occupied: list[Bbox] = []

    def add(self, places: Sequence[int], texts: Sequence[str], *, colour: str, maximum: int) -> None:
        """Label up to `maximum` of the tokens at these indices, the first for which there is room.

        If fewer than `DISTANT_LABELS` have room next to their dot, others are placed farther away, with a line to it.
        """
        readable = [place for place in places if all(ord(mark) < _LAST_IN_FONT for mark in texts[place])]
        written: set[int] = set()
        for reach in (_NEAR, *_FAR):
            for place in readable:
                if len(written) >= (maximum if reach == _NEAR else min(maximum, DISTANT_LABELS)):
                    break
                if place not in written and self._write(place, texts[place], colour, reach):
                    written.add(place)

    def _write(self, place: int, text: str, colour: str, reach: float) -> bool:
        label = self._label(place, text, colour, line=reach > _NEAR)
        for x, y in _SIDES:
            label.set(position=(reach * x, reach * y), ha=_HORIZONTAL[x], va=_VERTICAL[y])
            box = self._text_box(label)
            if self._is_free(box, place):
                self._occupied += [box, self._line_box(box, place)]
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
        return Text.get_window_extent(label, renderer).padded(_PADDING)  # of the text without its line

    def _line_box(self, box: "Bbox", place: int) -> "Bbox":
        """Return the bounding box of the line from the dot to the center of its label."""
        from matplotlib.transforms import Bbox

        return Bbox([self._dots[place], ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)])

    def _is_free(self, box: "Bbox", place: int) -> bool:
        panel = self._axes.get_window_extent()
        inside = panel.contains(box.x0, box.y0) and panel.contains(box.x1, box.y1)
        alone = not any(one.overlaps(other) for one in (box, self._line_box(box, place)) for other in self._occupied)
        return bool(inside) and alone and not self._hides_dot(box, place)

    def _hides_dot(self, box: "Bbox", place: int) -> bool:
        if not self._avoid_dots:
            return False
        grown = box.padded(_DOT_RADIUS)
        hidden = ((self._dots > (grown.x0, grown.y0)) & (self._dots < (grown.x1, grown.y1))).all(axis=1)
        return bool(np.delete(hidden, place).any())
