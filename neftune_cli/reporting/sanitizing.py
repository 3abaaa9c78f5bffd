"""Sanitizing of text of unknown origin for Markdown, LaTeX, plots (SVG) and HTML.

Names of arms and sweeps, prompts, responses and messages can hold markup, control characters and bidirectional
overrides. None of these may change the layout of an output or run there.
`neftune_cli.formatting.terminal_text` does the same for terminals.
"""

import re
import unicodedata
from typing import Any

from markupsafe import Markup

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable_text(text: str) -> str:
    """Return text on one line with printable characters only, as XML needs it. Format characters are removed."""
    return " ".join("".join(_printable(character) for character in text).split())


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else REPLACEMENT


_NUMBER = r"[+\N{MINUS SIGN}][\d.e+\N{MINUS SIGN}]+"
_MARKDOWN = re.compile(
    rf"(?P<interval>\[{_NUMBER}, {_NUMBER}\](?![(\[:]))|(?P<list_number>^\d{{1,9}})(?=[.)](?:\s|$))"
    r"|(?<!\w)_+|_+(?!\w)|[\\\[\]&~$`<>*#]"
)
"""GitHub's markup: emphasis, code, formulas, links, headings, lists, HTML and character references.

Underscores inside a word and the brackets of an interval are not markup, so they stay unescaped.
"""


def markdown_text(text: str) -> str:
    """Return text on one line that GitHub renders literally."""
    return _MARKDOWN.sub(_escape_markdown, printable_text(text))


def _escape_markdown(found: re.Match[str]) -> str:
    if found["list_number"]:
        return f"{found[0]}\\"
    return found[0] if found["interval"] else "".join(f"\\{character}" for character in found[0])


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bracket would start an optional argument
    "*": "{*}",  # after \\ a star would be part of the command
    "`": r"\textasciigrave{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": r"\textendash{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}
_LATEX_SPECIAL = re.compile("|".join(map(re.escape, _LATEX)))


def latex_text(text: str) -> str:
    """Return text on one line that LaTeX prints literally."""
    printable = printable_text(text).replace(REPLACEMENT, "?")  # pdflatex does not know the character
    escaped = _LATEX_SPECIAL.sub(lambda found: _LATEX[found.group()], printable)
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens would become a dash


_BIDIRECTIONAL_CONTROLS = {
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
}
"""Characters that reorder the text after them, with their Unicode abbreviations."""
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), REPLACEMENT),
    **dict.fromkeys(range(0xD800, 0xE000), REPLACEMENT),
    **dict.fromkeys((0xFFFE, 0xFFFF), REPLACEMENT),
    **{code: f"\N{LEFT CEILING}{name}\N{RIGHT CEILING}" for code, name in _BIDIRECTIONAL_CONTROLS.items()},
}


def visible_text(text: str) -> str:
    """Return text whose control characters are visible symbols, without code points that UTF-8 cannot encode.

    Line breaks and tabs stay. The result is not escaped for HTML: the page's templates do that.
    """
    return text.translate(_VISIBLE)


def template_value(value: Any) -> Any:
    """Return the value for a template of the page: strings made visible, markup unchanged."""
    return visible_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
