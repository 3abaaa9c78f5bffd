"""Runs of a finished sweep for a tracker: one for each trial, and one with the comparison."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from neftune_cli.evidence.sweeps import scores_of
from neftune_cli.records import CurvePoint, TrialRecord
from neftune_cli.reporting.columns import exported_assessment
from neftune_cli.reporting.reports import compare_sweep
from neftune_cli.store import SweepFolder
from neftune_cli.trackers import Parameters, TrackedRun

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
            parameters={**_factors(record), **_circumstances(manifest)},
            curves=[(point.step, _values(point)) for point in folder.curve()],
            scores=_finite(scores_of(record)),
        )
    yield _comparison(sweep, manifest)


def _comparison(sweep: SweepFolder, manifest: Mapping[str, Any]) -> TrackedRun:
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
        parameters={**verdicts, **_circumstances(manifest)},
        curves=(),
        scores=_finite(scores),
        files=[path for name in REPORT_FILES if (path := sweep.path / name).is_file()],
    )


def _factors(record: TrialRecord) -> Parameters:
    """Return the arm, the seed, and everything that identifies the trial, by dotted name."""
    own = {"arm": record.arm, "alpha": record.alpha, "seed": record.seed}
    return dict(_flat({**own, **record.identity}))


def _circumstances(manifest: Mapping[str, Any]) -> Parameters:
    kept = ("model", "data", "versions", "hardware", "git")
    return dict(_flat({name: manifest[name] for name in kept if name in manifest}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, int | float | str) else str(value)


def _values(point: CurvePoint) -> Mapping[str, float]:
    return _finite({name: getattr(point, name) for name in _CURVES})


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
