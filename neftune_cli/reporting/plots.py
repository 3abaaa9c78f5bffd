"""Plots of a sweep: losses over epochs, and every score by arm and seed; the same input gives the same bytes."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from neftune_cli.analysis.comparison import ArmSummary, Comparison
from neftune_cli.analysis.metrics import METRICS, Metric
from neftune_cli.records import EVAL_METRICS, CurvePoint
from neftune_cli.reporting.cells import is_defined
from neftune_cli.store import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARM_COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's palette without its yellow, which vanishes on white: told apart by colour-blind readers."""
LINE_STYLES = ("solid", "dashed", "dotted")
"""The next one whenever the colours are used up."""

CURVE_PANELS = {
    "train_loss": "Training loss, noisy",
    "train_loss_clean": "Training loss, noise off",
    "eval_loss": "Held-out loss",
}
MOST_MARKED_POINTS = 20
"""Lines of fewer points show them, so that an evaluation an epoch isn't taken for a continuous curve."""
LABEL_GAP = 0.075
"""Least distance of two arms' labels, as a share of the panel's height."""
WIDEST_LEVEL_TICK = 4
"""Longer names of arms are tilted, so that neighbours don't overlap."""
FAR_BASE = 1.5
"""A base further from the arms than this many times their range isn't drawn to scale."""

SCORE_METRICS = ("eval_loss", *EVAL_METRICS)
SCORE_PANELS_A_ROW = 4

Curves = Mapping[tuple[str, int], Sequence[CurvePoint]]
"""(arm, seed) to the logged points of that trial."""

_Line = Mapping[float, float]
"""Epoch to loss."""

_STYLE = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
}


def plot_loss_curves(curves: Curves, path: Path) -> None:
    """Draw losses in nats over epochs: a panel for each of three losses that was logged, a colour an arm.

    Thin lines are seeds, thick lines their mean where all seeds of the arm have a point. Without any point nothing is
    written. Writes a PNG at 150 dpi.
    """
    logged = [loss for loss in CURVE_PANELS if any(_line(points, loss) for points in curves.values())]
    if not logged:
        return
    with _figure(path, columns=len(logged), rows=1, panel=(3.4, 3.1)) as (figure, panels):
        for axes, loss in zip(panels, logged, strict=True):
            _draw_losses(axes, _lines_by_arm(curves, loss))
            axes.set_title(CURVE_PANELS[loss])
            axes.set_xlabel("epoch")
        panels[0].set_ylabel("nats per completion token")
        _label_lines(panels[-1], _lines_by_arm(curves, logged[-1]))
        figure.supxlabel("thin: one seed, thick: mean over seeds", x=0.01, ha="left", fontsize=7, color="#666666")


def plot_eval(comparison: Comparison, path: Path) -> None:
    """Draw held-out loss and every generation score by arm: a dot a seed, lines joining equal seeds, bars at the means.

    The model before fine-tuning is a dashed line, or a note where it lies so far off that it would flatten the rest.
    Writes a PNG at 150 dpi.
    """
    metrics = [METRICS[key] for key in SCORE_METRICS if is_defined(comparison, key)]
    arms = sorted(comparison.arms, key=lambda arm: arm.alpha or 0.0)
    columns = min(SCORE_PANELS_A_ROW, len(metrics))
    rows, panel = math.ceil(len(metrics) / columns), (2.7, 2.4 + _tick_height(_tick_names(arms)))
    with _figure(path, columns=columns, rows=rows, panel=panel) as (_, panels):
        for axes, metric in zip(panels, metrics, strict=False):
            _draw_scores(axes, arms, metric)
            _draw_base(axes, (comparison.base or {}).get(metric.key), metric)
        for axes in panels[len(metrics) :]:
            axes.set_axis_off()


