"""`neftune preview`: roles of tokens, notes, the page, and messages for bad input."""

import json
from pathlib import Path

import pytest

from tests.command_line import Neftune

ROWS = [
    {"question": f"Where is <b>{number}</b>?", "answer": f"Place {number}.", "kind": "fact"} for number in range(12)
]


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


def test_the_parts_of_an_example_in_json(neftune: Neftune, data: str) -> None:
    shown = json.loads(neftune("preview", "--dataset", data, "--rows", "2", "--alpha", "10", "--json").out)
    first, _ = shown["examples"]
    number = int(first["place"].rpartition(" ")[2]) - 1
    learned = "".join(token["text"] for token in first["tokens"] if token["part"] == "learned")
    assert learned == f" Place {number}.<|end|>"
    assert first["learned"] == sum(token["part"] == "learned" for token in first["tokens"])
    assert first["noise_norm"] == pytest.approx(10 / (3 * first["length"]) ** 0.5)


def test_columns_that_are_not_read_are_named(neftune: Neftune, data: str) -> None:
    assert "'kind'" in neftune("preview", "--dataset", data).out


def test_tokens_that_are_cut_off_are_shown(neftune: Neftune, data: str) -> None:
    shown = neftune("preview", "--dataset", data, "--rows", "1", "--max-length", "20").out
    assert "[cut off]" in shown
    assert "truncated: the completion was cut at --max-length 20" in shown


def test_the_page_escapes_the_text_of_the_data(neftune: Neftune, data: str) -> None:
    neftune("preview", "--dataset", data, "--html", "preview.html")
    page = Path("preview.html").read_text()
    assert "&lt;" in page
    assert "<b>" not in page


def test_all_problems_are_reported_at_once(neftune: Neftune) -> None:
    result = neftune("preview", "--dataset", "none.jsonl", "--model", "./none")
    assert result.code == 2
    assert "none.jsonl" in result.err
    assert "./none" in result.err
