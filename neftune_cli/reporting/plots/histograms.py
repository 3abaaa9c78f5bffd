"""Values of single examples, put together over the seeds of an arm and counted in bins."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.evidence.metrics import METRICS
from neftune_cli.reporting.plots.canvas import FAINT, SMALL, WIDTH, Plot, Words, panel, plot
from neftune_cli.reporting.plots.captions import (
    LONGEST_NAME,
    arms_left_out,
    listed,
    sentences,
    short_name,
    short_names,
    text_width,
)
from neftune_cli.reporting.plots.styles import (
    BASE_LOOK,
    BASELINE_LOOK,
    Look,
    drawn_arms,
    key,
    limits,
    looks,
    looks_in,
    ranked,
    set_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PERCENTILES: Final = (0.5, 5.0, 95.0, 99.5)
"""The outermost bins take in what lies beyond the first and the last, so that a few values don't stretch the axis."""
_NEAR_ZERO: Final = 0.4
"""An axis begins at 0 if the smallest values are less than this share of the largest."""
_FEWEST_BINS, _MOST_BINS = 12, 40
_WIDE: Final = 25.0
"""Positive values whose middle nine tenths span a larger factor are counted in bins of equal ratio."""


@dataclass(frozen=True)
class Bins:
    """Neighbouring intervals that values are counted in; the first and the last take what lies beyond."""

    edges: Floats
    logarithmic: bool

    def shares(self, values: Floats) -> Floats:
        """Return the percentage of the values in each bin, (bins,)."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        return 100.0 * np.histogram(inside, self.edges)[0] / max(len(values), 1)


def outline(edges: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """Return the corners of a histogram's upper edge, from left to right."""
    return np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)


def pooled(trials: Iterable[Measurements], key: str) -> Floats:
    """Return the finite values of one metric's items over all these trials."""
    values = [trial.items[key].values for trial in trials if key in trial.items]
    everything = np.concatenate(values) if values else np.empty(0)
    return everything[np.isfinite(everything)]


def common_bins(values: Sequence[Floats], count: int, *, whole: bool = False) -> Bins:
    """Return about `count` bins that fit all of these arrays, which hold one value at least.

    With `whole` the bins of equal width hold equally many whole numbers each.
    """
    everything = np.concatenate(values)
    low, near, far, high = (float(value) for value in np.percentile(everything, _PERCENTILES))
    if near > 0 and far > _WIDE * near:
        return Bins(np.geomspace(low if low > 0 else near, high, count + 1), logarithmic=True)
    start = 0.0 if 0 <= low < _NEAR_ZERO * high else low
    width = (high - start) / count or 1.0 / count
    if whole:
        start, width = math.floor(start), math.ceil(width)
        count = max(1, math.ceil((high - start + 1) / width))
    return Bins(start + width * np.arange(count + 1, dtype=np.float64), logarithmic=False)


def few_bins(examples: int) -> int:
    """Return how many bins show the shape of so many independent values: 2 n^(1/3), the Rice rule, 12 to 40."""
    return min(max(round(2 * math.cbrt(examples)), _FEWEST_BINS), _MOST_BINS)


LOSSES: Final = {
    "train_loss_clean": "Training examples, noise off",
    "eval_loss": "Held-out examples",
}
"""Metric whose items are counted to the title of its panel."""
_LONGEST_KEY: Final = 26
_PANEL, _LOSS_BOTTOM, _LOSS_TOP, _LEFT, _BETWEEN = 168.0, 38.0, 58.0, 40.0, 44.0


@dataclass(frozen=True)
class Losses:
    """One panel: the losses of the same examples after training in several arms."""

    title: str
    by_arm: Mapping[str, Floats]
    """Losses in nats per completion token, all seeds together, (examples * seeds,)."""
    bins: Bins


def loss_histograms(trials: Sequence[Measurements], comparison: Comparison) -> Plot | None:
    """Return the plot of the baseline beside the best arm and that of the largest alpha; None without losses."""
    arms = contrasted(comparison)
    panels = [found for loss, title in LOSSES.items() if (found := _losses(trials, arms, loss, title))]
    if not panels:
        return None
    look = looks_in(comparison)
    shown = {arm: look[arm] for arm in arms if any(arm in one.by_arm for one in panels)}
    height = _LOSS_TOP + _PANEL + _LOSS_BOTTOM
    return plot(_loss_words(panels, list(shown)), height, lambda figure: _draw_losses(figure, panels, shown))


