"""Plot of losses over epochs: noisy and noise-off training loss and held-out loss, one color per arm."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neftune_cli.analysis.results import Comparison
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS, NOISE_OFF_TRAINING_LOSS, NOISY_TRAINING_LOSS
from neftune_cli.records import CurvePoint
from neftune_cli.reporting.plots.canvas import SMALL, WIDTH, Plot, PlotText, add_panel, render_plot
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
    LEADER,
    ArmStyle,
    LineEnd,
    drawn_arms,
    is_wide,
    label_ends,
    limits,
    lower_bound,
    set_scale,
    styles_in_order,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_TITLES: Final = {key: METRICS[key].name for key in (NOISY_TRAINING_LOSS, NOISE_OFF_TRAINING_LOSS, HELD_OUT_LOSS)}
"""Loss fields of a logged point with the titles of their panels."""
WINDOWS: Final = 20
"""Number of equal windows of the training that long lines are averaged over."""
MOST_POINTS: Final = 50
"""Lines with more points are averaged over windows."""
_LONGEST_LABEL: Final = 14
_MARKED: Final = 12
"""Lines with at most this many points have markers, which show how rarely the loss was evaluated."""

Line = Mapping[float, float]
"""Loss in nats by epoch."""


@dataclass(frozen=True)
class LossCurve:
    """One loss of one arm: mean and range over seeds, at the epochs that all its seeds share."""

    epochs: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: int
    logged: int
    """Points of its longest line, before averaging."""
    end: float
    """Last epoch with a point, before averaging."""
    is_complete: bool = True
    """Whether all its lines have the same epochs, after averaging."""


Panels = Mapping[str, Mapping[str, LossCurve]]
"""Curves by loss and arm; losses that no arm has logged are left out."""


def learning_curves(trials: Sequence[Measurements], comparison: Comparison) -> Plot | None:
    """Return the plot of the drawn arms; None where no loss was logged."""
    arms = [arm.name for arm in drawn_arms(comparison)]
    points = {arm: [trial.curve for trial in trials if trial.arm == arm and trial.curve] for arm in arms}
    panels = _panels(points)
    if not panels:
        return None
    incomplete = [arm for arm in arms if any(_lacks_points(one.get(arm), points[arm]) for one in panels.values())]
    text = _text(panels, [_omissions(incomplete), arms_left_out(comparison, len(arms))])
    return render_plot(text, _HEIGHT, lambda figure: _draw(figure, panels, arms))


def loss_curve(lines: Sequence[Line], end: float) -> LossCurve | None:
    """Return mean and range over the seeds' lines, at the epochs that all lines share; None where they share none.

    No line may be empty. `end` is the last epoch of any arm, so that all arms are averaged over the same windows. If
    one line is averaged, all are, because steps and windows have no epoch in common.
    """
    most = 0 if any(len(line) > MOST_POINTS for line in lines) else MOST_POINTS
    smooth = [smoothed(line, end, most) for line in lines]
    shared = sorted(set(smooth[0]).intersection(*smooth[1:])) if smooth else []
    if not shared:
        return None
    values = np.array([[line[epoch] for epoch in shared] for line in smooth])  # (seeds, epochs)
    mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    logged, last, is_complete = max(map(len, lines)), max(map(max, lines)), len(shared) == len(set().union(*smooth))
    return LossCurve(np.array(shared), mean, low, high, len(lines), logged, last, is_complete)


def smoothed(line: Line, end: float, most: int = MOST_POINTS) -> Line:
    """Return the means over `WINDOWS` equal windows up to `end`, at their middles.

    A line of at most `most` points is returned unchanged.
    """
    if len(line) <= most:
        return line
    parts: dict[int, list[float]] = {}
    for epoch, loss in line.items():
        # Windows include their right end: the last step of an epoch belongs to that epoch.
        parts.setdefault(math.ceil(epoch / end * WINDOWS - 1e-9) - 1, []).append(loss)
    return {(part + 0.5) * end / WINDOWS: sum(losses) / len(losses) for part, losses in parts.items()}


def _panels(curves: Mapping[str, Sequence[Sequence[CurvePoint]]]) -> Panels:
    panels = {loss: _curves(curves, loss) for loss in CURVE_TITLES}
    return {loss: curves_by_arm for loss, curves_by_arm in panels.items() if curves_by_arm}


def _curves(curves: Mapping[str, Sequence[Sequence[CurvePoint]]], loss: str) -> dict[str, LossCurve]:
    lines = {arm: [line for points in seeds if (line := _line(points, loss))] for arm, seeds in curves.items()}
    end = max((epoch for seeds in lines.values() for line in seeds for epoch in line), default=0.0)
    curves_by_arm = {arm: loss_curve(seeds, end) for arm, seeds in lines.items()}
    return {arm: found for arm, found in curves_by_arm.items() if found}


def _line(points: Iterable[CurvePoint], loss: str) -> Line:
    values = ((point.epoch, getattr(point, loss)) for point in points)
    return {epoch: value for epoch, value in values if value is not None and math.isfinite(value)}


def _omissions(arms: Sequence[str]) -> str:
    lost = "Seeds and epochs whose loss is not logged or not finite are left out"
    return f"{lost}: {listed_arms(arms)}." if arms else ""


def _lacks_points(found: LossCurve | None, seeds: Sequence[Sequence[CurvePoint]]) -> bool:
    """Return whether the mean over an arm's seeds lacks one of them, or an epoch."""
    return bool(seeds) if found is None else found.seeds < len(seeds) or not found.is_complete


