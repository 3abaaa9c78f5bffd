"""Plot of the primary metric paired by seed: slopes from the baseline to each arm, and the differences below."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, DifferenceBySeed, Estimate
from neftune_cli.metrics import Metric
from neftune_cli.reporting.cells import shown_interval
from neftune_cli.reporting.plots.canvas import FAINT, SMALL, WIDTH, Plot, PlotText, add_panel, render_plot
from neftune_cli.reporting.plots.captions import (
    LONGEST_NAME,
    arms_left_out,
    cells_in,
    drawn_seeds,
    equivalence_interval_note,
    interval_name,
    not_finite,
    seeds_left_out,
    sentences,
    short_name,
    short_names,
)
from neftune_cli.reporting.plots.styles import (
    BASELINE_STYLE,
    ArmStyle,
    arm_styles,
    drawn_arms,
    heading,
    limits,
    lower_bound,
    set_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REACH: Final = 0.25
"""Half the horizontal extent of a slope; columns are 1 apart."""
_OFFSET: Final = 6.0
"""Points from the middle of a column to its dots, and to their mean on the other side."""
_SLOPES, _DIFFERENCES, _BETWEEN, _TOP, _UNDER, _LEFT = 150.0, 105.0, 48.0, 24.0, 36.0, 52.0
"""Heights of the two panels, and space between, above, below and to the left of them, in points."""


@dataclass(frozen=True)
class PairedArm:
    """An arm and the baseline over the seeds that both have."""

    arm: ArmSummary
    style: ArmStyle
    baseline: Estimate
    treated: Estimate
    difference: DifferenceBySeed
    assessment: Assessment | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the interval of the difference; None where it is undefined."""
        if self.assessment is None:
            return None
        ends = shown_interval(self.assessment)
        return ends if all(map(math.isfinite, ends)) else None

    @property
    def margin(self) -> float:
        """Return the equivalence margin, drawn as a band; 0 where there is no assessment."""
        return self.assessment.margin if self.assessment else 0.0

    @property
    def verdict(self) -> str:
        """Return the verdict."""
        return (self.assessment and self.assessment.verdict) or "no verdict"


def paired_differences(comparison: Comparison) -> Plot | None:
    """Return the plot, one column per arm; None where no arm shares a seed with the baseline."""
    pairs = _pairs(comparison)
    if not pairs:
        return None
    height = _UNDER + _DIFFERENCES + _BETWEEN + _SLOPES + _TOP
    return render_plot(_text(comparison, pairs), height, lambda figure: _draw(figure, comparison, pairs))


def _pairs(comparison: Comparison) -> list[PairedArm]:
    arms = drawn_arms(comparison)
    styles = arm_styles(comparison)
    estimates = {arm.name: arm.estimates.get(comparison.primary) for arm in arms}
    baseline = estimates.get(comparison.baseline)
    return [
        PairedArm(arm, styles[arm.name], baseline, found, found.difference, found.assessment)
        for arm in arms
        if baseline and (found := estimates[arm.name]) and found.difference and math.isfinite(found.difference.mean)
    ]


def _text(comparison: Comparison, pairs: list[PairedArm]) -> PlotText:
    metric, baseline = comparison.metrics[comparison.primary], short_name(comparison.baseline, LONGEST_NAME)
    parts = [
        f"Top: each thin line is a seed, from {baseline} on the left to the arm on the right; thick lines are means.",
        f"Bottom: each dot is the difference of one seed; {_mean_mark(comparison, pairs)}.",
        equivalence_interval_note(comparison, _assessments(pairs)),
        "The gray band is the equivalence margin." if any(pair.margin for pair in pairs) else "",
        seeds_left_out(pair.difference.by_seed for pair in pairs),
        "Seeds that only one of the two arms has are left out." if any(map(_is_ragged, pairs)) else "",
        arms_left_out(comparison, len(drawn_arms(comparison))),
        not_finite(comparison),
    ]
    title = f"{metric.name}, paired by seed"
    return PlotText("paired-differences", title, sentences(parts), _alt(metric, baseline, pairs))


def _mean_mark(comparison: Comparison, pairs: list[PairedArm]) -> str:
    mark = "the larger mark is the mean"
    return f"{mark} with its {interval_name(comparison)}" if _assessments(pairs) else mark


def _assessments(pairs: list[PairedArm]) -> list[Assessment]:
    return [pair.assessment for pair in pairs if pair.assessment and pair.interval]


def _is_ragged(pair: PairedArm) -> bool:
    return pair.baseline.by_seed.keys() != pair.treated.by_seed.keys()


def _alt(metric: Metric, baseline: str, pairs: list[PairedArm]) -> str:
    differences = (
        f"{short_name(pair.arm.name, LONGEST_NAME)} {_difference(metric, pair)} ({pair.verdict})" for pair in pairs
    )
    return f"{metric.name} minus that of {baseline}: {', '.join(differences)}."


