"""Plots of a comparison: values read back from the SVG equal the measured values."""

import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import ArrayLike

from neftune_cli.analysis.results import ArmSummary, Interval
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import ItemValues, Measurements
from neftune_cli.records import CurvePoint
from neftune_cli.reporting.plots import all_plots, standalone
from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.plots.captions import arms_left_out
from neftune_cli.reporting.plots.histograms import loss_histograms, response_lengths
from neftune_cli.reporting.plots.learning_curves import learning_curves
from neftune_cli.reporting.plots.metric_by_arm import metric_by_arm
from neftune_cli.reporting.plots.paired_differences import paired_differences
from neftune_cli.reporting.plots.styles import MOST_ARMS, arm_styles, drawn_arms, styles_in_order
from tests.comparisons import assessment, comparison, estimate, hand_made, summary

NAMES = ["metric-by-arm", "paired-differences", "learning-curves", "loss-histograms", "response-lengths"]
MOST_BYTES = 150_000
FEWEST_BINS = 12
MARGIN, BETWEEN = 50.0, 190.0
"""Right end of the labels of vertical axes, and a height between the two panels of the paired plot, in points."""
HOSTILE = (
    ("<script>alert(1)</script>", "$\\frac{", "a & b", "nul\x00", "\ud800"),
    ("😀" * 30, "x" * 200, "a\nb", "]]>", "_x"),
)
STEPS = tuple(CurvePoint(step=step, epoch=step / 20, train_loss=3 / step) for step in range(1, 61))
EPOCHS = tuple(CurvePoint(step=20 * e, epoch=e, eval_loss=2 / e, train_loss_clean=1 / e) for e in (1, 2, 3))


def test_plots_are_deterministic_under_user_settings() -> None:
    trials = trials_of({"alpha=0": 3, "alpha=5": 3})
    first = all_plots(hand_made(), trials)
    with mpl.rc_context({"axes.labelpad": 40, "font.size": 30, "svg.fonttype": "path", "xtick.top": True}):
        second = all_plots(hand_made(), trials)

    assert list(first) == NAMES
    assert first == second
    assert all(plot.name == name and plot.title and plot.caption and plot.alt for name, plot in first.items())


def test_importing_plots_does_not_import_matplotlib() -> None:
    code = "import sys, neftune_cli.reporting.plots; sys.exit('matplotlib' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("names", HOSTILE)
def test_hostile_arm_names_give_valid_svg(names: tuple[str, ...]) -> None:
    losses = [1.0, 1.1, 1.2]
    arms = [arm("alpha=0", 0.0, losses), *(arm(name, 5.0, losses, losses) for name in names)]
    drawn = all_plots(comparison(*arms), trials_of(dict.fromkeys(("alpha=0", *names), 3)))

    assert list(drawn) == NAMES
    for plot in drawn.values():
        alone = ElementTree.fromstring(standalone(plot.svg).encode())
        assert not {"script", "image", "a", "foreignObject"} & {tag(element) for element in alone.iter()}
    assert names is HOSTILE[1] or {"$\\frac{", "a & b"} <= set(texts(drawn["response-lengths"]))


def test_hostile_metric_name_gives_valid_svg() -> None:
    metric = replace(hand_made().metrics["eval_loss"], name="<b>$x$ & \x00\ud800")
    drawn = all_plots(replace(hand_made(), metrics={"eval_loss": metric}), [])

    assert list(drawn) == ["metric-by-arm", "paired-differences"]
    for plot in drawn.values():
        assert "<b>$x$ & \N{REPLACEMENT CHARACTER}" in (parsed(plot.svg)[0].text or "")


def test_plots_share_a_page_without_id_conflicts() -> None:
    trials = trials_of({"alpha=0": 3, "alpha=5": 3})
    comparisons = (hand_made(), replace(hand_made(), primary="exact_match"))
    different = {plot.svg for one in comparisons for plot in all_plots(one, trials).values()}
    ids = [one.attrib["id"] for svg in different for one in parsed(svg).iter() if "id" in one.attrib]

    assert len(different) == len(NAMES) + 2
    assert len(ids) == len(set(ids))
    for svg in different:
        targets = {one.attrib["id"] for one in parsed(svg).iter() if "id" in one.attrib}
        pointers = {value for one in parsed(svg).iter() for key, value in one.attrib.items() if key == "href"}
        assert {pointer.removeprefix("#") for pointer in pointers} <= targets
        assert "style" not in svg
        assert "currentColor" in svg


