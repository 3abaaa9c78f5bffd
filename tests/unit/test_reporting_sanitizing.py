"""Sanitizing of hostile text for terminal, plots and page; Markdown and LaTeX are tested with their renderers."""

import re
import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from neftune_cli.formatting import terminal_text
from neftune_cli.reporting.sanitizing import latex_text, markdown_text, printable_text, template_value, visible_text

ANY_TEXT = st.text(alphabet=st.characters(), max_size=200)


@given(ANY_TEXT)
def test_terminal_text_is_one_printable_line(text: str) -> None:
    assert all(character.isprintable() for character in terminal_text(text))


def test_terminal_text_has_no_escape_sequences() -> None:
    assert terminal_text("\x1b[31malpha=5\x1b[0m\n\x07") == "?[31malpha=5?[0m ?"


@given(ANY_TEXT)
def test_printable_text_is_valid_in_xml(text: str) -> None:
    element = ElementTree.Element("text")
    element.text = printable_text(text)

    assert ElementTree.fromstring(ElementTree.tostring(element)).text == (element.text or None)


@given(ANY_TEXT)
def test_visible_text_has_no_control_characters_and_fits_utf8(text: str) -> None:
    visible = visible_text(text)

    assert {c for c in visible if unicodedata.category(c) in ("Cc", "Cs")} <= {"\t", "\n"}
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", visible)
    assert visible.encode().decode() == visible
    assert visible_text(visible) == visible


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\u202e", "\u0085"])
def test_markdown_and_latex_have_no_control_and_direction_characters(character: str) -> None:
    for escape in (markdown_text, latex_text):
        assert character not in escape(f"a{character}b")


def test_visible_text_names_control_and_direction_characters() -> None:
    assert visible_text("a\x00b\r\nc\x7fd\x9be\ud83df\u202eg\u2066h") == "a␀b␍\nc␡d�e�f⌈RLO⌉g⌈LRI⌉h"


@pytest.mark.parametrize(("value", "shown"), [("a\x00", "a␀"), (Markup("<b>\x00</b>"), "<b>\x00</b>"), (3, 3)])
def test_template_values_are_made_visible_unless_they_are_markup(value: object, shown: object) -> None:
    assert template_value(value) == shown
