"""Pictures of a comparison, as SVG: the same input gives the same bytes."""

from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.plots.gallery import all_plots
from neftune_cli.reporting.plots.svg import standalone

__all__ = ["Plot", "all_plots", "standalone"]