def test_plots_of_thousands_of_trials_are_small() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, (4, 500)).tolist()
    arms = [
        arm(f"alpha={5 * place}", 5.0 * place, one, values[0] if place else None) for place, one in enumerate(values)
    ]
    drawn = all_plots(comparison(*arms), trials_of({one.name: 500 for one in arms}))

    assert list(drawn) == NAMES
    assert max(len(plot.svg.encode()) for plot in drawn.values()) < MOST_BYTES
    assert "Only the first 20 of 500 seeds are shown" in drawn["metric-by-arm"].caption


def test_only_the_best_of_many_arms_are_drawn() -> None:
    arms = [arm(f"alpha={n}", float(n), [2.0 - n / 50] * 3, [2.0] * 3 if n else None) for n in range(30)]
    compared = comparison(*arms)
    drawn = all_plots(compared, trials_of({one.name: 3 for one in arms}))

    assert [one.name for one in drawn_arms(compared)] == ["alpha=0", *(f"alpha={n}" for n in range(24, 30))]
    sentence = "Of 30 arms, only the baseline and the 6 with the best held-out loss are shown."
    for name in ("paired-differences", "learning-curves"):
        assert sentence in drawn[name].caption
    for name in ("metric-by-arm", "loss-histograms", "response-lengths"):
        assert "the 19 with the best" in drawn[name].caption
    assert max(len(plot.svg.encode()) for plot in drawn.values()) < MOST_BYTES


def test_best_arm_is_highest_for_a_metric_to_maximize() -> None:
    scores = {"alpha=0": 0.1, "alpha=5": 0.9, "alpha=10": 0.5}
    arms = [summary(name, float(name[6:]), {"exact_match": estimate([score] * 3)}) for name, score in scores.items()]
    compared = replace(comparison(*arms), primary="exact_match")

    assert [one.name for one in drawn_arms(compared, 2)] == ["alpha=0", "alpha=5"]


def test_lowest_arms_are_drawn_without_a_preferred_direction() -> None:
    values = {f"alpha={n}": estimate([100.0 - n] * 3) for n in range(9)}
    arms = [summary(name, None, {"response_chars": one}) for name, one in values.items()]
    compared = replace(comparison(*arms), primary="response_chars")

    sentence = "Of 9 arms, only the baseline and the 2 with the lowest response length are shown."
    assert arms_left_out(compared, 3) == sentence
    assert [one.name for one in drawn_arms(compared, 3)] == ["alpha=0", "alpha=7", "alpha=8"]


def test_captions_use_the_metric_name() -> None:
    values = estimate([0.4, 0.5])
    arms = [summary(f"alpha={n}", float(n), {"rouge_l": values}) for n in range(9)]
    compared = replace(comparison(*arms), primary="rouge_l")

    assert "with the best ROUGE-L are shown" in arms_left_out(compared, 3)
    assert found(metric_by_arm(compared)).alt.startswith("Mean ROUGE-L over seeds: ")


def test_arm_styles_are_distinct() -> None:
    arms = [f"arm {n}" for n in range(MOST_ARMS)]
    styles = styles_in_order(arms)

    assert len({one.color for one in styles.values()}) == MOST_ARMS
    assert len({one.dashes for one in styles.values()}) == MOST_ARMS
    assert len({one.marker for one in styles.values()}) == MOST_ARMS
    assert arm_styles(comparison(*(arm(name, None, [1.0]) for name in arms))) == styles


def test_positions_of_seeds_and_means() -> None:
    plot = found(metric_by_arm(hand_made()))
    level = axis_of(plot)
    seeds = [level(height(mark)) for mark in marks(plot) if mark.get("fill-opacity") == "0.5"]
    means = [level(height(mark)) for mark in marks(plot) if "fill-opacity" not in mark.attrib]

    ticks = {one.text: float(one.attrib["x"]) for one in all_of(plot, "text") if one.text in {"0", "5"}}
    positions = [mark.attrib["x"] for mark in marks(plot) if "fill-opacity" not in mark.attrib]
    assert [float(x) - ticks[alpha] for alpha, x in zip("05", positions, strict=True)] == pytest.approx([9, 9], abs=0.1)
    assert sorted(seeds) == pytest.approx([1.498, 1.500, 1.505, 1.510, 1.518, 1.520], abs=2e-4)
    assert sorted(means) == pytest.approx([1.507, 1.510], abs=2e-4)


