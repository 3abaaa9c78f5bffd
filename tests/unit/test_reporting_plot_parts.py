"""Parts of the plots: short names, label positions, bins, scales and smoothed lines."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from scipy.optimize import minimize

from neftune_cli.reporting.plots.captions import short_name, short_names
from neftune_cli.reporting.plots.histograms import common_bins, outline, rice_bins
from neftune_cli.reporting.plots.learning_curves import MOST_POINTS, WINDOWS, loss_curve, smoothed
from neftune_cli.reporting.plots.metric_by_arm import are_far_apart, arm_axis
from neftune_cli.reporting.plots.styles import is_wide, limits, plain, spread_labels
from tests.comparisons import summary


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("alpha=5", "alpha=5"),
        ("alpha=5,noise=gaussian", "alpha…ssian"),
        ("a\nb\tc", "a b c"),
        ("nul\x00\ud800\ufffe", "nul\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("\u202egnorw", "gnorw"),
        ("权重衰减权重衰减", "权重衰…衰减"),
        ("<b>&$x$", "<b>&$x$"),
        ("lr=0.00012345,seed", "lr=…,seed"),
        ("12345678901234", "12345…01234"),
    ],
)
def test_short_name_is_sanitized_and_cut(name: str, short: str) -> None:
    assert short_name(name, 11) == short


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.integers(3, 30))
def test_short_name_fits_and_is_printable(name: str, most: int) -> None:
    short = short_name(name, most)

    assert cell_len(short) <= most
    assert all(character.isprintable() for character in short)


def test_names_are_cut_where_they_are_equal() -> None:
    tails = short_names([f"alpha=5,noise=gaussian,noise_schedule={kind}" for kind in ("linear", "cosine")], 14)
    heads = short_names([f"alpha={alpha},noise=gaussian" for alpha in (10, 15)], 12)

    assert list(tails.values()) == ["alpha=5…linear", "alpha=5…cosine"]
    assert list(heads.values()) == ["alpha=10,no…", "alpha=15,no…"]


def test_numbers_in_names_are_not_cut() -> None:
    names = [f"alpha={alpha},noise={noise}" for noise in ("uniform", "gaussian") for alpha in (5, 10)]

    assert list(short_names(["alpha=0", *names], 14).values()) == [
        "alpha=0",
        "alpha=5,…iform",
        "alpha=10…iform",
        "alpha=5,…ssian",
        "alpha=10…ssian",
    ]


@pytest.mark.parametrize(
    ("names", "most", "short"),
    [
        # equal in their first and in their last seven characters
        (["alpha=5,noise=gaussian", "alpha=10,noise=gaussian", "alpha=15,noise=gaussian"], 8, ["…5…", "…10…", "…15…"]),
        (["lr=1e-4,alpha=5,seed", "lr=1e-4,alpha=7.5,seed"], 7, ["…5…", "…7.5…"]),
        (["a" * 30 + "x" + "b" * 30, "a" * 30 + "y" + "b" * 30], 8, ["aaa…bb 1", "aaa…bb 2"]),
        (["a\nb", "a b"], 3, ["1", "2"]),
    ],
)
def test_names_that_no_cut_distinguishes_lose_their_common_ends(names: list[str], most: int, short: list[str]) -> None:
    assert list(short_names(names, most).values()) == short


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("a=1,b \u202e"), max_size=12), unique=True, max_size=30), st.integers(3, 14))
def test_short_names_are_unique_and_fit(names: list[str], most: int) -> None:
    short = short_names(names, most)

    assert list(short) == names
    assert len(set(short.values())) == len(names)
    assert all(cell_len(name) <= most for name in short.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=7))
def test_labels_keep_order_distance_and_panel(heights: list[float]) -> None:
    moved = spread_labels(sorted(heights), 11.0, 200.0)

    assert all(above - below > 11 - 1e-9 for below, above in pairwise(moved))
    assert min(moved) >= 0
    assert max(moved) <= 200 + 1e-9


def test_label_moves_are_minimal() -> None:
    heights = [50.0, 52.0, 53.0, 90.0, 91.0]
    found = minimize(
        lambda moved: float(np.square(moved - heights).sum()),
        np.array(heights) + 11 * np.arange(5),
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda moved: np.diff(moved) - 11}],
    )

    assert spread_labels(heights, 11.0, 200.0) == pytest.approx(found.x, abs=1e-3)


def test_too_many_labels_start_at_the_bottom() -> None:
    assert spread_labels([1.0, 1.0, 1.0], 11.0, 15.0) == [0.0, 11.0, 22.0]


def test_long_lines_are_averaged_over_windows() -> None:
    steps = {step / 50: float(step) for step in range(1, 101)}  # two epochs, five steps per window

    assert smoothed(dict(list(steps.items())[:MOST_POINTS]), 2.0) == dict(list(steps.items())[:MOST_POINTS])
    means = smoothed(steps, 2.0)
    assert len(means) == WINDOWS
    assert means[0.05] == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)
    assert max(means) == pytest.approx(1.95)
    assert means[max(means)] == pytest.approx((96 + 97 + 98 + 99 + 100) / 5)


def test_loss_curve_is_mean_and_range_at_shared_epochs() -> None:
    found = loss_curve([{1.0: 2.0, 2.0: 1.0, 3.0: 0.5}, {1.0: 4.0, 2.0: 2.0}], end=3.0)

    assert found is not None
    assert found.epochs.tolist() == [1.0, 2.0]
    assert (found.mean.tolist(), found.low.tolist(), found.high.tolist()) == ([3.0, 1.5], [2.0, 1.0], [4.0, 2.0])
    assert (found.seeds, found.logged, found.end) == (2, 3, 3.0)
    assert loss_curve([], end=0.0) is None
    assert loss_curve([{1.0: 1.0}, {2.0: 1.0}], end=2.0) is None


def test_seeds_that_log_at_different_steps_share_windows() -> None:
    """One seed logs each of 120 steps, another every tenth. 40 steps are an epoch, so a window has 6 steps."""
    dense = {step / 40: float(step) for step in range(1, 121)}
    sparse = {step / 40: float(step) for step in range(10, 121, 10)}
    found = loss_curve([dense, sparse], end=3.0)

    assert found is not None
    # steps 10, 20, 30, 40, ... are in windows 1, 3, 4, 6, ... of 20
    assert found.epochs[:4].tolist() == pytest.approx([0.225, 0.525, 0.675, 0.975])
    assert found.low[:2].tolist() == [(7 + 8 + 9 + 10 + 11 + 12) / 6, (19 + 20 + 21 + 22 + 23 + 24) / 6 - 1.5]
    assert not found.is_complete


def test_outliers_count_in_the_outermost_bins() -> None:
    values = np.array([*np.linspace(0, 10, 999), 1e6])
    bins = common_bins([values], 20)
    shares = bins.shares(np.array([-5.0, 0.1, 1e9, 1e9]))

    assert not bins.logarithmic
    assert bins.edges[0] == 0
    assert bins.edges[-1] < 11
    assert shares.sum() == pytest.approx(100)
    assert (shares[0], shares[-1]) == (50.0, 50.0)


def test_bins_over_three_decades_are_logarithmic() -> None:
    bins = common_bins([np.geomspace(0.001, 1, 500)], 12)
    ratios = bins.edges[1:] / bins.edges[:-1]

    assert bins.logarithmic
    assert len(ratios) == 12
    assert ratios == pytest.approx(ratios[0])


@pytest.mark.parametrize("lengths", [[45.0] * 7, [0.0], [3.0, 4.0, 5.0, 6.0], list(range(20, 400))])
def test_bins_of_lengths_hold_equal_numbers_of_integers(lengths: list[float]) -> None:
    bins = common_bins([np.array(lengths)], 60, whole=True)
    widths = np.diff(bins.edges)

    assert widths == pytest.approx(round(float(widths[0])))
    assert bins.edges[0] == round(float(bins.edges[0]))
    assert bins.shares(np.array(lengths)).sum() == pytest.approx(100)


def test_number_of_bins_grows_with_examples() -> None:
    assert [rice_bins(examples) for examples in (1, 216, 1000, 10**6)] == [12, 12, 20, 40]


def test_outline_has_two_corners_per_bin() -> None:
    xs, ys = outline(np.array([0.0, 1.0, 3.0]), np.array([5.0, 7.0]))

    assert list(zip(xs.tolist(), ys.tolist(), strict=True)) == [(0, 5), (1, 5), (1, 7), (3, 7)]


def test_limits_include_all_finite_values() -> None:
    assert limits([1.0, 3.0, math.inf, math.nan], logarithmic=False, room=0.1) == pytest.approx((0.8, 3.2))
    assert limits([0.1, 10.0, -1.0], logarithmic=True, room=0.5) == pytest.approx((0.01, 100.0))
    low, high = limits([0.0], logarithmic=False)
    assert low < 0 < high


def test_logarithmic_axis_needs_positive_values_of_wide_range() -> None:
    assert is_wide([0.01, 1.0])
    assert not is_wide([0.0, 1.0])
    assert not is_wide([1.0, 2.0, math.inf])
    assert not is_wide([])
    assert plain(-0.5) == "\N{MINUS SIGN}0.5"


@pytest.mark.parametrize(
    ("alphas", "title"),
    [((0, 5, 10, 15), "alpha"), ((0, 5, 5), ""), ((0, None), ""), ((0, 0.1, 100), ""), ((5,), "")],
)
def test_arms_are_placed_by_alpha_where_alphas_are_distinct(alphas: tuple[float | None, ...], title: str) -> None:
    names = [f"alpha={alpha}" if alphas.count(alpha) == 1 else f"arm {place}" for place, alpha in enumerate(alphas)]
    arms = [summary(name, alpha, {}) for name, alpha in zip(names, alphas, strict=True)]
    axis = arm_axis(arms, 600.0)

    assert axis.title == title
    assert axis.places == (alphas if title else tuple(range(len(alphas))))
    assert axis.names == (tuple(map(str, alphas)) if title else tuple(arm.name for arm in arms))


@pytest.mark.parametrize("name", ["my recipe", "alpha=10,noise=gaussian"])
def test_arms_that_differ_in_more_than_alpha_are_placed_by_name(name: str) -> None:
    arms = [summary("alpha=0", 0.0, {}), summary("alpha=5", 5.0, {}), summary(name, 10.0, {})]
    axis = arm_axis(arms, 600.0)

    assert (axis.title, axis.places, axis.names) == ("", (0.0, 1.0, 2.0), ("alpha=0", "alpha=5", name))


def test_long_names_of_many_arms_are_rotated() -> None:
    arms = [summary(f"a long name of an arm {place}", None, {}) for place in range(8)]

    assert not arm_axis(arms[:2], 600.0).tilted
    assert arm_axis(arms, 600.0).tilted
    assert arm_axis(arms, 600.0).height > arm_axis(arms[:2], 600.0).height
    assert not are_far_apart([])
