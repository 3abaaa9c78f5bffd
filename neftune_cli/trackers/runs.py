"""Runs of a finished sweep for a tracker: one for each trial, and one for each comparison."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from neftune_cli.analysis.comparison import ComparedEvidence, compare_sweep
from neftune_cli.config.run_settings import Tracking
from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.evidence.lm_eval_runs import run_of_trial
from neftune_cli.records import CurvePoint, scores_of, task_scores
from neftune_cli.reporting.columns import exported_assessment
from neftune_cli.store import EVAL_FILE, LOSS_FILE, REPORT_FILE, SUMMARY_FILE, SweepFolder, TrialFolder
from neftune_cli.trackers import Parameters, TrackedRun, circumstances, finite_values, make_tracker, trial_parameters

REPORT_FILES = (REPORT_FILE, SUMMARY_FILE, LOSS_FILE, EVAL_FILE)
_WITHOUT_CURVE = {"step", "epoch", "tokens", "eval_examples"}
"""Fields of a `CurvePoint` that count."""


def tracked_runs(sweep: SweepFolder) -> Iterator[TrackedRun]:
    """Yield the finished trials of a sweep in the order of its tables, and then its comparisons.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    manifest = sweep.manifest()
    for folder, record in sweep.finished():
        yield TrackedRun(
            name=folder.folder_label,
            id=record.trial,
            parameters=trial_parameters(record.arm, record.alpha, record.seed, record.identity, manifest),
            curves=[(point.step, _values(point)) for point in folder.curve()],
            scores=finite_values({**scores_of(record), **_task_scores(folder)}),
        )
    yield from comparison_runs(sweep)


def write_comparison(
    tracking: Tracking, sweep: SweepFolder, compared: Sequence[ComparedEvidence] | None = None
) -> Iterator[str]:
    """Write the comparisons of a sweep to the trackers of its trials. Yield a line for each tracker that fails.

    A sweep of which no training run has finished has no comparison.

    Args:
        tracking: the trackers, and the folder of their files.
        sweep: the sweep.
        compared: its comparisons, if they are known.
    """
    try:
        runs = comparison_runs(sweep, compared)
    except NothingToCompareError:
        return
    except UsageError as error:  # for example because a network drive was lost, which the end of the sweep reports
        yield f"--track: the comparison was not written: {error}"
        return
    for name in tracking.trackers:
        try:
            tracker = make_tracker(name, Path(tracking.folder, name), "--track")
            for run in runs:
                tracker.write(sweep.name, run)
        except Exception as error:  # trackers raise errors of many types, and none may fail the sweep
            yield f"--track {name}: the comparison was not written: {error}"


def comparison_runs(sweep: SweepFolder, compared: Sequence[ComparedEvidence] | None = None) -> list[TrackedRun]:
    """Return the comparisons of a sweep: several if its trials differ in more than their arm and seed.

    Each has verdicts, differences and intervals, and the files of the report.

    Args:
        sweep: the sweep.
        compared: its comparisons, if they are known.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    compared, about = compare_sweep(sweep) if compared is None else compared, circumstances(sweep.manifest())
    files = [path for name in REPORT_FILES if (path := sweep.path / name).is_file()]
    return [
        _comparison_run(one, about, files, part=number if len(compared) > 1 else None)
        for number, one in enumerate(compared, start=1)
    ]


def _comparison_run(
    compared: ComparedEvidence, about: Parameters, files: Sequence[Path], *, part: int | None
) -> TrackedRun:
    comparison = compared.comparison
    verdicts: dict[str, str | int | float] = {"baseline": comparison.baseline, "primary": comparison.primary}
    if difference := compared.evidence.difference_from_first:
        verdicts["difference_from_first"] = difference
    scores: dict[str, float | None] = {}
    for arm in comparison.treated:
        for metric in comparison.metrics:
            if exported := exported_assessment(comparison.assessment(arm.name, metric)):
                verdicts[f"{metric}/{arm.name}/verdict"] = exported.verdict or "none"
                numbers = exported.model_dump(include={"difference", "interval_low", "interval_high", "p_adjusted"})
                scores |= {f"{metric}/{arm.name}/{name}": value for name, value in numbers.items()}
    id_of_part = f"comparison-{part}" if part and part > 1 else "comparison"
    return TrackedRun(
        name=f"comparison, part {part}" if part else "comparison",
        id=f"{id_of_part}-{comparison.manifest_digest or ''}"[:40],
        parameters={**verdicts, **about},
        scores=finite_values(scores),
        files=files,
    )


def _task_scores(folder: TrialFolder) -> Mapping[str, float]:
    """Return the scores of the tasks of lm-evaluation-harness by the keys of their metrics; empty without tasks."""
    run = run_of_trial(folder)
    results = {} if run is None else {task: results.tasks[task] for task, results in run.newest.items()}
    return task_scores(results)


def _values(point: CurvePoint) -> Mapping[str, float]:
    return finite_values(point.model_dump(exclude=_WITHOUT_CURVE))