def test_bar_is_the_interval_shifted_by_the_baseline_mean() -> None:
    plot = found(metric_by_arm(hand_made()))
    level = axis_of(plot)
    (bar,) = [ends(line) for line in lines(plot) if line.attrib.get("stroke") == "#0072b2"]

    estimates = hand_made().arms[1].estimates["eval_loss"]
    assert estimates is not None
    assert estimates.assessment is not None
    assert estimates.assessment.verdict == "equivalent"
    interval = estimates.assessment.equivalence_interval
    drawn = sorted(level(y) for _, y in bar)
    assert drawn == pytest.approx([1.51 + interval.low, 1.51 + interval.high], abs=2e-4)


def widened(arm: ArmSummary) -> ArmSummary:
    """Return an arm whose simultaneous interval of the loss is 1.5 times as wide as the unadjusted one."""
    estimate = arm.estimates["eval_loss"]
    assert estimate is not None
    assert estimate.assessment is not None
    one = estimate.assessment.paired
    half = 0.75 * (one.ci_high - one.ci_low)
    interval = Interval(one.difference - half, one.difference + half)
    wide = replace(estimate, assessment=replace(estimate.assessment, interval=interval))
    return replace(arm, estimates={**arm.estimates, "eval_loss": wide})


def test_bar_is_the_simultaneous_interval_of_an_open_arm() -> None:
    compared = comparison(
        arm("alpha=0", 0.0, [1.5, 1.51, 1.52]), widened(arm("alpha=5", 5.0, [1.51, 1.52, 1.53], [1.5, 1.51, 1.52]))
    )
    plot = found(metric_by_arm(compared))
    (bar,) = [ends(line) for line in lines(plot) if line.attrib.get("stroke") == "#0072b2"]

    # The half-width of the unadjusted interval is 0.02 around 0.01.
    assert sorted(axis_of(plot)(y) for _, y in bar) == pytest.approx([1.51 - 0.02, 1.51 + 0.04], abs=2e-4)


def test_axis_of_a_loss_does_not_begin_below_zero() -> None:
    losses, baseline = [0.010, 0.020, 0.030], [0.012, 0.018, 0.030]
    compared = comparison(arm("alpha=0", 0.0, baseline), arm("alpha=5", 5.0, losses, baseline))
    points = (CurvePoint(step=1, epoch=1, eval_loss=0.001), CurvePoint(step=2, epoch=2, eval_loss=0.02))
    curves = found(learning_curves([replace(trial("alpha=0", 0), curve=points)], compared))

    for plot in (found(metric_by_arm(compared)), curves):
        labels = [number(one) for one in all_of(plot, "text") if re.fullmatch("[\N{MINUS SIGN}\\d.]+", one.text or "")]
        assert min(labels) >= 0
    # The interval of the difference, -0.02 to +0.04, is around the mean 0.02 of the baseline.
    assert "a bar whose interval extends below 0 ends in an arrow" not in found(metric_by_arm(compared)).caption
    lower = comparison(arm("alpha=0", 0.0, [0.01] * 3), widened(arm("alpha=5", 5.0, losses, [0.01] * 3)))
    assert "a bar whose interval extends below 0 ends in an arrow" in found(metric_by_arm(lower)).caption


def test_axis_of_a_metric_with_negative_values_is_not_cut() -> None:
    values = [-0.02, -0.01, 0.0]
    compared = comparison(arm("alpha=0", 0.0, values), arm("alpha=5", 5.0, values, values))

    assert "arrow" not in found(metric_by_arm(compared)).caption
    labels = [one.text or "" for one in all_of(found(metric_by_arm(compared)), "text")]
    assert any(label.startswith("\N{MINUS SIGN}") for label in labels)