@contextmanager
def _figure(
    path: Path, *, columns: int, rows: int, panel: tuple[float, float]
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """Give an empty figure with its panels (inches each), and save it at the end."""
    import matplotlib.style
    from matplotlib.figure import Figure

    # A user's own matplotlibrc must not change the plots, and pyplot's global figures aren't needed.
    with matplotlib.style.context(["default", _STYLE], after_reset=True):
        figure = Figure(figsize=(panel[0] * columns, panel[1] * rows))
        yield figure, list(figure.subplots(rows, columns, squeeze=False).flat)
        image = io.BytesIO()
        figure.savefig(image, format="png", metadata={"Software": None})
    write_atomically(path, image.getvalue())


def _line(points: Sequence[CurvePoint], loss: str) -> _Line:
    values = ((point.epoch, getattr(point, loss)) for point in points)
    return {epoch: value for epoch, value in values if value is not None}


def _lines_by_arm(curves: Curves, loss: str) -> dict[str, list[_Line]]:
    """Return every arm, also one where no seed has logged the loss: its place decides its colour."""
    arms: dict[str, list[_Line]] = {arm: [] for arm, _ in curves}
    for (arm, _), points in curves.items():
        if line := _line(points, loss):
            arms[arm].append(line)
    return arms


def _draw_losses(axes: "Axes", arms: Mapping[str, Sequence[_Line]]) -> None:
    for place, lines in enumerate(arms.values()):
        colour, style = _look(place)
        for line in lines:
            axes.plot(list(line), list(line.values()), color=colour, linestyle=style, linewidth=0.6, alpha=0.6)
        mean = _mean_line(lines)
        marker = "." if len(mean) <= MOST_MARKED_POINTS else ""
        axes.plot(list(mean), list(mean.values()), marker=marker, color=colour, linestyle=style, linewidth=1.5)


def _look(place: int) -> tuple[str, str]:
    """Return the colour and the line style of the arm at this place."""
    round_, colour = divmod(place, len(ARM_COLOURS))
    return ARM_COLOURS[colour], LINE_STYLES[round_ % len(LINE_STYLES)]


def _mean_line(lines: Sequence[_Line]) -> _Line:
    shared = set(lines[0]).intersection(*lines[1:]) if lines else set()
    return {epoch: fmean(line[epoch] for line in lines) for epoch in sorted(shared)}


def _label_lines(axes: "Axes", arms: Mapping[str, Sequence[_Line]]) -> None:
    """Write each arm's name beside the end of its mean line, moved apart where ends meet."""
    means = [(arm, place, _mean_line(lines)) for place, (arm, lines) in enumerate(arms.items())]
    ends = sorted((mean[max(mean)], place, arm) for arm, place, mean in means if mean)
    bottom, top = axes.get_ylim()
    heights = _moved_apart([(end - bottom) / (top - bottom) for end, _, _ in ends])
    for height, (_, place, arm) in zip(heights, ends, strict=True):
        colour, style = _look(place)
        name = arm if style == LINE_STYLES[0] else f"{arm} ({style})"
        axes.text(1.02, height, name, color=colour, transform=axes.transAxes, va="center")


def _moved_apart(heights: Sequence[float]) -> list[float]:
    """Return ascending heights at least `LABEL_GAP` apart, their mean where it was unless that is too low."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + LABEL_GAP) if moved else height)
    shift = min(fmean(moved) - fmean(heights), moved[0]) if moved else 0.0
    return [height - shift for height in moved]


def _draw_scores(axes: "Axes", arms: Sequence[ArmSummary], metric: Metric) -> None:
    """Draw one score of every arm; seeds are joined because differences between arms are taken seed by seed."""
    estimates = {place: arm.estimates[metric.key] for place, arm in enumerate(arms)}
    drawn = {place: estimate for place, estimate in estimates.items() if estimate}
    for seed in sorted({seed for estimate in drawn.values() for seed in estimate.by_seed}):
        points = {place: estimate.by_seed[seed] for place, estimate in drawn.items() if seed in estimate.by_seed}
        axes.plot(list(points), list(points.values()), "o-", color="#0072B2", markersize=4, linewidth=0.6, alpha=0.6)
    means = [estimate.mean for estimate in drawn.values()]
    axes.hlines(means, [place - 0.25 for place in drawn], [place + 0.25 for place in drawn], color="black", linewidth=2)
    axes.margins(y=0.15)
    axes.set_title(f"{metric.title} ({metric.unit})" if metric.unit else metric.title)
    _name_arms(axes, arms)


def _name_arms(axes: "Axes", arms: Sequence[ArmSummary]) -> None:
    names = _tick_names(arms)
    tilt = _is_long(names)
    axes.set_xticks(range(len(names)), names, rotation=30 if tilt else 0, ha="right" if tilt else "center")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel("alpha" if _only_alphas(arms) else "arm")
    axes.grid(visible=False, axis="x")


def _tick_names(arms: Sequence[ArmSummary]) -> list[str]:
    return [arm.name.removeprefix("alpha=") if _only_alphas(arms) else arm.name for arm in arms]


def _only_alphas(arms: Sequence[ArmSummary]) -> bool:
    return all(arm.name.startswith("alpha=") for arm in arms)


def _is_long(names: Sequence[str]) -> bool:
    return max(map(len, names)) > WIDEST_LEVEL_TICK


def _tick_height(names: Sequence[str]) -> float:
    """Return the inches that tilted names need below a panel."""
    return 0.045 * max(map(len, names)) if _is_long(names) else 0.0


def _draw_base(axes: "Axes", value: float | None, metric: Metric) -> None:
    if value is None:
        return
    bottom, top = axes.get_ylim()
    reach = FAR_BASE * (top - bottom)
    if bottom - reach <= value <= top + reach:
        axes.axhline(value, color="#666666", linestyle="--", linewidth=1)
        axes.annotate("base", (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#666666")
    else:
        side, height = ("below", 0.05) if value < bottom else ("above", 0.97)
        note = f"base {metric.number(value)}, {side}"
        axes.text(1, height, note, transform=axes.transAxes, ha="right", va="center", color="#666666", fontsize=8)