def _difference(metric: Metric, pair: PairedArm) -> str:
    written = metric.signed(pair.difference.mean)
    if pair.interval is None:
        return written
    return f"{written} [{metric.signed(pair.interval[0])}, {metric.signed(pair.interval[1])}]"


def _draw(figure: "Figure", comparison: Comparison, pairs: list[PairedArm]) -> None:
    width = WIDTH - _LEFT - 8
    metric = comparison.metrics[comparison.primary]
    below = add_panel(figure, (_LEFT, _UNDER, width, _DIFFERENCES))
    above = add_panel(figure, (_LEFT, _UNDER + _DIFFERENCES + _BETWEEN, width, _SLOPES))
    for column, pair in enumerate(pairs):
        _draw_slopes(above, column, pair)
        _draw_differences(below, column, _OFFSET * len(pairs) / width, pair)
    above.set_title(heading(metric))
    below.set_title("Difference from " + short_name(comparison.baseline, LONGEST_NAME))
    _name_ends(above, comparison.baseline, pairs, width)
    _name_verdicts(below, metric, pairs)


def _draw_slopes(axes: "Axes", column: int, pair: PairedArm) -> None:
    xs = [column - _REACH, column + _REACH]
    for seed in drawn_seeds([pair.difference.by_seed]):
        ys = [pair.baseline.by_seed[seed], pair.treated.by_seed[seed]]
        axes.plot(xs, ys, color=pair.style.color, linewidth=0.8, alpha=0.5)
        axes.plot(xs[:1], ys[:1], BASELINE_STYLE.marker, color=BASELINE_STYLE.color, markersize=3.5, markeredgewidth=0)
        axes.plot(xs[1:], ys[1:], pair.style.marker, color=pair.style.color, markersize=4, markeredgewidth=0)
    axes.plot(xs, _paired_means(pair), color=pair.style.color, linewidth=2.6)


def _paired_means(pair: PairedArm) -> list[float]:
    """Return the means of baseline and arm over the paired seeds."""
    seeds = pair.difference.by_seed
    return [sum(estimate.by_seed[seed] for seed in seeds) / len(seeds) for estimate in (pair.baseline, pair.treated)]


def _draw_differences(axes: "Axes", column: int, offset: float, pair: PairedArm) -> None:
    seeds = drawn_seeds([pair.difference.by_seed])
    differences = [pair.difference.by_seed[seed] for seed in seeds]
    dots: dict[str, Any] = {"color": BASELINE_STYLE.color, "alpha": 0.5, "markersize": 3.5, "markeredgewidth": 0}
    axes.plot([column - offset] * len(seeds), differences, "o", **dots)
    if pair.interval:
        axes.vlines(column + offset, *pair.interval, color=pair.style.color, linewidth=1.6)
    mark: dict[str, Any] = {"color": pair.style.color, "markersize": 6.5, "markeredgewidth": 0}
    axes.plot([column + offset], [pair.difference.mean], pair.style.marker, **mark)


def _name_ends(axes: "Axes", baseline: str, pairs: list[PairedArm], width: float) -> None:
    longest = cells_in(width / len(pairs) * min(2 * _REACH, 1 - 2 * _REACH) - 8, SMALL)
    places = [column + side for column in range(len(pairs)) for side in (-_REACH, _REACH)]
    short = short_names((baseline, *(pair.arm.name for pair in pairs)), longest)
    names = [short[name] for pair in pairs for name in (baseline, pair.arm.name)]
    values = [value for pair in pairs for one in (pair.baseline, pair.treated) for value in _of_pair(one, pair)]
    _finish(axes, places, names, values, floor=lower_bound(values))


def _of_pair(estimate: Estimate, pair: PairedArm) -> list[float]:
    return [estimate.by_seed[seed] for seed in pair.difference.by_seed]


def _name_verdicts(axes: "Axes", metric: Metric, pairs: list[PairedArm]) -> None:
    names = [f"{metric.signed(pair.difference.mean)}\n{pair.verdict}" for pair in pairs]
    values = [value for pair in pairs for value in (*pair.difference.by_seed.values(), *(pair.interval or ()))]
    reach = 1.5 * max(map(abs, values))
    values += [end for pair in pairs for end in (-pair.margin, pair.margin) if pair.margin <= reach]
    _finish(axes, [float(column) for column in range(len(pairs))], names, [0.0, *values])
    for column, pair in enumerate(pairs):
        if pair.margin:
            ends = column - 0.4, column + 0.4
            axes.fill_between(ends, -pair.margin, pair.margin, color=BASELINE_STYLE.color, alpha=FAINT, linewidth=0)
    axes.axhline(0, color=BASELINE_STYLE.color, linewidth=0.8)


def _finish(
    axes: "Axes", places: list[float], names: list[str], values: list[float], *, floor: float = -math.inf
) -> None:
    axes.set_xticks(places, names)
    axes.set_xlim(-0.5, places[-1] + 0.5 - (places[-1] % 1))
    axes.set_ylim(*limits(values, logarithmic=False, floor=floor))
    set_scale(axes, axes.yaxis, logarithmic=False, ticks=4)
