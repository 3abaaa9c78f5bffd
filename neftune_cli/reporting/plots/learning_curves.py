"""Losses over epochs: noisy and noise-off training loss and held-out loss, a colour an arm."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neftune_cli.analysis.results import Comparison
from neftune_cli.analysis.wording import listed
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.evidence.metrics import METRICS
from neftune_cli.records import CurvePoint
from neftune_cli.reporting.plots.canvas import SMALL, WIDTH, Plot, Words, panel, plot
from neftune_cli.reporting.plots.captions import (
    LONGEST_NAME,
    arms_left_out,
    sentences,
    short_name,
    short_names,
    text_width,
)
from neftune_cli.reporting.plots.styles import (
    LEADER,
    LineEnd,
    Look,
    drawn_arms,
    is_wide,
    label_ends,
    limits,
    looks,
    set_scale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES: Final = {key: METRICS[key].name for key in ("train_loss", "train_loss_clean", "eval_loss")}
"""Field of a logged point to the title of its panel."""
WINDOWS: Final = 20
"""Parts of the training that step losses are averaged in."""
MOST_POINTS: Final = 50
"""A line of more points is averaged in windows, or it would be noise to the eye."""
_LONGEST_LABEL: Final = 14
_MARKED: Final = 12
"""Lines of fewer points show them, so that an evaluation an epoch isn't taken for a continuous curve."""

Line = Mapping[float, float]
"""Epoch to loss in nats."""


@dataclass(frozen=True)
class Course:
    """One loss of one arm over the training: mean and range over seeds, at the epochs that all its seeds have."""

    epochs: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: int
    logged: int
    """Points of its longest line, before any were averaged."""
    end: float
    """Last epoch with a point, before any were averaged."""


Panels = Mapping[str, Mapping[str, Course]]
"""Loss to arm to its course; losses that no arm has logged are left out."""


def learning_curves(trials: Sequence[Measurements], comparison: Comparison) -> Plot | None:
    """Return the plot of the arms that are drawn everywhere; None where nothing was logged."""
    arms = [arm.name for arm in drawn_arms(comparison)]
    panels = _panels(trials, arms)
    if not panels:
        return None
    words = _words(panels, arms_left_out(comparison, len(arms)))
    return plot(words, _HEIGHT, lambda figure: _draw(figure, panels, arms))


def course(lines: Sequence[Line], end: float) -> Course | None:
    """Return mean and range of the seeds' lines, each not empty, where all have points; None where they share none.

    `end` is the last epoch of any arm: all are averaged in the same windows.
    """
    smooth = [smoothed(line, end) for line in lines]
    shared = sorted(set(smooth[0]).intersection(*smooth[1:])) if smooth else []
    if not shared:
        return None
    values = np.array([[line[epoch] for epoch in shared] for line in smooth])  # (seeds, epochs)
    mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    return Course(np.array(shared), mean, low, high, len(lines), max(map(len, lines)), max(map(max, lines)))


def smoothed(line: Line, end: float) -> Line:
    """Return means over `WINDOWS` equal parts of the time up to `end`, at their middles; short lines as they are."""
    if len(line) <= MOST_POINTS:
        return line
    parts: dict[int, list[float]] = {}
    for epoch, loss in line.items():
        # A window has its right end: the last step of an epoch belongs to that epoch.
        parts.setdefault(math.ceil(epoch / end * WINDOWS - 1e-9) - 1, []).append(loss)
    return {(part + 0.5) * end / WINDOWS: sum(losses) / len(losses) for part, losses in parts.items()}


def _panels(trials: Sequence[Measurements], arms: Sequence[str]) -> Panels:
    curves = {arm: [trial.curve for trial in trials if trial.arm == arm] for arm in arms}
    panels = {loss: _courses(curves, loss) for loss in LOSSES}
    return {loss: courses for loss, courses in panels.items() if courses}


