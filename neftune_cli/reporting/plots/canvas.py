"""The sheet all plots are drawn on: its size, its style, and how it becomes SVG."""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from neftune_cli.reporting.plots.svg import INK, embeddable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 720.0
"""Points; the same for all plots, so that their texts are of one size on a page."""
TEXT, SMALL, HEADING = 9.0, 8.0, 10.0
"""Sizes of the texts in points."""
FAINT: Final = 0.13
"""Opacity of what should be seen last, like the grid."""
POINTS_AN_INCH: Final = 72.0

_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.7,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": HEADING,
    "figure.facecolor": "none",
    "font.size": TEXT,
    "grid.alpha": FAINT,
    "grid.color": INK,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": SMALL,
    "xtick.major.size": 3.0,
    "xtick.major.width": 0.7,
    "ytick.color": INK,
    "ytick.labelsize": SMALL,
    "ytick.left": False,
}


@dataclass(frozen=True)
class Words:
    """What is said of a plot."""

    name: str
    """Lower-case words joined by hyphens: the name of its file, without the ending."""
    title: str
    caption: str
    """What is drawn how, and what is left out."""
    alt: str
    """What the picture shows, for those who can't see it."""


@dataclass(frozen=True)
class Plot:
    """A picture with what is said of it."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    """An element for a page, with ids of its own and without styles; `standalone` makes a file of it."""


def plot(words: Words, height: float, draw: Callable[["Figure"], None]) -> Plot:
    """Let `draw` fill a sheet of `WIDTH` by `height` points, and return it: the same bytes for the same drawing."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A user's own matplotlibrc must not change the picture, and pyplot's global figures aren't needed.
    with mpl.rc_context(), warnings.catch_warnings():
        # Only matplotlib's own font lacks these characters, and it is used for measuring alone.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": words.name})
        figure = Figure(figsize=(WIDTH / POINTS_AN_INCH, height / POINTS_AN_INCH))
        figure.patch.set_visible(False)
        draw(figure)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None})
    svg = embeddable(raw.getvalue(), words.name, words.title, words.alt)
    return Plot(words.name, words.title, words.caption, words.alt, svg)


def panel(figure: "Figure", box: Sequence[float]) -> "Axes":
    """Return new axes at (left, bottom, width, height) in points from the lower left corner of the sheet."""
    width, height = (inches * POINTS_AN_INCH for inches in figure.get_size_inches())
    left, bottom, wide, high = box
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    axes.patch.set_visible(False)
    return axes