def _text(panels: Panels, left_out: Sequence[str]) -> PlotText:
    every = [found for curves_by_arm in panels.values() for found in curves_by_arm.values()]
    bands = "; bands span the lowest to the highest seed" if any(one.seeds > 1 for one in every) else ""
    wide = [METRICS[loss].name_within for loss, curves_by_arm in panels.items() if _is_wide(curves_by_arm)]
    parts = [f"Lines are means over seeds, in nats per completion token{bands}."]
    if any(one.logged > MOST_POINTS for one in every):
        parts.append(
            f"Losses logged at more than {MOST_POINTS} steps are averaged over {WINDOWS} equal windows of the training."
        )
    if wide:
        parts.append(f"The axis is logarithmic for {listed(wide)}.")
    ends = (f"{CURVE_TITLES[loss]} ends at {_ends(curves_by_arm)}." for loss, curves_by_arm in panels.items())
    return PlotText("learning-curves", "Losses over training", sentences([*parts, *left_out]), " ".join(ends))


def _ends(curves_by_arm: Mapping[str, LossCurve]) -> str:
    # The last point of averaged losses is half a window before the end, so a line that ends within the last window is
    # complete.
    late = max(found.end for found in curves_by_arm.values()) * (1 - 1 / WINDOWS)
    return ", ".join(
        f"{found.mean[-1]:.4g}{_epoch(found, late)} ({short_name(arm, LONGEST_NAME)})"
        for arm, found in curves_by_arm.items()
    )


def _epoch(found: LossCurve, late: float) -> str:
    """Return the last epoch of a line that ends early; empty for other lines."""
    return "" if found.epochs[-1] >= late else f" at epoch {found.epochs[-1]:.3g}"


def _is_wide(curves_by_arm: Mapping[str, LossCurve]) -> bool:
    return is_wide(_range(curves_by_arm))


def _range(curves_by_arm: Mapping[str, LossCurve]) -> list[float]:
    return [float(value) for found in curves_by_arm.values() for value in (*found.low, *found.high)]


_HEIGHT, _BOTTOM, _TOP, _LEFT = 270.0, 38.0, 24.0, 34.0


def _draw(figure: "Figure", panels: Panels, arms: Sequence[str]) -> None:
    names = short_names(arms, _LONGEST_LABEL)
    label_space = LEADER + max(text_width(name, SMALL) for name in names.values())
    slot = WIDTH / len(panels)
    for place, (loss, curves_by_arm) in enumerate(panels.items()):
        box = (place * slot + _LEFT + 8, _BOTTOM, slot - _LEFT - 8 - label_space, _HEIGHT - _BOTTOM - _TOP)
        axes = add_panel(figure, box)
        _draw_curves(axes, curves_by_arm, arms)
        _label(axes, curves_by_arm, names)
        axes.set_title(CURVE_TITLES[loss])
        axes.set_xlabel("epoch")
        if not place:
            axes.set_ylabel("nats per completion token")


def _draw_curves(axes: "Axes", curves_by_arm: Mapping[str, LossCurve], arms: Sequence[str]) -> None:
    for arm, style in styles_in_order(arms).items():
        if found := curves_by_arm.get(arm):
            marker = style.marker if len(found.epochs) <= _MARKED else ""
            if found.seeds > 1:
                _draw_range(axes, found, style)
            line: dict[str, Any] = {"color": style.color, "linestyle": style.dashes, "marker": marker, "markersize": 4}
            axes.plot(found.epochs, found.mean, clip_on=False, **line)


def _draw_range(axes: "Axes", found: LossCurve, style: ArmStyle) -> None:
    if len(found.epochs) > 1:
        axes.fill_between(found.epochs, found.low, found.high, color=style.color, alpha=0.13, linewidth=0)
    else:
        axes.vlines(found.epochs, found.low, found.high, color=style.color, alpha=0.4, linewidth=3, clip_on=False)


def _label(axes: "Axes", curves_by_arm: Mapping[str, LossCurve], names: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(found.end for found in curves_by_arm.values())
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=last >= 1))
    values = _range(curves_by_arm)
    axes.set_ylim(*limits(values, logarithmic=_is_wide(curves_by_arm), floor=lower_bound(values)))
    set_scale(axes, axes.yaxis, logarithmic=_is_wide(curves_by_arm))
    styles = styles_in_order(list(names))
    ends = [LineEnd(names[arm], styles[arm], found.epochs[-1], found.mean[-1]) for arm, found in curves_by_arm.items()]
    label_ends(axes, ends)