def test_captions_state_confidence_and_margin_band() -> None:
    sure = replace(hand_made(), confidence=0.999)
    plain = comparison(arm("alpha=0", 0.0, [1.0, 1.1]), summary("5", 5.0, {"eval_loss": estimate([1.2], [1.0])}))

    assert "A bar is the 99.9% interval" in found(metric_by_arm(sure)).caption
    caption = found(paired_differences(sure)).caption
    assert "mean with its 99.9% interval. The interval of an equivalent arm is the 99.8% interval" in caption
    assert "The gray band is the equivalence margin." in caption
    assert "the larger mark is the mean. Seeds that" in found(paired_differences(plain)).caption


def test_distant_base_is_a_number_and_near_base_is_drawn() -> None:
    near = replace(hand_made(), base_scores={"eval_loss": 1.53})

    assert "base 4.2000 (above the axis)" in texts(found(metric_by_arm(hand_made())))
    assert "base" in texts(found(metric_by_arm(near)))
    level = axis_of(found(metric_by_arm(near)))
    levels = [ends(line) for line in lines(found(metric_by_arm(near))) if "stroke-dasharray" in line.attrib]
    assert [level(y) for (_, y), _ in levels] == pytest.approx([1.53], abs=2e-4)


def test_diverged_arm_is_named_in_the_caption() -> None:
    compared = comparison(arm("alpha=0", 0.0, [1.0, 1.1]), arm("alpha=40", 40.0, [1.0, math.nan], [1.0, 1.1]))

    assert "Not shown because a value is not finite: alpha=40." in found(metric_by_arm(compared)).caption
    assert paired_differences(compared) is None


def test_positions_of_slopes_and_differences() -> None:
    plot = found(paired_differences(hand_made()))
    difference = axis_of(plot, top=BETWEEN)
    dots = [difference(height(mark)) for mark in marks(plot) if mark.get("fill-opacity") == "0.5"]
    level = axis_of(plot, foot=BETWEEN)
    slopes = [[level(y) for _, y in ends(line)] for line in lines(plot) if line.get("stroke-opacity") == "0.5"]

    assert sorted(dots) == pytest.approx([-0.005, -0.002, -0.002], abs=2e-4)
    assert sorted(slopes) == [pytest.approx(ys, abs=2e-4) for ys in ([1.5, 1.498], [1.51, 1.505], [1.52, 1.518])]
    assert {"\N{MINUS SIGN}0.0030", "equivalent"} <= set(texts(plot))
    assert "alpha=5 \N{MINUS SIGN}0.0030 [" in plot.alt


def test_paired_plot_needs_a_shared_seed_and_names_omissions() -> None:
    ragged = comparison(arm("alpha=0", 0.0, [1.0, 1.1]), arm("alpha=5", 5.0, [1.2], [1.0, 1.1]))

    assert paired_differences(comparison(arm("alpha=0", 0.0, [1.0]), arm("alpha=5", 5.0, [1.0]))) is None
    assert "Seeds that only one of the two arms has are left out." in found(paired_differences(ragged)).caption
    caption = found(metric_by_arm(ragged)).caption
    assert "A bar is the unadjusted 95% interval" in caption
    assert "bars apply to these trained models only" in caption


def test_learning_curves_have_a_panel_per_logged_loss() -> None:
    trials = [replace(trial("alpha=0", 0), curve=STEPS), replace(trial("alpha=5", 0), curve=STEPS)]
    both = [replace(one, curve=(*STEPS, *EPOCHS)) for one in trials]

    assert panels_of(found(learning_curves(trials, hand_made()))) == ["Noisy training loss"]
    plot = found(learning_curves(both, hand_made()))
    assert panels_of(plot) == ["Noisy training loss", "Noise-off training loss", "Held-out loss"]
    assert texts(plot).count("alpha=5") == 3
    assert "completion token. Losses logged at more than 50 steps are averaged over 20 equal windows" in plot.caption
    assert "Held-out loss ends at 0.6667 (alpha=0), 0.6667 (alpha=5)." in plot.alt
    assert learning_curves([trial("alpha=0", 0)], hand_made()) is None


def test_not_finite_losses_are_left_out_of_curves() -> None:
    points = (*EPOCHS, CurvePoint(step=80, epoch=4, eval_loss=math.inf, train_loss_clean=math.nan))
    trials = [replace(trial("a", 0), curve=points)]

    assert "ends at 0.6667" in found(learning_curves(trials, comparison(arm("a", None, [1.0])))).alt


