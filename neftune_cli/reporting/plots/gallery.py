"""All plots of a comparison."""

from collections.abc import Sequence
from dataclasses import replace

from neftune_cli.analysis.results import Comparison
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.reporting.plots.answer_lengths import answer_lengths
from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.plots.learning_curves import learning_curves
from neftune_cli.reporting.plots.looks import drawn_arms
from neftune_cli.reporting.plots.loss_by_alpha import loss_by_alpha
from neftune_cli.reporting.plots.loss_histograms import loss_histograms
from neftune_cli.reporting.plots.omissions import arms_left_out, sentences
from neftune_cli.reporting.plots.paired_differences import paired_differences


def all_plots(comparison: Comparison, trials: Sequence[Measurements]) -> dict[str, Plot]:
    """Return every plot there is something to draw for, by name, in the order of a report."""
    found = (
        loss_by_alpha(comparison),
        paired_differences(comparison),
        _curves(comparison, trials),
        loss_histograms(trials, comparison),
        answer_lengths(trials, comparison),
    )
    return {one.name: one for one in found if one}


def _curves(comparison: Comparison, trials: Sequence[Measurements]) -> Plot | None:
    arms = [arm.name for arm in drawn_arms(comparison)]
    found = learning_curves(trials, arms)
    return found and replace(found, caption=sentences((found.caption, arms_left_out(comparison, len(arms)))))
