"""`neftune sensitivity`: what it prints and writes, and one clear message for each wrong input."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import Neftune

SHORT = ("sensitivity", "--examples", "4", "--alphas", "15,0,5")


def test_it_prints_tables_and_writes_a_table_and_a_picture(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune(*SHORT)
    folder = tmp_path / "results" / "sensitivity-tiny-bios"
    assert ended.code == 0
    assert ended.out.startswith("Sensitivity of tiny to uniform noise on bios\n")
    assert ended.err.endswith(
        "Wrote results/sensitivity-tiny-bios/sensitivity.csv and results/sensitivity-tiny-bios/sensitivity.png\n"
    )
    assert (folder / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(folder / "sensitivity.csv")
    assert table["alpha"].tolist() == [0, 5, 15]
    for column in ("l2_change", "cosine", "signal_to_noise"):
        assert table[column].tolist() == pytest.approx(table[f"{column}_closed_form"].tolist(), rel=0.01)


def test_the_same_command_gives_the_same_files(neftune: Neftune, tmp_path: Path) -> None:
    for name in ("one", "two"):
        neftune(*SHORT, "--output", name)
    for file in ("sensitivity.csv", "sensitivity.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_another_seed_is_another_draw_of_the_same_size(neftune: Neftune, tmp_path: Path) -> None:
    for seed in ("0", "1"):
        neftune(*SHORT, "--seed", seed, "--output", seed)
    first, second = (pd.read_csv(tmp_path / seed / "sensitivity.csv") for seed in ("0", "1"))
    assert first["l2_change"].tolist() != second["l2_change"].tolist()
    assert first["l2_change"].tolist() == pytest.approx(second["l2_change"].tolist(), rel=0.02)
    assert first["l2_change_closed_form"].tolist() == second["l2_change_closed_form"].tolist()


def test_json_is_all_there_is_on_stdout(neftune: Neftune) -> None:
    summary = json.loads(neftune(*SHORT, "--noise", "gaussian", "--json").out)
    assert [row["alpha"] for row in summary["alphas"]] == [0, 5, 15]
    assert (summary["noise"], summary["examples"]) == ("gaussian", 4)
    assert [Path(file).name for file in summary["files"]] == ["sensitivity.csv", "sensitivity.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--alphas", "0,nan"),
            "Error: --alphas: nan is not a size of noise.\n  An alpha is 0 (no noise) or more, and finite.\n",
        ),
        (("--examples", "0"), "Error: --examples 0 is too few training examples.\n  Ask for 1 or more.\n"),
        (("--max-length", "0"), "Error: --max-length 0 is too few tokens.\n  Ask for 1 or more.\n"),
        (("--model", "./none"), "Error: There is no model directory './none'.\n"),
        (
            ("--max-length", "2"),
            "Error: All 4 training examples were dropped: the prompt alone fills --max-length 2.\n",
        ),
    ],
)
def test_wrong_input_is_explained_and_nothing_written(
    neftune: Neftune, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = neftune(*SHORT, *arguments)
    assert ended.err.startswith(message)
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (2, "", [])


def test_problems_of_several_options_are_told_together(neftune: Neftune) -> None:
    ended = neftune("sensitivity", "--alphas", "x,-1", "--examples", "0", "--model", "./none", "--dataset", "./no.csv")
    for words in ("'x' is not a number", "-1 is not a size", "--examples 0", "./none", "./no.csv"):
        assert words in ended.err
    assert ended.code == 2


def test_examples_longer_than_the_model_reads_are_refused(neftune: Neftune, tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {number}?", "completion": "word " * 900} for number in range(8)]
    (tmp_path / "long.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ended = neftune("sensitivity", "--dataset", "long.jsonl", "--max-length", "800")
    assert ended.err == (
        "Error: The longest example has 800 tokens, but the context of tiny is 512 tokens.\n  Use --max-length 512 or less.\n"
    )


def test_a_folder_that_cannot_be_written_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = neftune(*SHORT, "--output", "file/there")
    assert ended.err == (
        "Error: file/there can't be written: file is no folder you can write to.\n"
        "  Give a folder you can write to with --output.\n"
    )
    assert ended.code == 2
