"""Layouts of tables on a terminal: names in lines, and the first layout that fits."""

import pytest
from rich.text import Text

from neftune_cli.reporting.terminal_columns import PrintedColumn, broken_name, widest_that_fits


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("alpha=5", ["alpha=5"]),
        ("alpha=15,noise_schedule=cosine", ["alpha=15,", "  noise_schedule=cosine"]),
        ("weight decay without any noise", ["weight decay without a", "  ny noise"]),
        ("a name, with commas, and spaces", ["a name,", "  with commas,", "  and spaces"]),
        ("weight decay without a noise", ["weight decay without a", "  noise"]),
        # each of these characters takes two cells
        ("权重衰减权重衰减权重衰减", ["权重衰减权重衰减权重衰", "  减"]),
    ],
)
def test_names_are_broken_after_commas_and_within_long_parts(name: str, lines: list[str]) -> None:
    assert broken_name(name).split("\n") == lines


def test_names_are_broken_into_shorter_lines() -> None:
    assert broken_name("weight decay", 12).split("\n") == ["weight dec", "  ay"]


@pytest.mark.parametrize(("width", "number"), [(12, 0), (11, 1), (7, 1), (6, 2), (1, 2)])
def test_the_first_layout_that_fits_is_taken_otherwise_the_last(width: int, number: int) -> None:
    """The layouts are 12, 7 and 3 characters wide."""
    wide, narrow = (PrintedColumn("a", ("", "a"), (Text("12345"),)), PrintedColumn("b", ("12", "1234567"), (Text(""),)))
    layouts = [[wide, wide], [narrow], [PrintedColumn("c", ("", "123"), ())]]

    assert widest_that_fits(layouts, width, lambda columns: [columns]) is layouts[number]
