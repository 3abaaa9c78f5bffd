"""`neftune visualize`: a picture and its points, the same for the same seed; each mistake told with its fix."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.command_line import Neftune

FEW = ("visualize", "--points", "6", "--length", "30", "--perplexity", "5", "--output", "out")


def test_a_picture_its_points_and_a_table(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune(*FEW)

    assert ended.code == 0
    assert ended.err == "Wrote out/projection.png\nWrote out/points.csv\n"
    assert "months and days" in ended.out
    assert "a nearest neighbour of another group" in ended.out
    with Image.open(tmp_path / "out" / "projection.png") as image:
        assert image.width == 1920
    header, *rows = (tmp_path / "out" / "points.csv").read_text(encoding="utf-8").splitlines()
    assert header == "token,group,before_x,before_y,after_x,after_y,noise_norm,moved"
    assert len(rows) == 7 * 6


def test_the_same_seed_gives_the_same_files(neftune: Neftune, tmp_path: Path) -> None:
    for folder, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        neftune(*FEW[:-1], folder, "--seed", seed)

    pictures = [(tmp_path / name / "projection.png").read_bytes() for name in ("one", "two", "three")]
    points = [(tmp_path / name / "points.csv").read_bytes() for name in ("one", "two", "three")]
    assert pictures[0] == pictures[1] != pictures[2]
    assert points[0] == points[1] != points[2]


def test_json_says_what_was_shown(neftune: Neftune) -> None:
    ended = neftune("visualize", "--points", "6", "--alpha", "0", "--projection", "pca", "--output", "out", "--json")

    summary = json.loads(ended.out)
    assert summary["files"] == ["out/projection.png", "out/points.csv"]
    assert (summary["alpha"], summary["seed"], summary["distribution"]) == (0.0, 0, "uniform")
    assert summary["length"] > 10  # that of the median example of bios
    assert (summary["all"]["tokens"], summary["all"]["noise_norm"], summary["all"]["moved"]) == (42, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--points", "5", "--perplexity", "35"),
            "Error: t-SNE with --perplexity 35 needs more than 35 tokens, and there are 35.\n"
            "  Use --perplexity 11, more --points a group, or --projection pca.\n",
        ),
        (("--perplexity", "0"), "Error: --perplexity is 0.\n  Use 1 or more; 5 to 50 is usual.\n"),
        (
            ("--alpha", "inf"),
            "Error: alpha is inf.\n  Use a finite number, 0 or more; the paper tries 5, 10 and 15.\n",
        ),
        (
            ("--alpha", "1e42", "--projection", "pca"),
            "Error: Some embeddings are no finite numbers.\n"
            "  Use a smaller --alpha; if that doesn't help, the model's weights are damaged.\n",
        ),
        (("--model", "./none"), "Error: There is no model directory './none'.\n"),
        (("--dataset", "none.jsonl"), "Error: "),
        (("--projection", "mds"), "Error: Invalid value for '--projection'"),
        (("--points", "2"), "Error: Invalid value for '--points'"),
        (("--alpha", "nan"), "Error: Invalid value for '--alpha'"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    neftune: Neftune, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = neftune("visualize", *arguments)

    assert ended.err.startswith(message)
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (2, "", [])


def test_problems_of_options_model_and_data_are_told_together(neftune: Neftune) -> None:
    ended = neftune("visualize", "--alpha", "inf", "--model", "./none", "--dataset", "none.jsonl")

    for words in ("alpha is inf", "./none", "none.jsonl"):
        assert words in ended.err
    assert ended.code == 2


def test_a_folder_that_is_a_file_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    ended = neftune(*FEW[:-1], "out/folder")

    assert (ended.code, ended.err) == (
        2,
        "Error: out/folder can't be written: out is no folder you can write to.\n"
        "  Give a folder you can write to with --output.\n",
    )
