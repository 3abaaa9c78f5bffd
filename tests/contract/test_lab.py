"""The code in docs/lab.md prints the output in docs/lab.md, and its images exist."""

import json
import re
from pathlib import Path

import pytest

LAB = Path(__file__).parents[2] / "docs" / "lab.md"


def fenced(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", LAB.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_embedding_example_prints_the_documented_norms(capsys: pytest.CaptureFixture[str]) -> None:
    exec(fenced("python")[0], {})
    assert capsys.readouterr().out == fenced("text")[0]


def test_the_trainer_example_prints_the_documented_measurements(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(fenced("python")[1], {})
    printed = capsys.readouterr().out
    documented = next(block for block in fenced("text") if block.startswith('{\n  "calls"'))
    found, expected = json.loads(printed[printed.index("{\n") :]), json.loads(documented)
    assert found == pytest.approx(expected, rel=1e-5)  # the last digits depend on the processor


def test_images_exist() -> None:
    images = re.findall(r"!\[.+?\]\((.+?)\)", LAB.read_text(encoding="utf-8"))
    assert len(images) == 5
    assert all((LAB.parent / image).is_file() for image in images)
