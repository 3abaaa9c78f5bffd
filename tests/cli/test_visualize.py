"""`neftune visualize`: figures, points and table, protected folders, and error messages."""

import json
from pathlib import Path

import pytest
from PIL import Image

from neftune_cli.geometry.output import RenderedFigure
from tests.command_line import Neftune

FEW = ("visualize", "--points", "6", "--length", "30", "--perplexity", "5", "--output", "out")


@pytest.fixture
def _empty_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write empty figures, because drawing takes most of the time of the command."""
    drawing = "neftune_cli.geometry.projection.command.draw_shift"
    monkeypatch.setattr(drawing, lambda *_, **__: RenderedFigure(b"", b""))


FILES = ["projection.png", "projection.svg", "points.csv", "options.json"]


def test_it_prints_a_table_and_writes_figures_and_points(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune(*FEW)

    assert ended.code == 0
    assert ended.err == "".join(f"Wrote out/{name}\n" for name in FILES)
    assert "months and days" in ended.out
    assert "The group of the nearest neighbor changed for" in ended.out
    with Image.open(tmp_path / "out" / "projection.png") as image:
        assert image.width == 1920
    assert "<svg" in (tmp_path / "out" / "projection.svg").read_text(encoding="utf-8")
    header, *rows = (tmp_path / "out" / "points.csv").read_text(encoding="utf-8").splitlines()
    assert header == "token,group,before_x,before_y,after_x,after_y,noise_norm,moved"
    assert len(rows) == 7 * 6


@pytest.mark.usefixtures("_empty_figures")
def test_the_seed_determines_the_points(neftune: Neftune, tmp_path: Path) -> None:
    """Equal figures of equal points are tested in `tests/unit/test_geometry_projection_plot.py`."""
    for folder, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        neftune(*FEW[:-1], folder, "--seed", seed)

    points = [(tmp_path / name / "points.csv").read_bytes() for name in ("one", "two", "three")]
    assert points[0] == points[1] != points[2]


@pytest.mark.usefixtures("_empty_figures")
def test_other_options_have_another_folder_or_raise(neftune: Neftune, tmp_path: Path) -> None:
    few = FEW[:-2]
    assert neftune(*few).code == neftune(*few, "--alpha", "7").code == 0
    name = "visualize-tiny-bios-length=30-points=6-perplexity=5"
    assert {folder.name for folder in (tmp_path / "results").iterdir()} == {
        name, name.replace("-points", "-alpha=7-points")
    }  # fmt: skip
    ended = neftune(*few, "--alpha", "9", "--output", f"results/{name}")
    assert ended.code == 2
    assert ended.err.startswith(f"Error: results/{name} has results of other options (alpha).\n")


@pytest.mark.usefixtures("_empty_figures")
def test_json_describes_the_noise_and_the_shift(neftune: Neftune) -> None:
    ended = neftune("visualize", "--points", "6", "--alpha", "0", "--projection", "pca", "--output", "out", "--json")

    summary = json.loads(ended.out)
    assert summary["files"] == [f"out/{name}" for name in FILES]
    assert (summary["alpha"], summary["seed"], summary["distribution"]) == (0.0, 0, "uniform")
    assert summary["length"] > 10  # the median length of bios
    assert (summary["all"]["tokens"], summary["all"]["noise_norm"], summary["all"]["moved"]) == (42, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--points", "5", "--perplexity", "35"),
            "Error: t-SNE with --perplexity 35 needs more than 35 tokens, but there are 35.\n"
            "  Use --perplexity 11, more --points per group, or --projection pca.\n",
        ),
        (("--perplexity", "0"), "Error: --perplexity must be 1 or larger; 0 was given.\n  Use 5 to 50.\n"),
        (
            ("--alpha", "inf"),
            "Error: alpha must be a finite number, 0 or larger; inf was given.\n"
            "  Use for example 5. The paper uses 5, 10 and 15.\n",
        ),
        (
            ("--alpha", "1e42", "--projection", "pca"),
            "Error: alpha must be 1000000 or less; 1e+42 was given.\n"
            "  Use for example 5. The paper uses 5, 10 and 15.\n",
        ),
        (("--model", "./none"), "Error: There is no model directory './none'.\n"),
        (("--dataset", "none.jsonl"), "Error: "),
        (
            ("--projection", "mds"),
            "Error: --projection must be tsne, pca or umap; 'mds' was given.\n",
        ),
        (("--points", "2"), "Error: --points must be 5 or larger; 2 was given.\n  Use --points 40.\n"),
        (("--alpha", "nan"), "Error: --alpha must be 0 or larger; nan was given.\n  Use --alpha 5.\n"),
    ],
)
def test_invalid_input_raises_and_nothing_is_written(
    neftune: Neftune, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = neftune("visualize", *arguments)

    assert ended.err.startswith(message)
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (2, "", [])


def test_all_problems_are_reported_together(neftune: Neftune) -> None:
    options = ("--alpha", "inf", "--perplexity", "-1", "--model", "./none", "--dataset", "none.jsonl")

    ended = neftune("visualize", *options)

    for words in ("inf was given", "--perplexity must be 1 or larger; -1 was given", "./none", "none.jsonl"):
        assert words in ended.err
    assert ended.code == 2


def test_a_folder_within_a_file_raises(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    ended = neftune(*FEW[:-1], "out/folder")

    assert (ended.code, ended.err) == (
        2,
        "Error: out/folder is not writable: out is not a writable folder.\n  Use --output with a writable folder.\n",
    )
