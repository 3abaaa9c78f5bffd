"""Histograms of per-example values, pooled over the seeds of an arm: losses, and lengths of responses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import REFERENCE_LENGTH, Floats, Measurements
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS, NOISE_OFF_TRAINING_LOSS
from neftune_cli.reporting.plots.canvas import FAINT, SMALL, WIDTH, Plot, PlotText, add_panel, render_plot
from neftune_cli.reporting.plots.captions import (
    LONGEST_NAME,
    arms_left_out,
    listed_arms,
    sentences,
    short_name,
    short_names,
    text_width,
)
from neftune_cli.reporting.plots.styles import (
    BASE_STYLE,
    BASELINE_STYLE,
    ArmStyle,
    arm_styles,
    drawn_arms,
    set_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HISTOGRAM_TITLES: Final = {
    NOISE_OFF_TRAINING_LOSS: "Training examples, noise off",
    HELD_OUT_LOSS: "Held-out examples",
}
"""Loss metrics with the titles of their panels."""
LENGTH: Final = "response_chars"
MOST_ROWS: Final = 20
"""Arms drawn at most, each in a row."""
BINS: Final = 60
_PERCENTILES: Final = (0.5, 5.0, 95.0, 99.5)
"""Values beyond the outer percentiles count in the outermost bins, so that outliers do not stretch the axis."""
_NEAR_ZERO: Final = 0.4
"""An axis starts at 0 if the smallest values are below this share of the largest."""
_FEWEST_BINS, _MOST_BINS = 12, 40
_WIDE: Final = 25.0
"""Positive values whose 5th and 95th percentiles differ by a larger factor get logarithmic bins."""
_LONGEST_LABEL: Final = 22
_ROW, _BOTTOM, _TOP, _NUMBER, _BETWEEN = 36.0, 38.0, 28.0, 48.0, 14.0
"""Height of a row; space below and above the rows, for the number at the right of a row, and between panels."""
_TALLEST: Final = 0.88
"""Height of the tallest histogram, in rows."""


@dataclass(frozen=True)
class Bins:
    """Adjacent bins; values beyond the edges count in the first or the last bin."""

    edges: Floats
    logarithmic: bool

    def shares(self, values: Floats) -> Floats:
        """Return the percentage of the values in each bin, (bins,)."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        return 100.0 * np.histogram(inside, self.edges)[0] / max(len(values), 1)


@dataclass(frozen=True)
class LossPanel:
    """One panel: losses of the same examples after training in several arms."""

    title: str
    by_arm: Mapping[str, Floats]
    """Losses in nats per completion token, pooled over seeds, shape (examples * seeds,)."""
    bins: Bins


@dataclass(frozen=True)
class LengthHistogram:
    """Lengths of the responses of one arm, or of the references."""

    name: str
    style: ArmStyle
    lengths: Floats
    """In characters, pooled over seeds, shape (responses,)."""

    @property
    def mean(self) -> str:
        """Return the formatted mean length."""
        return METRICS[LENGTH].number(float(self.lengths.mean()))


def loss_histograms(trials: Sequence[Measurements], comparison: Comparison) -> Plot | None:
    """Return the plot with a row for each arm; None without losses."""
    styles = arm_styles(comparison)
    arms = [arm.name for arm in drawn_arms(comparison, MOST_ROWS)]
    panels = [found for loss, title in HISTOGRAM_TITLES.items() if (found := _loss_panel(trials, arms, loss, title))]
    if not panels:
        return None
    shown = {arm: styles[arm] for arm in arms if any(arm in one.by_arm for one in panels)}
    height = _TOP + len(shown) * _ROW + _BOTTOM
    text = _loss_text(comparison, panels, [arm for arm in arms if _has_losses_not_finite(trials, arm)])
    return render_plot(text, height, lambda figure: _draw_losses(figure, panels, shown, comparison.baseline))


def response_lengths(trials: Sequence[Measurements], comparison: Comparison) -> Plot | None:
    """Return the plot of the lengths of responses to held-out prompts; None where no arm has any."""
    rows = _rows(trials, comparison)
    if not {row.name for row in rows} & {arm.name for arm in comparison.arms}:
        return None
    bins = common_bins([row.lengths for row in rows], BINS, whole=True)
    height = _TOP + len(rows) * _ROW + _BOTTOM
    return render_plot(_length_text(comparison, rows), height, lambda figure: _draw_lengths(figure, rows, bins))


