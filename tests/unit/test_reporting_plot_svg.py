"""SVG for the page: complete, without anything that a strict content security policy rejects."""

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from neftune_cli.reporting.plots.canvas import INK, embeddable, standalone

RAW = f"""<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="20pt" height="10pt" viewBox="0 0 20 10"
 xmlns="http://www.w3.org/2000/svg" version="1.1">
 <metadata><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></metadata>
 <defs><style type="text/css">*{{stroke-linejoin: round}}</style></defs>
 <g id="figure_1"><g id="line2d_1">
  <defs><path id="m1" d="M 0 0
L 0.123456 3.5" style="stroke: {INK}; stroke-width: 0.8"/></defs>
  <g clip-path="url(#p1)"><use xlink:href="#m1" x="7.459893" y="-6.0" style="stroke: {INK}"/></g>
  <g id="text_1"><text style="font: bold 9px 'DejaVu Sans', sans-serif; text-anchor: middle; fill: #0072b2"
   x="1" y="2" transform="rotate(-0 1 2)">a &lt; b &amp; c</text></g>
 </g><g id="empty"></g></g>
 <defs><clipPath id="p1"><rect x="0" y="0" width="3" height="4"/></clipPath></defs>
</svg>
"""


def made(title: str = "t", description: str = "d", name: str = "plot") -> Element:
    return ElementTree.fromstring(embeddable(RAW, name, title, description))


def tag(element: Element) -> str:
    return element.tag.removeprefix("{http://www.w3.org/2000/svg}")


def one(root: Element, name: str) -> Element:
    (found,) = [element for element in root.iter() if tag(element) == name]
    return found


def test_styles_become_attributes() -> None:
    root = made()

    assert not any("style" in element.attrib for element in root.iter())
    assert {tag(element) for element in root.iter()} == {
        "svg", "title", "desc", "defs", "path", "g", "use", "text", "clipPath", "rect",
    }  # fmt: skip
    assert one(root, "use").attrib["stroke"] == "currentColor"
    assert one(root, "path").attrib["stroke-width"] == "0.8"
    text = one(root, "text")
    written = {key: text.attrib[key] for key in ("font-size", "font-weight", "text-anchor", "fill")}
    assert written == {"font-size": "9px", "font-weight": "bold", "text-anchor": "middle", "fill": "#0072b2"}
    assert "font-family" not in text.attrib
    assert text.text == "a < b & c"


def test_numbers_have_at_most_two_decimals() -> None:
    root = made()

    assert one(root, "path").attrib["d"] == "M 0 0 L 0.12 3.5"
    assert (one(root, "use").attrib["x"], one(root, "use").attrib["y"]) == ("7.46", "-6")
    assert "transform" not in one(root, "text").attrib


def test_references_resolve_inside_the_plot() -> None:
    root = made()
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]

    assert len(set(ids)) == len(ids) == 4
    assert all(one_id.startswith("plot-") for one_id in ids)
    assert one(root, "use").attrib["href"] == "#" + one(root, "path").attrib["id"]
    assert one(root, "g").attrib["clip-path"] == f"url(#{one(root, 'clipPath').attrib['id']})"
    assert root.attrib["aria-labelledby"].split() == [one(root, "title").attrib["id"], one(root, "desc").attrib["id"]]


@pytest.mark.parametrize("other", [{"title": "u"}, {"description": "e"}, {"name": "plot2"}])
def test_different_plots_share_no_id(other: dict[str, str]) -> None:
    first, second = ({e.attrib["id"] for e in root.iter() if "id" in e.attrib} for root in (made(), made(**other)))

    assert not first & second


def test_title_and_description_are_escaped() -> None:
    root = made("<script>alert(1)</script>", "\"&<>'")

    assert (one(root, "title").text, one(root, "desc").text) == ("<script>alert(1)</script>", "\"&<>'")
    assert [tag(child) for child in root][:2] == ["title", "desc"]
    assert root.attrib["role"] == "img"
    assert root.attrib["viewBox"] == "0 0 20 10"
    assert not {"width", "height"} & root.attrib.keys()


def test_embedded_svg_has_no_header_and_no_foreign_namespace() -> None:
    text = embeddable(RAW, "plot", "t", "d")

    assert text.startswith("<svg xmlns=")
    assert re.findall(r"\w+://[^\s\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "xlink" not in text
    assert INK not in text


def test_standalone_file_has_size_and_background() -> None:
    inside = embeddable(RAW, "plot", "t", "d")
    text = standalone(inside)
    root = ElementTree.fromstring(text.encode())

    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns=')
    assert (root.attrib["width"], root.attrib["height"]) == ("20", "10")
    assert "prefers-color-scheme:dark" in (one(root, "style").text or "")
    kinds = [tag(child) for child in root]
    assert kinds[:4] == ["title", "desc", "style", "rect"]
    assert kinds[4:] == [tag(child) for child in ElementTree.fromstring(inside)][2:]
    assert [child.attrib.get("fill") for child in root][3] == "#fff"
