"""Panels of help pages, compared with the panels of rich."""

import io
import sys
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from neftune_cli.commands.help_page import page_width, panel, paragraph, print_text

WORDS = st.text("abc-|<>,.", min_size=1, max_size=30)
TEXTS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
NAMES = st.lists(st.text("ab-|", min_size=1, max_size=14), min_size=1, max_size=3).map("\n".join)
OPTION = r"(?<!\S)--?[a-z][a-z-]*"
ROWS = [("--seeds N|LIST", "Seeds, with --alphas 0,5 too."), ("-h, --help", "Help."), ("PATH...", "Folders --deep.")]


def of_rich(title: str, rows: Sequence[tuple[str, str]], first: int, width: int, *, colors: bool = False) -> str:
    table = Table.grid(
        Column(width=first, overflow="fold"), Column(ratio=1, overflow="fold"), padding=(0, 2), expand=True
    )
    for name, meaning in rows:
        left, right = Text(name, "yellow"), Text(meaning)
        left.highlight_regex(OPTION, "bold cyan")
        right.highlight_regex(OPTION, "cyan")
        table.add_row(left, right)
    return printed(Panel(table, title=title, title_align="left", border_style="dim"), width, colors=colors)


def printed(what: object, width: int, *, colors: bool = False) -> str:
    text = io.StringIO()
    system: Literal["standard"] | None = "standard" if colors else None
    Console(file=text, width=width, highlight=False, force_terminal=colors, color_system=system).print(what)
    return text.getvalue()


def plain(lines: Sequence[str]) -> str:
    return "".join(f"{Text.from_ansi(line).plain}\n" for line in lines)


@given(rows=st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=4), width=st.integers(36, 100))
def test_a_panel_has_the_text_of_richs(rows: list[tuple[str, str]], width: int) -> None:
    assert plain(list(panel("Run", rows, 14, width))) == of_rich("Run", rows, 14, width)


@given(text=st.lists(TEXTS, min_size=1, max_size=3).map("\n\n".join), width=st.integers(20, 100))
def test_a_paragraph_has_the_text_of_richs(text: str, width: int) -> None:
    assert plain(list(paragraph(text, width))) == printed(Padding(Text(text), (0, 1, 1, 1)), width)


def test_a_panel_has_the_styles_of_richs() -> None:
    ours = [Text.from_ansi(line) for line in panel("Run", ROWS, 14, 60)]
    richs = [Text.from_ansi(line) for line in of_rich("Run", ROWS, 14, 60, colors=True).splitlines()]
    for mine, expected in zip(ours, richs, strict=True):
        for place, character in enumerate(expected.plain):
            if character != " ":
                styles = [one.get_style_at_offset(Console(), place) for one in (mine, expected)]
                assert styles[0] == styles[1], (expected.plain, place)


@pytest.mark.parametrize(
    ("variables", "styled"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True),
        ({"NO_COLOR": "1"}, False),
    ],
)
def test_styles_are_printed_if_the_environment_demands_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], styled: bool
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    print_text(["\x1b[1mbold\x1b[0m"])
    assert ("\x1b" in capsys.readouterr().out) is styled


def test_a_stream_without_unicode_gets_an_ascii_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    print_text(list(panel("Run", [("--a", "A.")], 3, 30)))
    assert written.getvalue().decode("ascii") == (
        "+- Run ----------------------+\n| --a  A.                    |\n+----------------------------+\n"
    )


@pytest.mark.parametrize(("columns", "width"), [("97", 97), ("wide", 80), ("", 80)])
def test_the_width_is_that_of_the_variable_or_the_default(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    def no_terminal(_stream: int) -> None:
        raise OSError

    monkeypatch.setattr("os.get_terminal_size", no_terminal)
    monkeypatch.setenv("COLUMNS", columns)
    assert page_width() == width == Console().width


@pytest.mark.parametrize("width", [10, 24])
def test_a_narrow_terminal_breaks_the_names(width: int) -> None:
    assert "".join(plain(list(panel("Run", [("--alphas LIST", "A.")], 13, width))).split("│")).count("A.") == 1