def _courses(curves: Mapping[str, Sequence[Sequence[CurvePoint]]], loss: str) -> dict[str, Course]:
    lines = {arm: [line for points in seeds if (line := _line(points, loss))] for arm, seeds in curves.items()}
    end = max((epoch for seeds in lines.values() for line in seeds for epoch in line), default=0.0)
    courses = {arm: course(seeds, end) for arm, seeds in lines.items()}
    return {arm: found for arm, found in courses.items() if found}


def _line(points: Iterable[CurvePoint], loss: str) -> Line:
    values = ((point.epoch, getattr(point, loss)) for point in points)
    return {epoch: value for epoch, value in values if value is not None and math.isfinite(value)}


def _words(panels: Panels, left_out: str) -> Words:
    every = [found for courses in panels.values() for found in courses.values()]
    bands = "; bands reach from the lowest to the highest seed" if any(one.seeds > 1 for one in every) else ""
    wide = [METRICS[loss].name_within for loss, courses in panels.items() if _is_wide(courses)]
    parts = [f"Mean over seeds of the losses in nats per completion token{bands}."]
    if any(one.logged > MOST_POINTS for one in every):
        parts.append(
            f"Losses logged at more than {MOST_POINTS} steps are averaged over each {WINDOWS}th of the training."
        )
    if wide:
        parts.append(f"Logarithmic axis: {listed(wide)}.")
    ends = (f"{LOSSES[loss]} ends at {_ends(courses)}." for loss, courses in panels.items())
    return Words("learning-curves", "Losses over the training", sentences([*parts, left_out]), " ".join(ends))


def _ends(courses: Mapping[str, Course]) -> str:
    return ", ".join(f"{found.mean[-1]:.4g} ({short_name(arm, LONGEST_NAME)})" for arm, found in courses.items())


def _is_wide(courses: Mapping[str, Course]) -> bool:
    return is_wide(_range(courses))


def _range(courses: Mapping[str, Course]) -> list[float]:
    return [float(value) for found in courses.values() for value in (*found.low, *found.high)]


_HEIGHT, _BOTTOM, _TOP, _LEFT = 270.0, 38.0, 24.0, 34.0


def _draw(figure: "Figure", panels: Panels, arms: Sequence[str]) -> None:
    names = short_names(arms, _LONGEST_LABEL)
    beside = LEADER + max(text_width(name, SMALL) for name in names.values())
    slot = WIDTH / len(panels)
    for place, (loss, courses) in enumerate(panels.items()):
        box = (place * slot + _LEFT + 8, _BOTTOM, slot - _LEFT - 8 - beside, _HEIGHT - _BOTTOM - _TOP)
        axes = panel(figure, box)
        _draw_courses(axes, courses, arms)
        _label(axes, courses, names)
        axes.set_title(LOSSES[loss])
        axes.set_xlabel("epoch")
        if not place:
            axes.set_ylabel("nats per completion token")


def _draw_courses(axes: "Axes", courses: Mapping[str, Course], arms: Sequence[str]) -> None:
    for arm, look in looks(arms).items():
        if found := courses.get(arm):
            marker = look.marker if len(found.epochs) <= _MARKED else ""
            if found.seeds > 1:
                _draw_range(axes, found, look)
            line: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "marker": marker, "markersize": 4}
            axes.plot(found.epochs, found.mean, clip_on=False, **line)


def _draw_range(axes: "Axes", found: Course, look: Look) -> None:
    if len(found.epochs) > 1:
        axes.fill_between(found.epochs, found.low, found.high, color=look.colour, alpha=0.13, linewidth=0)
    else:
        axes.vlines(found.epochs, found.low, found.high, color=look.colour, alpha=0.4, linewidth=3, clip_on=False)


def _label(axes: "Axes", courses: Mapping[str, Course], names: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(found.end for found in courses.values())
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=last >= 1))
    axes.set_ylim(*limits(_range(courses), logarithmic=_is_wide(courses)))
    set_scale(axes, axes.yaxis, logarithmic=_is_wide(courses))
    look = looks(list(names))
    ends = [LineEnd(names[arm], look[arm], found.epochs[-1], found.mean[-1]) for arm, found in courses.items()]
    label_ends(axes, ends)
