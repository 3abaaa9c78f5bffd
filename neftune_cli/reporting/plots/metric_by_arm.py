"""Plot of the primary metric by alpha, or by arm where alphas do not identify the arms."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, Estimate
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.metrics import Metric
from neftune_cli.reporting.cells import shown_interval
from neftune_cli.reporting.plots.canvas import SMALL, TEXT, WIDTH, Plot, PlotText, add_panel, render_plot
from neftune_cli.reporting.plots.captions import (
    LONGEST_NAME,
    arms_left_out,
    drawn_seeds,
    equivalence_interval_note,
    interval_name,
    not_finite,
    seeds_left_out,
    sentences,
    short_name,
    short_names,
    text_width,
)
from neftune_cli.reporting.plots.styles import (
    BASE_STYLE,
    BASELINE_STYLE,
    LEADER,
    ArmStyle,
    LineEnd,
    arm_styles,
    drawn_arms,
    heading,
    is_wide,
    label_ends,
    limits,
    lower_bound,
    plain,
    set_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_PLACES: Final = 20
"""Arms drawn at most."""
FAR_BASE: Final = 1.0
"""A base farther from the arms than this multiple of their range is given as a number instead."""
_WIDE: Final = 20.0
_LONGEST_LABEL: Final = 18
_HEIGHT, _LEFT, _TOP = 230.0, 46.0, 24.0
"""Height of the panel, and space to its left and above it, in points."""
_OFFSET: Final = 9.0
"""Horizontal distance from the seeds of an arm to its mean, in points."""
_LONGEST_TICK_NAME: Final = 26
_CLOSEST: Final = 1 / 14
"""Alphas closer than this share of their range would overlap on an axis."""
_TILT: Final = 35.0
"""Rotation of long names in degrees."""


@dataclass(frozen=True)
class ArmAxis:
    """Positions of the arms on the horizontal axis, and their labels."""

    places: tuple[float, ...]
    names: tuple[str, ...]
    title: str
    tilted: bool

    @property
    def spacing(self) -> float:
        """Return the smallest distance of two positions, in data coordinates."""
        return min((right - left for left, right in pairwise(sorted(self.places))), default=1.0)

    @property
    def limits(self) -> tuple[float, float]:
        """Return the limits of the axis."""
        return min(self.places) - 0.5 * self.spacing, max(self.places) + 0.5 * self.spacing

    @property
    def height(self) -> float:
        """Return the height of labels and title under the panel, in points."""
        names = self._longest * math.sin(math.radians(_TILT)) if self.tilted else 0.0
        return 18 + names + (TEXT + 6 if self.title else 0.0)

    @property
    def overhang(self) -> float:
        """Return the distance that tilted labels may extend to the left of their positions, in points."""
        return self._longest * math.cos(math.radians(_TILT)) if self.tilted else 0.0

    @property
    def _longest(self) -> float:
        return max(text_width(name, SMALL) for name in self.names)

    def write(self, axes: "Axes") -> None:
        """Set ticks, labels and title of the horizontal axis."""
        tilt: dict[str, Any] = {"rotation": _TILT, "ha": "right", "rotation_mode": "anchor"} if self.tilted else {}
        axes.set_xticks(self.places, self.names, **tilt)
        axes.set_xlim(*self.limits)
        axes.set_xlabel(self.title)


@dataclass(frozen=True)
class PlottedArm:
    """An arm with a finite mean."""

    arm: ArmSummary
    estimate: Estimate
    style: ArmStyle
    interval: tuple[float, float] | None
    """Interval of the difference from the baseline plus the baseline's mean; None for the baseline."""

    @property
    def values(self) -> tuple[float, ...]:
        """Return the measured values."""
        return (self.estimate.mean, *self.estimate.by_seed.values())


def metric_by_arm(comparison: Comparison) -> Plot | None:
    """Return the plot of the primary metric; None where no arm has a finite mean.

    An arm's bar is the interval of its paired difference from the baseline, shifted by the baseline's mean: it excludes
    the baseline's line exactly where the interval excludes 0. An interval of the arm's own mean would not
    show that, because seeds and examples contribute shared variance to both means.
    """
    shown = _shown(comparison)
    if not shown:
        return None
    axis = arm_axis([one.arm for one in shown], WIDTH - _LEFT - _right(comparison))
    height = _TOP + _HEIGHT + axis.height
    return render_plot(_text(comparison, shown, axis), height, lambda figure: _draw(figure, comparison, shown, axis))