def common_bins(values: Sequence[Floats], count: int, *, whole: bool = False) -> Bins:
    """Return about `count` bins that cover all of these arrays, which hold at least one value in total.

    With `whole`, bins of equal width each hold the same number of integers.
    """
    joined = np.concatenate(values)
    low, near, far, high = (float(value) for value in np.percentile(joined, _PERCENTILES))
    if near > 0 and far > _WIDE * near:
        return Bins(np.geomspace(low if low > 0 else near, high, count + 1), logarithmic=True)
    start = 0.0 if 0 <= low < _NEAR_ZERO * high else low
    width = (high - start) / count or 1.0 / count
    if whole:
        start, width = math.floor(start), math.ceil(width)
        count = max(1, math.ceil((high - start + 1) / width))
    return Bins(start + width * np.arange(count + 1, dtype=np.float64), logarithmic=False)


def rice_bins(examples: int) -> int:
    """Return the number of bins for a number of independent values: 2 n^(1/3) (Rice rule), between 12 and 40."""
    return min(max(round(2 * math.cbrt(examples)), _FEWEST_BINS), _MOST_BINS)


def pooled(trials: Iterable[Measurements], key: str) -> Floats:
    """Return the finite per-item values of one metric over all these trials."""
    values = [trial.items[key].values for trial in trials if key in trial.items]
    joined = np.concatenate(values) if values else np.empty(0)
    return joined[np.isfinite(joined)]


def outline(edges: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """Return the corners of a histogram's outline, from left to right."""
    return np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)


def _loss_panel(trials: Sequence[Measurements], arms: Sequence[str], loss: str, title: str) -> LossPanel | None:
    values = {arm: pooled((trial for trial in trials if trial.arm == arm), loss) for arm in arms}
    by_arm = {arm: found for arm, found in values.items() if len(found)}
    if not by_arm:
        return None
    examples = max(len(trial.items[loss].values) for trial in trials if loss in trial.items)
    return LossPanel(title, by_arm, common_bins(list(by_arm.values()), rice_bins(examples)))


def _has_losses_not_finite(trials: Iterable[Measurements], arm: str) -> bool:
    """Return whether an arm has losses that are not finite."""
    items = [trial.items for trial in trials if trial.arm == arm]
    return not all(np.isfinite(one[loss].values).all() for one in items for loss in HISTOGRAM_TITLES if loss in one)


def _loss_text(comparison: Comparison, panels: Sequence[LossPanel], not_finite: Sequence[str]) -> PlotText:
    baseline = short_name(comparison.baseline, LONGEST_NAME)
    parts = [
        "Share of examples by loss after training, pooled over seeds. All rows of a panel share one scale.",
        f"The line without a filled area repeats the histogram of {baseline}." if len(comparison.arms) > 1 else "",
        "Vertical lines and numbers are medians.",
        "The outermost bins include all values beyond them.",
        f"Losses that are not finite are left out: {listed_arms(not_finite)}." if not_finite else "",
        "Logarithmic axes have bins of equal ratio." if any(one.bins.logarithmic for one in panels) else "",
        arms_left_out(comparison, len(drawn_arms(comparison, MOST_ROWS))),
    ]
    medians = (
        f"{one.title}, median loss: "
        + ", ".join(f"{short_name(arm, LONGEST_NAME)} {_median(values)}" for arm, values in one.by_arm.items())
        + "."
        for one in panels
    )
    return PlotText("loss-histograms", "Losses per example", sentences(parts), " ".join(medians))


def _median(values: Floats) -> str:
    return f"{np.median(values):.3g}"


def _draw_losses(figure: "Figure", panels: Sequence[LossPanel], arms: Mapping[str, ArmStyle], baseline: str) -> None:
    labels = short_names(arms, _LONGEST_LABEL)
    left = _label_width(labels.values())
    width = (WIDTH - left - len(panels) * _NUMBER - (len(panels) - 1) * _BETWEEN) / len(panels)
    for place, losses in enumerate(panels):
        box = (left + place * (width + _NUMBER + _BETWEEN), _BOTTOM, width, len(arms) * _ROW)
        axes = _row_axes(figure, box, len(arms), losses.bins)
        _draw_panel(axes, losses, arms, baseline)
        for row, arm in enumerate(arms):
            number = _median(losses.by_arm[arm]) if arm in losses.by_arm else ""
            _write_row(axes, "" if place else labels[arm], number, -row)
        axes.set_title(losses.title, pad=8)
        axes.set_xlabel(f"nats per completion token{', logarithmic' if losses.bins.logarithmic else ''}")
        _head_numbers(axes, "median")


