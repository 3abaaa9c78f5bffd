"""The plots: same bytes for the same numbers, nothing of the reader's machine in them, and the right lines drawn."""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.metrics import METRICS
from neftune_cli.records import CurvePoint, TrialRecord
from neftune_cli.reporting import plots
from neftune_cli.reporting.plots import LABEL_GAP, plot_eval, plot_loss_curves

Records = list[TrialRecord]

STEPS = [CurvePoint(step=step, epoch=step / 4, train_loss=3 / step) for step in range(1, 9)]
EPOCHS = [CurvePoint(step=4 * epoch, epoch=epoch, eval_loss=2 / epoch, train_loss_clean=1 / epoch) for epoch in (1, 2)]
CURVES = {(arm, seed): [*STEPS, *EPOCHS] for arm in ("alpha=0", "alpha=5") for seed in (0, 1)}


def test_loss_curves_are_the_same_bytes_whatever_the_user_has_set(tmp_path: Path) -> None:
    plot_loss_curves(CURVES, tmp_path / "one.png")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "savefig.dpi": 20}):
        plot_loss_curves(CURVES, tmp_path / "two.png")

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_plots_are_150_dpi_without_a_trace_of_time_or_program(tmp_path: Path, hand_made_records: Records) -> None:
    plot_eval(compare_arms("bios", hand_made_records), tmp_path / "eval.png")

    with Image.open(tmp_path / "eval.png") as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert set(image.info) == {"dpi"}


@pytest.mark.parametrize(("points", "panels"), [(STEPS, 1), (EPOCHS, 2), ([*STEPS, *EPOCHS], 3)])
def test_a_panel_for_each_loss_that_was_logged(tmp_path: Path, points: list[CurvePoint], panels: int) -> None:
    plot_loss_curves({("alpha=0", 0): points}, tmp_path / "loss.png")

    with Image.open(tmp_path / "loss.png") as image:
        assert image.width == pytest.approx(3.4 * 150 * panels)


def test_no_curves_no_plot(tmp_path: Path) -> None:
    plot_loss_curves({("alpha=0", 0): []}, tmp_path / "loss.png")

    assert not list(tmp_path.iterdir())


def test_the_mean_line_covers_the_epochs_that_all_seeds_have() -> None:
    assert plots._mean_line([{1.0: 2.0, 2.0: 1.0, 3.0: 0.5}, {1.0: 4.0, 2.0: 2.0}]) == {1.0: 3.0, 2.0: 1.5}


def test_a_step_and_an_evaluation_at_one_epoch_are_both_kept() -> None:
    points = [CurvePoint(step=4, epoch=1, train_loss=0.7), CurvePoint(step=4, epoch=1, eval_loss=2.0)]

    assert plots._line(points, "train_loss") == {1.0: 0.7}
    assert plots._line(points, "eval_loss") == {1.0: 2.0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=6))
def test_labels_never_overlap_or_change_order(heights: list[float]) -> None:
    moved = plots._moved_apart(sorted(heights))

    assert len(moved) == len(heights)
    assert all(above - below > LABEL_GAP - 1e-9 for below, above in pairwise(moved))
    assert all(height > -1e-9 for height in moved)


def test_scores_show_each_seed_the_means_and_a_base_within_reach(hand_made_records: Records) -> None:
    comparison = compare_arms("bios", hand_made_records)
    axes = Figure().subplots()
    plots._draw_scores(axes, comparison.arms, METRICS["eval_loss"])
    plots._draw_base(axes, 1.53, METRICS["eval_loss"])

    *seeds, base = [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]
    assert seeds == [[1.500, 1.498], [1.510, 1.505], [1.520, 1.518]]
    assert base == [1.53, 1.53]
    (bars,) = axes.collections
    assert isinstance(bars, LineCollection)
    assert [np.asarray(bar)[0, 1] for bar in bars.get_segments()] == pytest.approx([1.510, 1.507])


def test_a_base_far_off_is_told_and_not_drawn(hand_made_records: Records) -> None:
    comparison = compare_arms("bios", hand_made_records)
    axes = Figure().subplots()
    plots._draw_scores(axes, comparison.arms, METRICS["eval_loss"])
    limits = axes.get_ylim()
    plots._draw_base(axes, 4.2, METRICS["eval_loss"])

    assert axes.get_ylim() == limits
    assert [text.get_text() for text in axes.texts] == ["base 4.2000, above"]