@pytest.mark.parametrize("lost", [math.nan, math.inf, None])
def test_a_diverged_seed_is_named_beside_the_curves(lost: float | None) -> None:
    diverged = (EPOCHS[0], *(one.model_copy(update={"eval_loss": lost}) for one in EPOCHS[1:]))
    never = tuple(one.model_copy(update={"eval_loss": lost}) for one in EPOCHS)
    curves = {"alpha=0": (EPOCHS, EPOCHS), "alpha=5": (EPOCHS, diverged), "alpha=10": (EPOCHS, never)}
    trials = [replace(trial(name, 1), curve=one) for name, seeds in curves.items() for one in seeds]
    arms = [arm(name, float(name[6:]), [1.0, 1.0]) for name in curves]
    plot = found(learning_curves(trials, comparison(*arms)))

    assert "Held-out loss ends at 0.6667 (alpha=0), 2 at epoch 1 (alpha=5), 0.6667 (alpha=10)." in plot.alt
    assert plot.caption.endswith("whose loss is not logged or not finite are left out: alpha=5 and alpha=10.")
    assert "left out" not in found(learning_curves(trials[:2], comparison(*arms))).caption


def test_an_arm_without_a_finite_loss_is_named_beside_the_curves() -> None:
    lost = tuple(one.model_copy(update={"eval_loss": math.inf}) for one in EPOCHS)
    trials = [replace(trial("alpha=0", 0), curve=EPOCHS), replace(trial("alpha=5", 0), curve=lost)]
    plot = found(learning_curves(trials, hand_made()))

    assert "Held-out loss ends at 0.6667 (alpha=0)." in plot.alt
    assert plot.caption.endswith("are left out: alpha=5.")


def test_losses_that_are_not_finite_are_named_beside_histograms() -> None:
    trials = trials_of({"alpha=0": 2, "alpha=5": 2})
    lost = {**trials[3].items, "eval_loss": item_values([0.5, math.nan, math.inf])}
    plot = found(loss_histograms([*trials[:3], replace(trials[3], items=lost)], hand_made()))

    assert "Losses that are not finite are left out: alpha=5." in plot.caption
    assert "not finite" not in found(loss_histograms(trials, hand_made())).caption


def test_loss_histograms_have_a_row_for_every_arm() -> None:
    arms = [arm(f"alpha={n}", float(n), [2.0 - n / 50] * 3) for n in range(9)]
    trials = trials_of({one.name: 3 for one in arms})
    plot = found(loss_histograms(trials, comparison(*arms)))

    assert len(arms) > MOST_ARMS
    assert all(texts(plot).count(one.name) == 1 for one in arms)
    assert texts(plot).count("median") == 2
    # Every trial has held-out losses 0.1, 0.2, ..., 4.0, and half of them on training examples.
    assert texts(plot).count("2.05") == texts(plot).count("1.02") == 9
    assert "Held-out examples, median loss: alpha=0 2.05, alpha=1 2.05" in plot.alt
    assert "repeats the histogram of alpha=0" in plot.caption
    assert loss_histograms([replace(one, items={}) for one in trials], comparison(*arms)) is None


def test_area_of_a_histogram_is_the_number_of_values() -> None:
    plot = found(loss_histograms(trials_of({"alpha=0": 3}), comparison(arm("alpha=0", 0.0, [1.0, 1.0, 1.0]))))
    steps = [ends(line) for line in lines(plot) if len(ends(line)) > 4]
    (foot,) = {y for line in lines(plot) if line.get("stroke-opacity") == "0.26" for _, y in ends(line)}

    assert len(steps) == 2
    for one in steps:
        bin_width, tallest = (one[-1][0] - one[0][0]) / FEWEST_BINS, foot - min(y for _, y in one)
        area = sum((x2 - x1) * (foot - y) for (x1, y), (x2, _) in pairwise(one))
        # 40 equally spaced losses in 12 bins: the fullest bin has 4 of them.
        assert area / bin_width / tallest == pytest.approx(40 / 4, rel=0.01)


