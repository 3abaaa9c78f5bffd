"""Plots of a comparison as SVG: equal input gives equal bytes."""

from collections.abc import Sequence

from neftune_cli.analysis.results import Comparison
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.reporting.plots.canvas import Plot, standalone
from neftune_cli.reporting.plots.histograms import loss_histograms, response_lengths
from neftune_cli.reporting.plots.learning_curves import learning_curves
from neftune_cli.reporting.plots.metric_by_arm import metric_by_arm
from neftune_cli.reporting.plots.paired_differences import paired_differences

__all__ = ["Plot", "all_plots", "standalone"]


def all_plots(comparison: Comparison, trials: Sequence[Measurements]) -> dict[str, Plot]:
    """Return the plots that have data, by name, in the order of the report."""
    found = (
        metric_by_arm(comparison),
        paired_differences(comparison),
        learning_curves(trials, comparison),
        loss_histograms(trials, comparison),
        response_lengths(trials, comparison),
    )
    return {one.name: one for one in found if one}
