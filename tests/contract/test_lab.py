"""The tour's code prints what the tour says it prints."""

import re
from pathlib import Path

import pytest

LAB = Path(__file__).parents[2] / "docs" / "lab.md"


def fenced(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", LAB.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_wrapper_prints_the_norms_that_stand_there(capsys: pytest.CaptureFixture[str]) -> None:
    exec(fenced("python")[0], {})
    assert capsys.readouterr().out == fenced("text")[0]


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", LAB.read_text(encoding="utf-8"))
    assert len(pictures) == 5
    assert all((LAB.parent / picture).is_file() for picture in pictures)