def contrasted(comparison: Comparison) -> list[str]:
    """Return the baseline, the arm with the best primary metric and the drawn arm of the largest alpha, each once."""
    drawn = drawn_arms(comparison)
    best = ranked(comparison)[:1]
    largest = sorted(drawn, key=lambda arm: -math.inf if arm.alpha is None else arm.alpha)[-1:]
    return list(dict.fromkeys(arm.name for arm in (*drawn[:1], *best, *largest)))


def _losses(trials: Sequence[Measurements], arms: Sequence[str], loss: str, title: str) -> Losses | None:
    values = {arm: pooled((trial for trial in trials if trial.arm == arm), loss) for arm in arms}
    by_arm = {arm: found for arm, found in values.items() if len(found)}
    if not by_arm:
        return None
    examples = max(len(trial.items[loss].values) for trial in trials if loss in trial.items)
    return Losses(title, by_arm, common_bins(list(by_arm.values()), few_bins(examples)))


def _loss_words(panels: Sequence[Losses], arms: Sequence[str]) -> Words:
    parts = [
        "Share of examples by their loss after training, all seeds together.",
        "Marks above are medians.",
        "The outermost bins take in what lies beyond.",
        "Bins of equal ratio on a logarithmic axis." if any(one.bins.logarithmic for one in panels) else "",
        f"Drawn: {listed(arms)}.",
    ]
    medians = (
        f"{one.title}, median loss: "
        + ", ".join(f"{short_name(arm, LONGEST_NAME)} {np.median(values):.3g}" for arm, values in one.by_arm.items())
        + "."
        for one in panels
    )
    return Words("loss-histograms", "Losses of single examples", sentences(parts), " ".join(medians))


def _draw_losses(figure: "Figure", panels: Sequence[Losses], arms: Mapping[str, Look]) -> None:
    short = short_names(arms, _LONGEST_KEY)
    key(figure, [(short[arm], look) for arm, look in arms.items()], _LEFT)
    width = (WIDTH - len(panels) * _LEFT - _BETWEEN * (len(panels) - 1) - 10) / len(panels)
    for place, losses in enumerate(panels):
        axes = panel(figure, (_LEFT + place * (width + _LEFT + _BETWEEN), _LOSS_BOTTOM, width, _PANEL))
        _draw_panel(axes, losses, arms)
        axes.set_title(losses.title, pad=12)
        axes.set_xlabel(f"nats per completion token{', logarithmic' if losses.bins.logarithmic else ''}")
        axes.set_ylabel("" if place else "% of examples")


def _draw_panel(axes: "Axes", losses: Losses, arms: Mapping[str, Look]) -> None:
    axes.set_xlim(*limits(losses.bins.edges, logarithmic=losses.bins.logarithmic, room=0.01))
    set_scale(axes, axes.xaxis, logarithmic=losses.bins.logarithmic, ticks=6)
    for place, (arm, values) in enumerate(losses.by_arm.items()):
        look = arms[arm]
        xs, ys = outline(losses.bins.edges, losses.bins.shares(values))
        if not place:
            axes.fill_between(xs, ys, color=look.colour, alpha=0.16, linewidth=0)
        axes.plot(xs, ys, color=look.colour, linestyle=look.dashes, linewidth=1.3)
        _mark_median(axes, float(np.median(values)), look)
    axes.set_ylim(bottom=0)
    set_scale(axes, axes.yaxis, logarithmic=False)


def _mark_median(axes: "Axes", median: float, look: Look) -> None:
    mark: dict[str, Any] = {"color": look.colour, "markersize": 5, "markeredgewidth": 0, "clip_on": False}
    axes.plot([median], [1.03], look.marker, transform=axes.get_xaxis_transform(), **mark)


LENGTH: Final = "response_chars"
REFERENCE_LENGTH: Final = "reference_chars"
"""Items of this name, where trials have them, are the lengths of the references."""
BINS: Final = 60
_LONGEST_LABEL: Final = 22
_ROW, _LENGTH_BOTTOM, _LENGTH_TOP, _MEAN = 36.0, 38.0, 8.0, 48.0
_TALLEST: Final = 0.88
"""Height of the tallest histogram in rows."""