def _draw_panel(axes: "Axes", losses: LossPanel, arms: Mapping[str, ArmStyle], baseline: str) -> None:
    shares = {arm: losses.bins.shares(values) for arm, values in losses.by_arm.items()}
    tallest = max(float(share.max()) for share in shares.values())
    for row, (arm, style) in enumerate(arms.items()):
        if arm not in shares:
            continue
        if arm != baseline and baseline in shares:
            xs, ys = outline(losses.bins.edges, shares[baseline] * _TALLEST / tallest - row)
            axes.plot(xs, ys, color=BASELINE_STYLE.color, alpha=0.5, linewidth=0.8, clip_on=False)
        heights = shares[arm] * _TALLEST / tallest - row
        _draw_row(axes, style, heights, losses.bins, -row, float(np.median(losses.by_arm[arm])))


def _label_width(labels: Iterable[str]) -> float:
    return max(text_width(label, SMALL) for label in labels) + 10


def _row_axes(figure: "Figure", box: tuple[float, float, float, float], rows: int, bins: Bins) -> "Axes":
    """Return axes with one row of height 1 for each histogram; the foot of the first row is at 0."""
    axes = add_panel(figure, box)
    axes.set_xlim(bins.edges[0], bins.edges[-1])
    axes.set_ylim(-rows + 1, 1)
    set_scale(axes, axes.xaxis, logarithmic=bins.logarithmic, ticks=8 if box[2] > WIDTH / 2 else 5)
    axes.set_yticks([])
    return axes


def _rows(trials: Sequence[Measurements], comparison: Comparison) -> list[LengthHistogram]:
    drawn, styles = drawn_arms(comparison, MOST_ROWS), arm_styles(comparison)
    of_arms = {
        arm: pooled([trial for trial in trials if trial.arm == arm], LENGTH)
        for arm in (BASE_ARM, *(one.name for one in drawn))
    }
    # All trials have the same prompts.
    with_references = [trial for trial in trials if REFERENCE_LENGTH in trial.items][:1]
    references = LengthHistogram("references", BASELINE_STYLE, pooled(with_references, REFERENCE_LENGTH))
    rows = (
        references,
        *(LengthHistogram(arm, styles.get(arm, BASE_STYLE), lengths) for arm, lengths in of_arms.items()),
    )
    return [row for row in rows if len(row.lengths)]


def _length_text(comparison: Comparison, rows: Sequence[LengthHistogram]) -> PlotText:
    parts = [
        "Share of responses to held-out prompts by length in characters, pooled over seeds. All rows share one scale.",
        "Vertical lines and numbers are means.",
        "The outermost bins include all values beyond them.",
        arms_left_out(comparison, len(drawn_arms(comparison, MOST_ROWS))),
    ]
    means = (f"{short_name(row.name, LONGEST_NAME)} {row.mean}" for row in rows)
    return PlotText("response-lengths", "Response length", sentences(parts), f"Mean characters: {', '.join(means)}.")


def _draw_lengths(figure: "Figure", rows: Sequence[LengthHistogram], bins: Bins) -> None:
    labels = short_names((row.name for row in rows), _LONGEST_LABEL)
    left = _label_width(labels.values())
    axes = _row_axes(figure, (left, _BOTTOM, WIDTH - left - _NUMBER, len(rows) * _ROW), len(rows), bins)
    shares = [bins.shares(row.lengths) for row in rows]
    tallest = max(float(share.max()) for share in shares)
    for place, (row, share) in enumerate(zip(rows, shares, strict=True)):
        _draw_row(axes, row.style, share * _TALLEST / tallest - place, bins, -place, float(row.lengths.mean()))
        _write_row(axes, labels[row.name], row.mean, -place)
    axes.set_xlabel(f"characters{', logarithmic' if bins.logarithmic else ''}")
    _head_numbers(axes, "mean")


def _draw_row(axes: "Axes", style: ArmStyle, heights: Floats, bins: Bins, foot: float, middle: float) -> None:
    xs, ys = outline(bins.edges, heights)
    axes.fill_between(xs, ys, foot, color=style.color, alpha=0.22, linewidth=0, clip_on=False)
    axes.plot(xs, ys, color=style.color, linewidth=1.0, clip_on=False)
    axes.axhline(foot, color=BASELINE_STYLE.color, alpha=2 * FAINT, linewidth=0.7)
    place = min(max(middle, float(bins.edges[0])), float(bins.edges[-1]))
    axes.plot([place, place], [foot, foot + _TALLEST], color=style.color, linewidth=1.8)


def _write_row(axes: "Axes", label: str, number: str, foot: float) -> None:
    text: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": SMALL, "va": "baseline"}
    axes.text(-0.01, foot + 0.12, label, ha="right", **text)
    axes.text(1.01, foot + 0.12, number, ha="left", **text)


def _head_numbers(axes: "Axes", heading: str) -> None:
    axes.text(1.01, 1.02, heading, transform=axes.transAxes, fontsize=SMALL, va="baseline")
