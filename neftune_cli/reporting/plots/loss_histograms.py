"""Losses of single examples, of training examples without noise and of held-out ones (paper's figure 4)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neftune_cli.analysis.results import Comparison
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.reporting.plots.canvas import WIDTH, Plot, Words, panel, plot
from neftune_cli.reporting.plots.labels import key
from neftune_cli.reporting.plots.looks import Look, drawn_arms, looks_in, ranked
from neftune_cli.reporting.plots.names import short_name, short_names
from neftune_cli.reporting.plots.omissions import LONGEST_NAME, listed, sentences
from neftune_cli.reporting.plots.pooled import Bins, common_bins, few_bins, outline, pooled
from neftune_cli.reporting.plots.scales import limits, set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES: Final = {
    "train_loss_clean": "Training examples, noise off",
    "eval_loss": "Held-out examples",
}
"""Metric whose items are counted to the title of its panel."""
_LONGEST_KEY: Final = 26
_PANEL, _BOTTOM, _TOP, _LEFT, _BETWEEN = 168.0, 38.0, 58.0, 40.0, 44.0


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
    height = _TOP + _PANEL + _BOTTOM
    return plot(_words(panels, list(shown)), height, lambda figure: _draw(figure, panels, shown))


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


def _words(panels: Sequence[Losses], arms: Sequence[str]) -> Words:
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


def _draw(figure: "Figure", panels: Sequence[Losses], arms: Mapping[str, Look]) -> None:
    short = short_names(arms, _LONGEST_KEY)
    key(figure, [(short[arm], look) for arm, look in arms.items()], _LEFT)
    width = (WIDTH - len(panels) * _LEFT - _BETWEEN * (len(panels) - 1) - 10) / len(panels)
    for place, losses in enumerate(panels):
        axes = panel(figure, (_LEFT + place * (width + _LEFT + _BETWEEN), _BOTTOM, width, _PANEL))
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