def arm_axis(arms: Sequence[ArmSummary], width: float) -> ArmAxis:
    """Return the axis of a panel `width` points wide.

    Arms are placed by alpha, or by name where they differ in more than alpha, or where their alphas are too close.
    """
    alphas = [arm.alpha for arm in arms if arm.alpha is not None and arm.is_named_by_alpha]
    if len(alphas) == len(arms) and are_far_apart(alphas):
        return ArmAxis(tuple(alphas), tuple(map(plain, alphas)), "alpha", tilted=False)
    names = short_names((arm.name for arm in arms), _LONGEST_TICK_NAME)
    widest = max(text_width(name, SMALL) for name in names.values())
    return ArmAxis(
        tuple(map(float, range(len(arms)))), tuple(names.values()), "", tilted=widest > 0.9 * width / len(arms)
    )


def are_far_apart(alphas: Sequence[float]) -> bool:
    """Return whether the alphas are far enough apart to be positions on an axis."""
    known = sorted(alphas)
    gaps = [right - left for left, right in pairwise(known)]
    return bool(gaps) and min(gaps) > _CLOSEST * sum(gaps)


def _shown(comparison: Comparison) -> list[PlottedArm]:
    arms = drawn_arms(comparison, MOST_PLACES)
    estimates = {arm.name: arm.estimates.get(comparison.primary) for arm in arms}
    finite = {arm: found for arm, found in estimates.items() if found and math.isfinite(found.mean)}
    zero = finite[comparison.baseline].mean if comparison.baseline in finite else math.nan
    styles = arm_styles(comparison)
    return [
        PlottedArm(arm, finite[arm.name], styles[arm.name], _interval(finite[arm.name], zero))
        for arm in arms
        if arm.name in finite
    ]


def _interval(estimate: Estimate, zero: float) -> tuple[float, float] | None:
    if estimate.assessment is None:
        return None
    low, high = shown_interval(estimate.assessment)
    ends = zero + low, zero + high
    return ends if all(map(math.isfinite, ends)) else None


def _floor(shown: list[PlottedArm]) -> float:
    return lower_bound(value for one in shown for value in one.values)


def _text(comparison: Comparison, shown: list[PlottedArm], axis: ArmAxis) -> PlotText:
    metric = comparison.metrics[comparison.primary]
    parts = [
        "Dots are seeds, thin lines connect the same seed across arms, and larger marks are means.",
        _bars(comparison, shown),
        _cut_bars(shown),
        seeds_left_out(one.estimate.by_seed for one in shown),
        arms_left_out(comparison, len(drawn_arms(comparison, MOST_PLACES))),
        not_finite(comparison),
        "The axis is logarithmic." if _is_wide(shown) else "",
    ]
    title = f"{metric.name} by {axis.title or 'arm'}"
    return PlotText("metric-by-arm", title, sentences(parts), _alt(metric, shown))


def _bars(comparison: Comparison, shown: list[PlottedArm]) -> str:
    found = _assessments(shown)
    if not found:
        return ""
    baseline = short_name(comparison.baseline, LONGEST_NAME)
    ragged = len({frozenset(one.estimate.by_seed) for one in shown}) > 1
    has_few_seeds = any(not one.paired.has_enough_seeds for one in found)
    return sentences(
        (
            f"A bar is the {interval_name(comparison)} of the paired difference from {baseline}, shifted by the "
            f"mean of {baseline}. The verdicts say whether a difference is shown. A bar that only touches the line of "
            f"{baseline} carries no information beyond its verdict.",
            equivalence_interval_note(comparison, found),
            "With fewer than three paired seeds, bars apply to these trained models only." if has_few_seeds else "",
            "Bars use the seeds that both arms have." if ragged else "",
        )
    )


def _assessments(shown: list[PlottedArm]) -> list[Assessment]:
    return [one.estimate.assessment for one in shown if one.estimate.assessment and one.interval]


def _cut_bars(shown: list[PlottedArm]) -> str:
    """Return the sentence on bars that the axis cuts; empty where there is none."""
    if all(one.interval is None or one.interval[0] >= _floor(shown) for one in shown):
        return ""
    return "The metric is never negative: a bar whose interval extends below 0 ends in an arrow."


def _alt(metric: Metric, shown: list[PlottedArm]) -> str:
    means = (f"{short_name(one.arm.name, LONGEST_NAME)} {metric.number(one.estimate.mean)}" for one in shown)
    return f"Mean {metric.name_within} over seeds: {', '.join(means)}."