@dataclass(frozen=True)
class Row:
    """One histogram."""

    name: str
    look: Look
    lengths: Floats
    """In characters, all seeds together, (answers,)."""

    @property
    def mean(self) -> str:
        """Return the mean length for people."""
        return METRICS[LENGTH].number(float(self.lengths.mean()))


def answer_lengths(trials: Sequence[Measurements], comparison: Comparison) -> Plot | None:
    """Return the plot of the lengths of answers to held-out prompts; None where nothing was answered."""
    rows = _rows(trials, comparison)
    if not {row.name for row in rows} & {arm.name for arm in comparison.arms}:
        return None
    bins = common_bins([row.lengths for row in rows], BINS, whole=True)
    height = _LENGTH_TOP + len(rows) * _ROW + _LENGTH_BOTTOM
    return plot(_length_words(comparison, rows), height, lambda figure: _draw_lengths(figure, rows, bins))


def _rows(trials: Sequence[Measurements], comparison: Comparison) -> list[Row]:
    look = looks([arm.name for arm in drawn_arms(comparison)])
    of_arms = {arm: pooled([trial for trial in trials if trial.arm == arm], LENGTH) for arm in (BASE_ARM, *look)}
    # All trials answer the same prompts.
    answered = [trial for trial in trials if REFERENCE_LENGTH in trial.items][:1]
    references = Row("references", BASELINE_LOOK, pooled(answered, REFERENCE_LENGTH))
    rows = (references, *(Row(arm, look.get(arm, BASE_LOOK), lengths) for arm, lengths in of_arms.items()))
    return [row for row in rows if len(row.lengths)]


def _length_words(comparison: Comparison, rows: Sequence[Row]) -> Words:
    parts = [
        "Share of the answers to held-out prompts by their length in characters, all seeds together, on one scale.",
        "Upright lines and numbers are means.",
        "The outermost bins take in what lies beyond.",
        arms_left_out(comparison, len(drawn_arms(comparison))),
    ]
    means = (f"{short_name(row.name, LONGEST_NAME)} {row.mean}" for row in rows)
    return Words("answer-lengths", "Length of the answers", sentences(parts), f"Mean characters: {', '.join(means)}.")


def _draw_lengths(figure: "Figure", rows: Sequence[Row], bins: Bins) -> None:
    labels = short_names((row.name for row in rows), _LONGEST_LABEL)
    left = max(text_width(label, SMALL) for label in labels.values()) + 10
    axes = panel(figure, (left, _LENGTH_BOTTOM, WIDTH - left - _MEAN, len(rows) * _ROW))
    shares = [bins.shares(row.lengths) for row in rows]
    tallest = max(float(share.max()) for share in shares)
    axes.set_xlim(bins.edges[0], bins.edges[-1])
    axes.set_ylim(-len(rows) + 1, 1)
    set_scale(axes, axes.xaxis, logarithmic=bins.logarithmic, ticks=8)
    for place, (row, share) in enumerate(zip(rows, shares, strict=True)):
        _draw_row(axes, row, share * _TALLEST / tallest - place, bins, -place)
        _write_row(axes, labels[row.name], row.mean, -place)
    axes.set_yticks([])
    axes.set_xlabel(f"characters{', logarithmic' if bins.logarithmic else ''}")
    axes.text(1.01, 0.65, "mean", transform=axes.get_yaxis_transform(), fontsize=SMALL, va="baseline")


def _draw_row(axes: "Axes", row: Row, heights: Floats, bins: Bins, foot: float) -> None:
    colour = row.look.colour
    xs, ys = outline(bins.edges, heights)
    axes.fill_between(xs, ys, foot, color=colour, alpha=0.22, linewidth=0, clip_on=False)
    axes.plot(xs, ys, color=colour, linewidth=1.0, clip_on=False)
    axes.axhline(foot, color=BASELINE_LOOK.colour, alpha=2 * FAINT, linewidth=0.7)
    mean = min(float(row.lengths.mean()), float(bins.edges[-1]))
    axes.plot([mean, mean], [foot, foot + _TALLEST], color=colour, linewidth=1.8)


def _write_row(axes: "Axes", label: str, mean: str, foot: float) -> None:
    text: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": SMALL, "va": "baseline"}
    axes.text(-0.01, foot + 0.12, label, ha="right", **text)
    axes.text(1.01, foot + 0.12, mean, ha="left", **text)
