"""Drawing surface of the plots: a matplotlib figure in a fixed style, rendered to SVG for a page or for a file.

The page has a strict content security policy, so its SVG has no inline style. `standalone` makes a file of that SVG.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from neftune_cli.reporting.sanitizing import printable_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 720.0
"""Width of every plot in points, so that text has one size on a page."""
TEXT, SMALL, HEADING = 9.0, 8.0, 10.0
"""Font sizes in points."""
FAINT: Final = 0.13
"""Opacity of the grid and of bands."""
POINTS_PER_INCH: Final = 72.0
INK: Final = "#010203"
"""Placeholder color: `embeddable` replaces it by the text color of the page."""


@dataclass(frozen=True)
class PlotText:
    """Name and texts of a plot."""

    name: str
    """Lower-case words joined by hyphens: the file name without its extension."""
    title: str
    caption: str
    """Legend of the marks, and anything left out of the plot."""
    alt: str
    """Description of the plotted values, for screen readers."""


@dataclass(frozen=True)
class Plot:
    """A rendered plot with its texts."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    """SVG element for a page, with unique ids and without styles; `standalone` turns it into a file."""


def render_plot(text: PlotText, height: float, draw: Callable[["Figure"], None]) -> Plot:
    """Call `draw` on a new figure, `WIDTH` by `height` points, and return the plot: equal drawings give equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The figure must not depend on the user's matplotlibrc, and it needs none of pyplot's global figures.
    with mpl.rc_context(), warnings.catch_warnings():
        # Matplotlib's own font, which lacks these characters, only measures text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": text.name})
        figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH))
        figure.patch.set_visible(False)
        draw(figure)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None})
    svg = embeddable(raw.getvalue(), text.name, printable_text(text.title), printable_text(text.alt))
    return Plot(text.name, text.title, text.caption, text.alt, svg)


def add_panel(figure: "Figure", box: Sequence[float]) -> "Axes":
    """Return new axes at (left, bottom, width, height) in points from the lower left corner of the figure."""
    width, height = (inches * POINTS_PER_INCH for inches in figure.get_size_inches())
    left, bottom, panel_width, panel_height = box
    axes = figure.add_axes((left / width, bottom / height, panel_width / width, panel_height / height))
    axes.patch.set_visible(False)
    return axes


def standalone(svg: str) -> str:
    """Return the content of an SVG file: the element from `embeddable` with a size and a light or dark background."""
    root = _without_namespaces(ElementTree.fromstring(svg))
    _, _, width, height = root.attrib["viewBox"].split()
    style = Element("style")
    style.text = _BACKGROUND_STYLE
    background = Element("rect", {"class": "paper", "width": width, "height": height, "fill": "#fff"})
    title, description, *drawn = root
    root[:] = []
    root.attrib.update(width=width, height=height)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n' + _svg(root, [title, description, style, background, *drawn]) + "\n"
    )


def embeddable(raw: str, name: str, title: str, description: str) -> str:
    """Return matplotlib's SVG as an element for a page that forbids inline styles.

    The element has no style, no XML header, and no size except its aspect ratio. `INK` becomes the color of the
    surrounding text. Every id begins with `name` and a digest of the content, so that plots can share a page.
    """
    root = _without_namespaces(ElementTree.fromstring(raw))
    digest = hashlib.sha256("\n".join((raw, title, description)).encode()).hexdigest()
    prefix = f"{name}-{digest[:8]}"
    for element in root.iter():
        _style_to_attributes(element)
        _shorten_numbers(element)
    _rename_ids(root, prefix)
    drawn = [child for part in root for child in _cleaned(part)]
    return _svg(_frame(root.attrib["viewBox"], prefix, title, description), drawn)


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
_BACKGROUND_STYLE: Final = (
    "svg{color:#1b1b1b}.paper{fill:#fff}@media(prefers-color-scheme:dark){svg{color:#e6e6e6}.paper{fill:#16181c}}"
)
_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_DROPPED_TAGS: Final = frozenset({"metadata", "style"})
_NUMBER_ATTRIBUTES: Final = frozenset({"d", "x", "y", "width", "height", "transform"})
"""Attributes whose numbers are rounded to a hundredth of a point."""
_DECIMALS: Final = re.compile(r"-?\d+\.\d+")
_REFERENCE_ATTRIBUTES: Final = frozenset({"href", "clip-path"})
_REFERENCE: Final = re.compile(r"#([\w.-]+)")
_FONT: Final = re.compile(r"(?P<before>.*?)(?P<size>[\d.]+px)\s.*")


def _without_namespaces(root: Element) -> Element:
    for element in root.iter():
        element.tag = _local_name(element.tag)
        for key in [key for key in element.attrib if key.startswith("{")]:
            element.set(_local_name(key), element.attrib.pop(key))
    return root


def _local_name(name: str) -> str:
    return name.rpartition("}")[2]


def _style_to_attributes(element: Element) -> None:
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = declaration.partition(":")
        for attribute, content in _presentation_attributes(key.strip(), value.strip()):
            element.set(attribute, "currentColor" if content == INK else content)


def _presentation_attributes(key: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield a CSS declaration as presentation attributes; the font family is set once, on the root."""
    if key == "font" and (font := _FONT.fullmatch(value)):
        yield "font-size", font["size"]
        if "bold" in font["before"]:
            yield "font-weight", "bold"
    elif key not in {"", "font", "font-family"}:
        yield key, value


def _shorten_numbers(element: Element) -> None:
    for key in _NUMBER_ATTRIBUTES & element.attrib.keys():
        element.set(key, " ".join(_DECIMALS.sub(_hundredths, element.attrib[key]).split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


def _hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _rename_ids(root: Element, prefix: str) -> None:
    """Rename the ids that are referenced, and remove all others."""
    references = " ".join(element.get(key, "") for element in root.iter() for key in _REFERENCE_ATTRIBUTES)
    names = {old: f"{prefix}-{number}" for number, old in enumerate(dict.fromkeys(_REFERENCE.findall(references)))}
    for element in root.iter():
        if name := names.get(element.attrib.pop("id", "")):
            element.set("id", name)
        for key in _REFERENCE_ATTRIBUTES & element.attrib.keys():
            element.set(key, _REFERENCE.sub(lambda old: f"#{names[old[1]]}", element.attrib[key]))


def _cleaned(element: Element) -> Iterator[Element]:
    """Yield an element without dropped tags, empty elements, and groups without attributes."""
    children = [child for part in element for child in _cleaned(part)]
    if element.tag in _DROPPED_TAGS:
        return
    if element.tag == "g" and not element.attrib:
        yield from children
    elif children or element.tag not in {"g", "defs"}:
        element[:] = children
        element.tail = None
        element.text = element.text and element.text.strip()
        yield element


def _frame(view_box: str, prefix: str, title: str, description: str) -> Element:
    """Return the SVG root with its title and description, which screen readers expect first."""
    root = Element("svg", {"viewBox": view_box, "role": "img", "font-family": _FONTS, "stroke-linejoin": "round"})
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for tag, text in (("title", title), ("desc", description)):
        ElementTree.SubElement(root, tag, {"id": f"{prefix}-{tag}"}).text = text
    return root


def _svg(root: Element, children: list[Element]) -> str:
    root[:] = [*root, *children]
    root.attrib = {"xmlns": _NAMESPACE, **root.attrib}
    return ElementTree.tostring(root, encoding="unicode")