def _is_wide(shown: list[PlottedArm]) -> bool:
    return is_wide((value for one in shown for value in one.values), _WIDE)


def _right(comparison: Comparison) -> float:
    names = (short_name(comparison.baseline, _LONGEST_LABEL), BASE_ARM)
    return LEADER + max(text_width(name, SMALL) for name in names) + 4


def _draw(figure: "Figure", comparison: Comparison, shown: list[PlottedArm], axis: ArmAxis) -> None:
    right = _right(comparison)
    left = max(_LEFT, axis.overhang - (WIDTH - _LEFT - right) / len(shown) / 2)
    axes = add_panel(figure, (left, axis.height, WIDTH - left - right, _HEIGHT))
    axes.set_title(heading(comparison.metrics[comparison.primary]))
    axis.write(axes)
    _set_limits(axes, shown, comparison)
    _draw_seeds(axes, shown, axis)
    for place, one in zip(axis.places, shown, strict=True):
        offset = _OFFSET * (axis.limits[1] - axis.limits[0]) / (WIDTH - left - right)
        _draw_mean(axes, one, place + offset)
    label_ends(axes, list(_levels(axes, comparison, shown, axis)))


def _set_limits(axes: "Axes", shown: list[PlottedArm], comparison: Comparison) -> None:
    """Set limits that include all values, and the base if it is near; otherwise write its value above the panel."""
    floor, wide, base = _floor(shown), _is_wide(shown), _base(comparison)
    ends = [max(floor, end) for one in shown for end in one.interval or ()]
    values = [*ends, *(value for one in shown for value in one.values)]
    low, high = limits(values, logarithmic=wide, floor=floor)
    if base is not None and low - FAR_BASE * (high - low) <= base <= high + FAR_BASE * (high - low):
        low, high = limits([*values, base], logarithmic=wide, floor=floor)
    elif base is not None:
        metric, side = comparison.metrics[comparison.primary], "above the axis" if base > high else "below the axis"
        note = f"{BASE_ARM} {metric.number(base)} ({side})"
        axes.text(1, 1.02, note, transform=axes.transAxes, ha="right", va="bottom", fontsize=SMALL)
    axes.set_ylim(low, high)
    set_scale(axes, axes.yaxis, logarithmic=wide)
    axes.set_ylim(low, high)


def _base(comparison: Comparison) -> float | None:
    base = (comparison.base_scores or {}).get(comparison.primary)
    return base if base is not None and math.isfinite(base) else None


def _draw_seeds(axes: "Axes", shown: list[PlottedArm], axis: ArmAxis) -> None:
    for seed in drawn_seeds(one.estimate.by_seed for one in shown):
        points = sorted(
            (place, one.estimate.by_seed[seed])
            for place, one in zip(axis.places, shown, strict=True)
            if seed in one.estimate.by_seed
        )
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, "-", color=BASELINE_STYLE.color, linewidth=0.6, alpha=0.3)
        axes.plot(xs, ys, "o", color=BASELINE_STYLE.color, markersize=3.5, alpha=0.5, markeredgewidth=0)


def _draw_mean(axes: "Axes", one: PlottedArm, x: float) -> None:
    if one.interval:
        axes.vlines(x, *one.interval, color=one.style.color, linewidth=1.6)
        if one.interval[0] < (lowest := axes.get_ylim()[0]):
            arrow: dict[str, Any] = {"color": one.style.color, "markersize": 5, "markeredgewidth": 0, "clip_on": False}
            axes.plot([x], [lowest], "v", **arrow)
    axes.plot([x], [one.estimate.mean], one.style.marker, color=one.style.color, markersize=6.5, markeredgewidth=0)


def _levels(axes: "Axes", comparison: Comparison, shown: list[PlottedArm], axis: ArmAxis) -> Iterator[LineEnd]:
    """Draw the levels of baseline and base across the panel, and yield the ends of the lines."""
    end = axis.limits[1]
    for one in shown:
        if one.arm.name == comparison.baseline:
            axes.axhline(one.estimate.mean, color=one.style.color, linewidth=0.8)
            yield LineEnd(short_name(one.arm.name, _LONGEST_LABEL), one.style, end, one.estimate.mean)
    base = _base(comparison)
    if base is not None and axes.get_ylim()[0] <= base <= axes.get_ylim()[1]:
        axes.axhline(base, color=BASE_STYLE.color, linestyle=BASE_STYLE.dashes, linewidth=0.9)
        yield LineEnd(BASE_ARM, BASE_STYLE, end, base)
