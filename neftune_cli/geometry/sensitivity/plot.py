"""The figure of a sensitivity measurement: six panels over alpha, with measured points and closed-form lines."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter, ScalarFormatter

from neftune_cli.geometry.output import RenderedFigure, figure_style, render
from neftune_cli.geometry.sensitivity.measurement import PAPER_ALPHAS, Sensitivity, equivalent_alphas
from neftune_cli.geometry.sensitivity.report import title, two_digits

BLUE, ORANGE, GREEN, YELLOW, GREY = "#0072B2", "#D55E00", "#009E73", "#F0E442", "#666666"
"""Colours of Okabe and Ito's palette, which colour-blind readers can distinguish."""
PANEL = (3.3, 2.5)
"""Width and height in inches."""

_STYLE = {
    "figure.constrained_layout.use": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.4,
}


def plot_sensitivity(sensitivity: Sensitivity) -> RenderedFigure:
    """Return the figure, the same bytes for the same sensitivity.

    Panels: L2 change, its ratios to embedding norm and neighbor distance, cosine similarity, signal to noise, share of
    tokens that are nearest to another token, and divergence of the next-token distribution. The paper's alphas are
    shaded.
    """
    rows, columns = 2, 3
    with figure_style(_STYLE):
        figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.6))
        for draw, axes in zip(_PANELS, figure.subplots(rows, columns).flat, strict=True):
            draw(axes, sensitivity)
            _mark_alphas(axes, sensitivity)
        _add_title_and_legend(figure, sensitivity)
        return render(figure)


def _draw_l2_change(axes: Axes, sensitivity: Sensitivity) -> None:
    axes.set_title("L2 change of an embedding")
    _line(axes, sensitivity, [formula.l2_change for _, formula in sensitivity.closed_forms])
    _dots(axes, sensitivity, [row.measured.l2_change for row in sensitivity.alphas])
    axes.set_ylim(bottom=0)


def _draw_ratios(axes: Axes, sensitivity: Sensitivity) -> None:
    axes.set_title("L2 change relative to")
    to_norm = [row.norm_ratio for row in sensitivity.alphas]
    to_neighbour = [row.neighbour_ratio for row in sensitivity.alphas]
    for shares, name, colour in (
        (to_norm, "the embedding norm", BLUE),
        (to_neighbour, "the neighbor distance", ORANGE),
    ):
        axes.plot([row.alpha for row in sensitivity.alphas], shares, "o-", color=colour, label=name)
    axes.legend(loc="upper left", frameon=False, handlelength=1.2, borderaxespad=0.2)
    axes.set_ylim(bottom=0, top=max(1.25 * max(to_norm + to_neighbour), 0.01))
    _percent_axis(axes)


def _draw_cosine(axes: Axes, sensitivity: Sensitivity) -> None:
    axes.set_title("Cosine similarity to the clean embedding")
    _line(axes, sensitivity, [formula.cosine for _, formula in sensitivity.closed_forms])
    _dots(axes, sensitivity, [row.measured.cosine for row in sensitivity.alphas])


def _draw_signal_to_noise(axes: Axes, sensitivity: Sensitivity) -> None:
    axes.set_title("Signal to noise, norm over norm")
    smallest = min((row.alpha for row in sensitivity.alphas if row.alpha), default=math.inf)
    line = [(alpha, formula.signal_to_noise) for alpha, formula in sensitivity.closed_forms if alpha >= smallest]
    axes.plot([alpha for alpha, _ in line], [value for _, value in line], color=GREY)
    _dots(axes, sensitivity, [row.measured.signal_to_noise for row in sensitivity.alphas])
    if line:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_changed(axes: Axes, sensitivity: Sensitivity) -> None:
    """Draw the share on a longer axis: tokens change at alphas far above those in use."""
    axes.set_title("Tokens nearest to another token")
    turns = [alpha for alpha in sensitivity.turning_alphas if math.isfinite(alpha)]
    reached = [place / (len(sensitivity.turning_alphas) - 1) for place in range(len(turns))]
    axes.plot([0, *turns[:1], *turns], [0, *reached[:1], *reached], color=BLUE)
    _dots(axes, sensitivity, [row.changed for row in sensitivity.alphas])
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(0, 1.3 * max(*turns, sensitivity.alphas[-1].alpha, PAPER_ALPHAS[-1]))
    axes.set_xticks([0, 1, *(tick for tick in (10, 100, 1000, 10_000) if tick < axes.get_xlim()[1])])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("alpha (log scale)")
    _percent_axis(axes)


def _draw_divergence(axes: Axes, sensitivity: Sensitivity) -> None:
    axes.set_title("KL of the next-token distribution, nats")
    axes.plot(
        [row.alpha for row in sensitivity.alphas], [row.divergence for row in sensitivity.alphas], "o-", color=BLUE
    )
    axes.set_ylim(bottom=0)


_PANELS = (_draw_l2_change, _draw_ratios, _draw_cosine, _draw_signal_to_noise, _draw_changed, _draw_divergence)


def _line(axes: Axes, sensitivity: Sensitivity, values: Sequence[float]) -> None:
    axes.plot([alpha for alpha, _ in sensitivity.closed_forms], values, color=GREY)


def _dots(axes: Axes, sensitivity: Sensitivity, values: Sequence[float]) -> None:
    finite = [(row.alpha, value) for row, value in zip(sensitivity.alphas, values, strict=True) if math.isfinite(value)]
    axes.plot([alpha for alpha, _ in finite], [value for _, value in finite], "o", color=BLUE)


def _percent_axis(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def _mark_alphas(axes: Axes, sensitivity: Sensitivity) -> None:
    """Shade the paper's alphas, and mark the equivalent alphas at the top."""
    if not axes.get_xlabel():
        axes.set_xlabel("alpha")
        axes.set_xlim(*_linear_limits(sensitivity))
    left, right = axes.get_xlim()
    low, high = _equivalent_range(sensitivity)
    axes.axvspan(PAPER_ALPHAS[0], PAPER_ALPHAS[-1], color=YELLOW, alpha=0.22, linewidth=0, zorder=0)
    if low < right:
        above = axes.get_xaxis_transform()
        axes.hlines(1.015, low, min(high, right), color=GREEN, linewidth=2.5, transform=above, clip_on=False)
    axes.set_xlim(left, right)


def _linear_limits(sensitivity: Sensitivity) -> tuple[float, float]:
    """Return axis limits that include the measured alphas and the paper's."""
    largest = max(sensitivity.alphas[-1].alpha, PAPER_ALPHAS[-1])
    return -0.02 * largest, 1.02 * largest


def _equivalent_range(sensitivity: Sensitivity) -> tuple[float, float]:
    alphas = list(equivalent_alphas(sensitivity.scale).values())
    return alphas[0], alphas[-1]


def _add_title_and_legend(figure: Figure, sensitivity: Sensitivity) -> None:
    """Add the title and one legend for all panels."""
    low, high = _equivalent_range(sensitivity)
    figure.suptitle(title(sensitivity), x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color=BLUE, label="measured"),
            Line2D([], [], color=GREY, label="closed form"),
            Patch(color=YELLOW, alpha=0.35, linewidth=0, label="alpha 5 to 15 (paper)"),
            Line2D([], [], color=GREEN, linewidth=3, label=f"{two_digits(low)} to {two_digits(high)}, {_SAME_RATIO}"),
        ],
        loc="outside lower left",
        ncols=4,
        frameon=False,
        columnspacing=1.3,
        handlelength=1.5,
        handletextpad=0.6,
    )


_SAME_RATIO = "same ratio to the embedding norm as on LLaMA-2-7B (estimate)"
