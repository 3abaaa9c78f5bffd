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


@pytest.fixture
def recurrent_model(tmp_path: Path) -> str:
    from tests.tiny_architectures import architecture

    return str(architecture("rwkv").save(tmp_path / "rwkv"))


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


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ("none/x.html", "--html none/x.html: there is no folder 'none'. Create it, or use another path."),
        ("folder", "--html folder: this is a folder. Use the path of a file, for example --html folder/preview.html."),
    ],
)
def test_a_page_that_cannot_be_written_is_reported_with_the_other_problems(
    neftune: Neftune, html: str, message: str
) -> None:
    Path("folder").mkdir()
    result = neftune("preview", "--dataset", "none.jsonl", "--html", html)
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert "none.jsonl" in result.err


def test_a_page_that_the_system_refuses_is_a_usage_error(neftune: Neftune, data: str) -> None:
    result = neftune("preview", "--dataset", data, "--html", "x" * 300)
    assert result.code == 2
    assert "cannot be written" in result.err
    assert "Traceback" not in result.err


def test_a_model_that_a_sweep_refuses_is_refused(neftune: Neftune, data: str, recurrent_model: str) -> None:
    results = [neftune(command, "--dataset", data, "--model", recurrent_model) for command in ("preview", "sweep")]
    assert [result.code for result in results] == [2, 2]
    assert all("it ignores the attention mask" in " ".join(result.err.split()) for result in results)


def test_the_adapters_of_an_experiment_file_are_checked(neftune: Neftune, data: str, tmp_path: Path) -> None:
    from tests.tiny_architectures import architecture

    model = architecture("mamba").save(tmp_path / "mamba")
    Path("mine.yaml").write_text(f"dataset: {data}\nmodel: {model}\ntrain: {{lora_rank: 4}}\n")
    result = neftune("preview", "mine.yaml")
    assert result.code == 2
    assert "cannot be trained with LoRA adapters" in " ".join(result.err.split())
