"""Runs of a finished sweep for a tracker: one for each trial, and one with the comparison."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from neftune_cli.analysis.compared_evidence import compare_sweep
from neftune_cli.config.run_settings import Tracking
from neftune_cli.errors import NothingToCompareError
from neftune_cli.records import CurvePoint, scores_of
from neftune_cli.reporting.columns import exported_assessment
from neftune_cli.store import SweepFolder
from neftune_cli.trackers import TrackedRun, circumstances, finite, make_tracker, trial_parameters

REPORT_FILES = ("report.html", "summary.md", "loss.csv", "eval.csv")
_CURVES = ("train_loss", "train_loss_clean", "eval_loss", "learning_rate")


def tracked_runs(sweep: SweepFolder) -> Iterator[TrackedRun]:
    """Yield the finished trials of a sweep in the order of its tables, and then its comparison.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    manifest = sweep.manifest()
    for folder, record in sweep.finished():
        yield TrackedRun(
            name=folder.label,
            id=record.trial,
            parameters=trial_parameters(record.arm, record.alpha, record.seed, record.identity, manifest),
            curves=[(point.step, _values(point)) for point in folder.curve()],
            scores=finite(scores_of(record)),
        )
    yield comparison_run(sweep)


def write_comparison(tracking: Tracking, sweep: SweepFolder) -> Iterator[str]:
    """Write the comparison of a sweep to the trackers of its trials. Yield a line for each one that fails.

    A sweep of which no training has finished has no comparison.
    """
    try:
        run = comparison_run(sweep)
    except NothingToCompareError:
        return
    for name in tracking.trackers:
        try:
            make_tracker(name, Path(tracking.folder, name)).write(sweep.name, run)
        except Exception as error:  # trackers raise errors of many types, and none may fail the sweep
            yield f"--track {name}: the comparison was not written: {error}"


def comparison_run(sweep: SweepFolder) -> TrackedRun:
    """Return the comparison of a sweep: verdicts, differences and intervals, with the report.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    manifest = sweep.manifest()
    (compared, *_) = compare_sweep(sweep)
    comparison = compared.comparison
    verdicts: dict[str, str | int | float] = {"baseline": comparison.baseline, "primary": comparison.primary}
    scores: dict[str, float | None] = {}
    for arm in comparison.treated:
        for metric in comparison.metrics:
            if exported := exported_assessment(comparison.assessment(arm.name, metric)):
                verdicts[f"{metric}/{arm.name}/verdict"] = exported.verdict or "none"
                numbers = exported.model_dump(include={"difference", "interval_low", "interval_high", "p_adjusted"})
                scores |= {f"{metric}/{arm.name}/{name}": value for name, value in numbers.items()}
    return TrackedRun(
        name="comparison",
        id=f"comparison-{comparison.manifest_digest or ''}"[:40],
        parameters={**verdicts, **circumstances(manifest)},
        scores=finite(scores),
        files=[path for name in REPORT_FILES if (path := sweep.path / name).is_file()],
    )


def _values(point: CurvePoint) -> Mapping[str, float]:
    return finite({name: getattr(point, name) for name in _CURVES})
