"""`neftune sensitivity`: printed tables, written files, protected folders, and error messages."""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from neftune_cli.geometry.output import RenderedFigure
from tests.command_line import Neftune, overridden

SHORT = ("sensitivity", "--examples", "4", "--alphas", "15,0,5")
FILES = ["sensitivity.csv", "sensitivity.png", "sensitivity.svg", "options.json"]


@pytest.fixture
def _empty_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write empty figures, because drawing takes most of the time of a short measurement."""
    monkeypatch.setattr("neftune_cli.geometry.sensitivity.command.plot_sensitivity", lambda _: RenderedFigure(b"", b""))


def test_it_prints_tables_and_writes_a_table_and_figures(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune(*SHORT)
    folder = Path("results/sensitivity-tiny-bios-examples=4-alphas=15,0,5")
    assert ended.code == 0
    assert ended.out.startswith("Sensitivity of tiny to uniform noise on bios\n")
    assert ended.err.splitlines()[-4:] == [f"Wrote {folder / name}" for name in FILES]
    assert (folder / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "sensitivity.svg").read_text()
    table = pd.read_csv(folder / "sensitivity.csv")
    assert table["alpha"].tolist() == [0, 5, 15]
    for column in ("l2_change", "cosine", "signal_to_noise"):
        assert table[column].tolist() == pytest.approx(table[f"{column}_closed_form"].tolist(), rel=0.01)


@pytest.mark.usefixtures("_empty_figures")
def test_the_same_command_writes_the_same_files(neftune: Neftune, tmp_path: Path) -> None:
    """Equal figures of equal measurements are tested in `tests/unit/test_geometry_sensitivity.py`."""
    assert neftune(*SHORT, "--output", "one").code == 0
    (tmp_path / "two").mkdir()
    shutil.copy(tmp_path / "one" / "options.json", tmp_path / "two")  # the second folder has results of these options
    assert neftune(*SHORT, "--output", "two").code == 0
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.usefixtures("_empty_figures")
def test_results_of_other_options_are_not_overwritten(neftune: Neftune, tmp_path: Path) -> None:
    neftune(*SHORT, "--output", "out")
    table = (tmp_path / "out" / "sensitivity.csv").read_bytes()
    ended = neftune(*SHORT, "--seed", "1", "--output", "out")
    assert (ended.code, ended.err) == (
        2,
        "Error: out has results of other options (seed).\n  Choose another folder with --output, or delete this one.\n",
    )
    assert (tmp_path / "out" / "sensitivity.csv").read_bytes() == table


@pytest.mark.usefixtures("_empty_figures")
def test_the_last_line_is_a_sweep_of_the_equivalent_alphas(neftune: Neftune) -> None:
    options = ("--max-length", "200", "--noise", "gaussian")
    command = neftune(*SHORT, *options).out.splitlines()[-1].strip()
    alphas = [
        row["alpha_here"] for row in json.loads(neftune(*SHORT, *options, "--json").out)["same_ratio_as_llama_2_7b"]
    ]
    name, *arguments = shlex.split(command)
    assert name == "neftune"
    ended = neftune(*arguments, "--dry-run", "--no-estimate", "--json")
    arms = dict.fromkeys(trial["arm"] for trial in json.loads(ended.out)["trials"])
    assert ended.code == 0
    assert [float(arm.removeprefix("alpha=")) for arm in arms if arm != "base"] == pytest.approx([0, *alphas], rel=0.06)


@pytest.mark.usefixtures("_empty_figures")
def test_columns_are_named_in_the_sweep_too(neftune: Neftune, tmp_path: Path) -> None:
    rows = [f'{{"q": "{number}+1?", "a": "{number + 1}"}}\n' for number in range(20)]
    (tmp_path / "mine.jsonl").write_text("".join(rows))
    columns = ("--columns", "prompt=q,completion=a")
    result = neftune("sensitivity", "--dataset", "mine.jsonl", *columns, "--alphas", "0,5", "--examples", "4")
    assert result.code == 0, result.err
    assert result.out.rstrip().endswith("--dataset mine.jsonl --columns prompt=q,completion=a")


@pytest.mark.usefixtures("_empty_figures")
def test_another_seed_draws_different_noise_of_the_same_magnitude(neftune: Neftune, tmp_path: Path) -> None:
    for seed in ("0", "1"):
        neftune(*SHORT, "--seed", seed, "--output", seed)
    first, second = (pd.read_csv(tmp_path / seed / "sensitivity.csv") for seed in ("0", "1"))
    assert first["l2_change"].tolist() != second["l2_change"].tolist()
    assert first["l2_change"].tolist() == pytest.approx(second["l2_change"].tolist(), rel=0.02)
    assert first["l2_change_closed_form"].tolist() == second["l2_change_closed_form"].tolist()


@pytest.mark.usefixtures("_empty_figures")
def test_json_prints_one_document_on_stdout(neftune: Neftune) -> None:
    summary = json.loads(neftune(*SHORT, "--noise", "gaussian", "--json").out)
    assert [row["alpha"] for row in summary["alphas"]] == [0, 5, 15]
    assert (summary["noise"], summary["examples"]) == ("gaussian", 4)
    assert [Path(file).name for file in summary["files"]] == FILES
    assert summary["sweep_command"].startswith("neftune sweep --alphas 0,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--alphas", "0,nan"),
            "Error: --alphas: alpha must be a finite number, 0 or larger; nan was given.\n"
            "  Use --alphas 0,5,10,15; 0 is no noise.\n",
        ),
        (("--examples", "0"), "Error: --examples is 0.\n  Use 1 or more.\n"),
        (("--max-length", "0"), "Error: --max-length is 0.\n  Use 1 or more.\n"),
        (("--model", "./none"), "Error: There is no model directory './none'.\n"),
        (
            ("--max-length", "2"),
            "Error: All 4 training examples were dropped: the prompt alone fills --max-length 2.\n",
        ),
    ],
)
def test_invalid_input_raises_and_nothing_is_written(
    neftune: Neftune, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = neftune(*overridden(*SHORT, *arguments))
    assert ended.err.startswith(message)
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (2, "", [])


def test_all_problems_are_reported_together(neftune: Neftune) -> None:
    ended = neftune("sensitivity", "--alphas", "x,-1", "--examples", "0", "--model", "./none", "--dataset", "./no.csv")
    for words in ("'x' is not a number", "0 or larger; -1 was given", "--examples is 0", "./none", "./no.csv"):
        assert words in ended.err
    assert ended.code == 2


def test_examples_longer_than_the_context_raise(neftune: Neftune, tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {number}?", "completion": "word " * 900} for number in range(8)]
    (tmp_path / "long.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ended = neftune("sensitivity", "--dataset", "long.jsonl", "--max-length", "800")
    assert ended.err == (
        "Error: The longest example has 800 tokens, but the context of tiny is 512 tokens.\n"
        "  Use --max-length 512 or less.\n"
    )


def test_a_folder_that_is_not_writable_raises(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = neftune(*SHORT, "--output", "file/there")
    assert ended.err == (
        "Error: file/there is not writable: file is not a writable folder.\n  Use --output with a writable folder.\n"
    )
    assert ended.code == 2
