"""The sensitivity measurement: equivalent alphas, and its text, CSV, JSON and figure."""

import csv
import io
import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image

from neftune_cli.geometry.output import RenderedFigure
from neftune_cli.geometry.sensitivity.effects import Distortion
from neftune_cli.geometry.sensitivity.measurement import (
    LLAMA_2_7B,
    AlphaSensitivity,
    EmbeddingScale,
    Sensitivity,
    equivalent_alphas,
    measure_sensitivity,
)
from neftune_cli.geometry.sensitivity.plot import plot_sensitivity
from neftune_cli.geometry.sensitivity.report import CSV_COLUMNS, closing, summary, to_csv, to_text
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model


def example(*alphas: float) -> Sensitivity:
    def at(alpha: float) -> AlphaSensitivity:
        distortion = Distortion(0.1 * alpha, 1 / (1 + alpha / 100), 30 / alpha if alpha else math.inf)
        return AlphaSensitivity(alpha, distortion, distortion, 0.03 * alpha, 0.05 * alpha, 0.0, 0.01 * alpha)

    return Sensitivity(
        model="model",
        dataset="data",
        noise="uniform",
        seed=0,
        examples=1,
        tokens=300,
        scale=EmbeddingScale(mean_vocabulary_norm=3.0, length=48),
        embedding_norm=3.3,
        neighbour_distance=2.0,
        neighbour_tokens=300,
        turning_alphas=(*map(float, range(50, 150)), math.inf),
        divergence_examples=1,
        divergence_tokens=300,
        alphas=tuple(at(alpha) for alpha in alphas),
        closed_forms=tuple((alpha, at(alpha).measured) for alpha in np.linspace(0, alphas[-1], 7).tolist()),
    )


def test_on_the_papers_model_equivalent_alphas_are_the_papers() -> None:
    assert equivalent_alphas(LLAMA_2_7B) == pytest.approx({5.0: 5.0, 10.0: 10.0, 15.0: 15.0})


def test_equivalent_alphas_by_hand() -> None:
    # Three times the embedding norm and a quarter of the length: alpha times 3 / 2.
    scale = EmbeddingScale(mean_vocabulary_norm=3 * 1.080, length=136 / 4)
    assert equivalent_alphas(scale) == pytest.approx({5.0: 7.5, 10.0: 15.0, 15.0: 22.5})
    assert EmbeddingScale(mean_vocabulary_norm=2.0, length=48).noise_ratio(6.0) == pytest.approx(0.25)


def test_the_length_of_llama_2_is_the_median_of_the_published_histogram() -> None:
    """The histogram of github.com/tloen/alpaca-lora, lengths.ipynb, has ten bins of 124.5 tokens from 60."""
    counts = np.array([42516, 8250, 983, 191, 35, 16, 9, 0, 1, 1])
    edges = np.linspace(60, 1305, 11)
    below = np.concatenate([[0], counts.cumsum()])
    assert counts.sum() == 52_002
    assert LLAMA_2_7B.length == round(np.interp(counts.sum() / 2, below, edges))


def test_the_closing_names_the_equivalent_alphas() -> None:
    assert closing(example(0, 5)) == (
        "The same alpha can be weaker or stronger noise on another model. On LLaMA-2-7B, a model of the paper, the "
        "norm of a token's noise at alpha 5, 10 and 15 is about 23, 46 and 69% of the norm of an embedding. On model "
        "with data it is 14, 28 and 42%. Alpha 8.3, 17 and 25 give model the same percentages as LLaMA-2-7B.\n"
        "The percentages are estimates: the noise norm alpha / sqrt(3 L) in an example of median length L, divided by "
        "the mean embedding norm of the vocabulary. LLaMA-2-7B: L = 136 tokens, mean norm 1.080. model: L = 48 tokens, "
        "mean norm 3.000. Only this mean is published for LLaMA-2-7B, so it is used here instead of the median above."
    )


def test_small_equivalent_alphas_keep_two_digits() -> None:
    # 5 / sqrt(3 x 136) / 1.08 x 0.4 x sqrt(3 x 48) = 1.1002
    short = replace(example(0, 5), scale=EmbeddingScale(mean_vocabulary_norm=0.4, length=48))
    assert "it is 104, 208 and 312%. Alpha 1.1, 2.2 and 3.3 give model the same percentages" in closing(short)


def test_the_text_has_measurements_and_formulas() -> None:
    lines = to_text(example(0, 5)).splitlines()
    assert "    5      0.5000    0.5000   0.95238   0.95238              6.00      6.00" in lines
    assert "    0      0.0000    0.0000   1.00000   1.00000                 ∞         ∞" in lines
    assert "    5            15.0%               25.0%            0.0%   0.0500" in lines
    assert (
        "Measured on 300 tokens of 1 training example, median length 48; the same draw (seed 0) for every alpha."
        in (lines)
    )
    turns = "Up to alpha 50 this happens for none of them, and above alpha 100 for at least half of them."
    assert turns in " ".join(lines)


def test_the_csv_file_has_one_row_per_alpha() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(example(0, 5)))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [float(row["alpha"]) for row in rows] == [0, 5]
    assert [float(row["signal_to_noise"]) for row in rows] == [math.inf, 6.0]


def test_the_summary_is_strict_json() -> None:
    text = json.dumps(summary(example(0, 5)), allow_nan=False)
    assert json.loads(text)["alphas"][0]["signal_to_noise"] is None
    assert json.loads(text)["same_ratio_as_llama_2_7b"][0]["alpha_here"] == pytest.approx(8.251, abs=1e-3)


@cache
def figure(*alphas: float) -> RenderedFigure:
    """Return the figure of some alphas, which takes long to draw."""
    return plot_sensitivity(example(*alphas))


@pytest.mark.parametrize("alphas", [(0.0,), (0.0, 0.5, 3000.0)])
def test_the_figure_has_the_same_size_for_any_alphas(alphas: tuple[float, ...]) -> None:
    assert Image.open(io.BytesIO(figure(*alphas).png)).size == (1485, 840)


def test_the_figure_has_the_same_bytes_for_the_same_measurement() -> None:
    assert plot_sensitivity(example(0.0, 0.5, 3000.0)) == figure(0.0, 0.5, 3000.0)


def test_tokens_without_a_turning_alpha_are_plotted() -> None:
    never = replace(example(0, 5), turning_alphas=(math.inf,) * 101, neighbour_distance=math.inf)
    assert plot_sensitivity(never).png.startswith(b"\x89PNG")
    assert "This happens at no alpha." in " ".join(to_text(never).splitlines())


def test_tiny_is_measured_at_the_given_alphas() -> None:
    model = load_model(find_model("tiny")).model
    measured = measure_sensitivity(
        model,
        [tuple(range(300, 340)), tuple(range(900, 960))],
        [15, 0, 5],
        names=("tiny", "made up"),
        noise="uniform",
        seed=0,
    )
    assert [row.alpha for row in measured.alphas] == [0, 5, 15]
    assert (measured.examples, measured.tokens, measured.scale.length) == (2, 100, 50)
    last = measured.alphas[-1]
    assert last.measured.l2_change == pytest.approx(15 / math.sqrt(3) * math.sqrt((40 / 40 + 60 / 60) / 100), rel=0.01)
    assert last.norm_ratio * measured.embedding_norm == pytest.approx(last.measured.l2_change)
    assert last.neighbour_ratio * measured.neighbour_distance == pytest.approx(last.measured.l2_change)
    assert 0 < measured.alphas[1].divergence < last.divergence
