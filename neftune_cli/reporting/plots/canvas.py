"""From matplotlib's SVG to one that stands inside a page of strict content security, or in a file of its own."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK: Final = "#010203"
"""Drawn with it, something takes the colour of the page's text."""

_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_LEFT_OUT: Final = frozenset({"metadata", "style"})
_NUMBERS: Final = frozenset({"d", "x", "y", "width", "height", "transform"})
"""Attributes of many digits: a hundredth of a point is enough."""
_DECIMALS: Final = re.compile(r"-?\d+\.\d+")
_REFERENCES: Final = frozenset({"href", "clip-path"})
_REFERENCE: Final = re.compile(r"#([\w.-]+)")
_FONT: Final = re.compile(r"(?P<before>.*?)(?P<size>[\d.]+px)\s.*")
_PAPER: Final = (
    "svg{color:#1b1b1b}.paper{fill:#fff}@media(prefers-color-scheme:dark){svg{color:#e6e6e6}.paper{fill:#16181c}}"
)


def embeddable(raw: str, name: str, title: str, description: str) -> str:
    """Return an SVG element for a page that forbids inline styles, from what matplotlib wrote.

    It has no style, no header and no size but its aspect ratio; `INK` becomes the colour of the text around it. Every
    id begins with `name` and a digest of the whole, so that many of them can share a page.
    """
    root = _without_namespaces(ElementTree.fromstring(raw))
    digest = hashlib.sha256("\n".join((raw, title, description)).encode()).hexdigest()
    prefix = f"{name}-{digest[:8]}"
    for element in root.iter():
        _style_as_attributes(element)
        _shorten_numbers(element)
    _rename_ids(root, prefix)
    drawn = [child for part in root for child in _flat(part)]
    return _text(_frame(root.attrib["viewBox"], prefix, title, description), drawn)


def standalone(svg: str) -> str:
    """Return the content of a file for what `embeddable` made: with a size and paper of its own, light or dark."""
    root = _without_namespaces(ElementTree.fromstring(svg))
    _, _, width, height = root.attrib["viewBox"].split()
    style = Element("style")
    style.text = _PAPER
    paper = Element("rect", {"class": "paper", "width": width, "height": height, "fill": "#fff"})
    title, description, *drawn = root
    root[:] = []
    root.attrib.update(width=width, height=height)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _text(root, [title, description, style, paper, *drawn]) + "\n"


def _without_namespaces(root: Element) -> Element:
    for element in root.iter():
        element.tag = _local(element.tag)
        for key in [key for key in element.attrib if key.startswith("{")]:
            element.set(_local(key), element.attrib.pop(key))
    return root


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _style_as_attributes(element: Element) -> None:
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = declaration.partition(":")
        for attribute, content in _attributes(key.strip(), value.strip()):
            element.set(attribute, "currentColor" if content == INK else content)


def _attributes(key: str, value: str) -> Iterator[tuple[str, str]]:
    """Give a declaration as presentation attributes; the font's family is that of the whole picture."""
    if key == "font" and (font := _FONT.fullmatch(value)):
        yield "font-size", font["size"]
        if "bold" in font["before"]:
            yield "font-weight", "bold"
    elif key not in {"", "font", "font-family"}:
        yield key, value


def _shorten_numbers(element: Element) -> None:
    for key in _NUMBERS & element.attrib.keys():
        element.set(key, " ".join(_DECIMALS.sub(_hundredths, element.attrib[key]).split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


def _hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _rename_ids(root: Element, prefix: str) -> None:
    """Keep the ids that something refers to, under names of this picture."""
    references = " ".join(element.get(key, "") for element in root.iter() for key in _REFERENCES)
    names = {old: f"{prefix}-{number}" for number, old in enumerate(dict.fromkeys(_REFERENCE.findall(references)))}
    for element in root.iter():
        if name := names.get(element.attrib.pop("id", "")):
            element.set("id", name)
        for key in _REFERENCES & element.attrib.keys():
            element.set(key, _REFERENCE.sub(lambda old: f"#{names[old[1]]}", element.attrib[key]))


def _flat(element: Element) -> Iterator[Element]:
    """Give an element without what has no place in a page, and without groups that group nothing."""
    children = [child for part in element for child in _flat(part)]
    if element.tag in _LEFT_OUT:
        return
    if element.tag == "g" and not element.attrib:
        yield from children
    elif children or element.tag not in {"g", "defs"}:
        element[:] = children
        element.tail = None
        element.text = element.text and element.text.strip()
        yield element


def _frame(view_box: str, prefix: str, title: str, description: str) -> Element:
    """Return the picture without its drawing: what assistive technology reads stands first."""
    root = Element("svg", {"viewBox": view_box, "role": "img", "font-family": _FONTS, "stroke-linejoin": "round"})
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for tag, words in (("title", title), ("desc", description)):
        ElementTree.SubElement(root, tag, {"id": f"{prefix}-{tag}"}).text = words
    return root


def _text(root: Element, children: list[Element]) -> str:
    root[:] = [*root, *children]
    root.attrib = {"xmlns": _NAMESPACE, **root.attrib}
    return ElementTree.tostring(root, encoding="unicode")


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
