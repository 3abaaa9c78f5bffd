"""From a sweep's folder to its comparison, and from the comparison to the report beside the trials."""

from neftune_cli.analysis.comparison import Comparison, compare_arms
from neftune_cli.records import CurvePoint
from neftune_cli.reporting.export import summary_markdown
from neftune_cli.store import SweepFolder


def compare_sweep(folder: SweepFolder, baseline: str | None = None) -> Comparison:
    """Compare the finished trials of one sweep.

    Raises:
        NothingToCompareError: no trained trial has finished.
        UsageError: no arm or more than one answers to `baseline`, or two trials have the same arm and seed.
    """
    return compare_arms(folder.name, folder.records(), baseline, folder.unfinished())


def write_reports(folder: SweepFolder, comparison: Comparison) -> None:
    """Write summary.md, plots/loss.png and plots/eval.png into the sweep's folder.

    Raises:
        OSError: the folder can't be written.
    """
    from neftune_cli.reporting.plots import plot_eval, plot_loss_curves

    folder.write_text("summary.md", summary_markdown(comparison))
    plots = folder.plots_folder()
    plot_loss_curves(_curves(folder), plots / "loss.png")
    plot_eval(comparison, plots / "eval.png")


def _curves(folder: SweepFolder) -> dict[tuple[str, int], list[CurvePoint]]:
    trained = [(record, record.seed) for record in folder.records()]
    return {(record.arm, seed): folder.curve(record.trial) for record, seed in trained if seed is not None}