def test_response_lengths_have_a_row_for_references_base_and_every_arm() -> None:
    trials = trials_of({"alpha=0": 2, "alpha=5": 2})
    base = replace(trials[0], arm=BASE_ARM, seed=None, items={"response_chars": item_values([300.0, 500.0])})
    references = {**trials[1].items, "reference_chars": item_values([10.0, 20.0])}
    plot = found(response_lengths([base, replace(trials[1], items=references), *trials], hand_made()))

    assert plot.alt == "Mean characters: references 15.0, base 400.0, alpha=0 120.0, alpha=5 120.0."
    assert {"references", "base", "alpha=0", "alpha=5", "15.0", "400.0"} <= set(texts(plot))
    assert response_lengths([base], hand_made()) is None


def test_single_arm_has_no_paired_plot() -> None:
    alone = comparison(arm("alpha=5", 5.0, [1.0, 1.1]))

    assert list(all_plots(alone, trials_of({"alpha=5": 2}))) == [name for name in NAMES if name != "paired-differences"]
    assert all_plots(replace(alone, arms=()), []) == {}


def arm(name: str, alpha: float | None, values: Sequence[float], baseline: Sequence[float] | None = None) -> ArmSummary:
    finite = baseline is not None and all(map(math.isfinite, values))
    seeds = min(len(values), len(baseline or values))
    assessed = assessment(0.01, 0.02, seeds=seeds) if finite else None
    return summary(name, alpha, {"eval_loss": estimate(values, baseline, assessed)})


def trials_of(seeds: Mapping[str, int]) -> list[Measurements]:
    return [trial(name, seed) for name, count in seeds.items() for seed in range(count)]


def trial(name: str, seed: int) -> Measurements:
    items, curve = _measured()
    curve = curve if seed else ()
    return Measurements(f"{name}-{seed}", name, None, seed, {}, items, {}, curve)


@cache
def _measured() -> tuple[Mapping[str, ItemValues], tuple[CurvePoint, ...]]:
    losses = np.arange(1, 41) / 10
    lengths = np.array([60.0, 120.0, 180.0])
    items = {"eval_loss": losses, "train_loss_clean": losses / 2, "response_chars": lengths}
    return {key: item_values(values) for key, values in items.items()}, (*STEPS, *EPOCHS)


def item_values(values: ArrayLike) -> ItemValues:
    measured = np.asarray(values, np.float64)
    labels = tuple(map(str, range(len(measured))))
    return ItemValues(labels, labels, measured, np.ones(len(measured)))


def found(plot: Plot | None) -> Plot:
    assert plot is not None
    return plot


def parsed(svg: str) -> Element:
    return ElementTree.fromstring(svg)


def tag(element: Element) -> str:
    return element.tag.removeprefix("{http://www.w3.org/2000/svg}")


def all_of(plot: Plot, name: str) -> list[Element]:
    return [element for element in parsed(plot.svg).iter() if tag(element) == name]


def texts(plot: Plot) -> list[str]:
    return [element.text or "" for element in all_of(plot, "text")]


def panels_of(plot: Plot) -> list[str]:
    return [element.text or "" for element in all_of(plot, "text") if element.attrib["font-size"] == "10px"]


def marks(plot: Plot) -> list[Element]:
    """Return the markers inside a panel, without the ticks on its edge."""
    return [element for element in all_of(plot, "use") if "stroke-width" not in element.attrib]


def lines(plot: Plot) -> list[Element]:
    return [path for path in all_of(plot, "path") if path.attrib.get("fill") == "none"]


def ends(line: Element) -> list[tuple[float, float]]:
    numbers = [float(part) for part in line.attrib["d"].replace("M", "").replace("L", "").split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def axis_of(plot: Plot, top: float = 0.0, foot: float = math.inf) -> Callable[[float], float]:
    """Return the function from height to value of a linear vertical axis, using its labels between two heights."""
    grid = [y for line in lines(plot) if line.attrib.get("stroke-opacity") == "0.13" for _, y in ends(line)[:1]]
    right_aligned = [one for one in all_of(plot, "text") if one.get("text-anchor") == "end"]
    labels = [one for one in right_aligned if float(one.attrib["x"]) < MARGIN and top < height(one) < foot]
    ticks = [(min(grid, key=lambda y: abs(y - height(one))), number(one)) for one in labels]
    (first, value), (second, other) = ticks[:2]
    return lambda y: value + (y - first) * (other - value) / (second - first)


def height(element: Element) -> float:
    return float(element.attrib["y"])


def number(label: Element) -> float:
    return float((label.text or "").replace("\N{MINUS SIGN}", "-"))
