"""How long the answers are: a histogram an arm, one under the other, with the base and the references."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import Floats, Measurements
from neftune_cli.evidence.metrics import METRICS
from neftune_cli.reporting.plots.canvas import FAINT, SMALL, WIDTH, Plot, Words, panel, plot
from neftune_cli.reporting.plots.looks import BASE_LOOK, BASELINE_LOOK, Look, drawn_arms, looks
from neftune_cli.reporting.plots.names import short_name, short_names, text_width
from neftune_cli.reporting.plots.omissions import LONGEST_NAME, arms_left_out, sentences
from neftune_cli.reporting.plots.pooled import Bins, common_bins, outline, pooled
from neftune_cli.reporting.plots.scales import set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LENGTH: Final = "response_chars"
REFERENCE_LENGTH: Final = "reference_chars"
"""Items of this name, where trials have them, are the lengths of the references."""
BINS: Final = 60
_LONGEST_LABEL: Final = 22
_ROW, _BOTTOM, _TOP, _MEAN = 36.0, 38.0, 8.0, 48.0
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
    height = _TOP + len(rows) * _ROW + _BOTTOM
    return plot(_words(comparison, rows), height, lambda figure: _draw(figure, rows, bins))


def _rows(trials: Sequence[Measurements], comparison: Comparison) -> list[Row]:
    look = looks([arm.name for arm in drawn_arms(comparison)])
    of_arms = {arm: pooled([trial for trial in trials if trial.arm == arm], LENGTH) for arm in (BASE_ARM, *look)}
    # All trials answer the same prompts.
    answered = [trial for trial in trials if REFERENCE_LENGTH in trial.items][:1]
    references = Row("references", BASELINE_LOOK, pooled(answered, REFERENCE_LENGTH))
    rows = (references, *(Row(arm, look.get(arm, BASE_LOOK), lengths) for arm, lengths in of_arms.items()))
    return [row for row in rows if len(row.lengths)]


def _words(comparison: Comparison, rows: Sequence[Row]) -> Words:
    parts = [
        "Share of the answers to held-out prompts by their length in characters, all seeds together, on one scale.",
        "Upright lines and numbers are means.",
        "The outermost bins take in what lies beyond.",
        arms_left_out(comparison, len(drawn_arms(comparison))),
    ]
    means = (f"{short_name(row.name, LONGEST_NAME)} {row.mean}" for row in rows)
    return Words("answer-lengths", "Length of the answers", sentences(parts), f"Mean characters: {', '.join(means)}.")


def _draw(figure: "Figure", rows: Sequence[Row], bins: Bins) -> None:
    labels = short_names((row.name for row in rows), _LONGEST_LABEL)
    left = max(text_width(label, SMALL) for label in labels.values()) + 10
    axes = panel(figure, (left, _BOTTOM, WIDTH - left - _MEAN, len(rows) * _ROW))
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
