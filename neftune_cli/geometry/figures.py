"""Rendering of matplotlib figures as PNG and SVG, with the same bytes for the same input."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {"figure.dpi": 150, "font.size": 9, "svg.hashsalt": "neftune"}


@dataclass(frozen=True)
class Picture:
    """One figure in two formats."""

    png: bytes
    """150 dpi."""
    svg: bytes


@contextmanager
def figure_style(style: Mapping[str, object]) -> Iterator[None]:
    """Apply matplotlib's defaults and a style on top, independent of the user's matplotlibrc."""
    import matplotlib.style

    with matplotlib.style.context(["default", {**_STYLE, **style}], after_reset=True):
        yield


def render(figure: "Figure") -> Picture:
    """Return a figure as PNG and SVG; call it within the `figure_style` in which the figure was drawn."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(png.getvalue(), svg.getvalue())
