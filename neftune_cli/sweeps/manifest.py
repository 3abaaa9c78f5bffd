"""Manifest of a sweep: versions, hardware, fingerprints, times, estimated and actual cost."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neftune_cli.config.process import typed_command
from neftune_cli.formatting import utc_now
from neftune_cli.records import TrialState
from neftune_cli.store import ACTUAL_COST, SweepFolder
from neftune_cli.sweeps.estimate import CostEstimate
from neftune_cli.sweeps.plan import Plan, steps_of
from neftune_cli.training.trial import Trial

_PACKAGES = (
    "neftune",
    "torch",
    "transformers",
    "trl",
    "datasets",
    "accelerate",
    "peft",
    "tokenizers",
    "numpy",
    "pandas",
)
_STATUS_FIELDS = ("seconds", "peak_memory", "attempts", "parameters", "trained_parameters")
"""Fields of the status of a finished trial that the manifest keeps."""


def new_manifest(
    plan: Plan,
    folder: Path,
    before: dict[str, Any],
    notes: Sequence[str],
    *,
    workers: dict[str, int],
) -> dict[str, Any]:
    """Return the manifest of a sweep that starts or resumes, with earlier values of start, times and trials."""
    environment = plan.inspection.environment
    return {
        "started": before.get("started", utc_now()),
        "ended": None,
        "command": list(typed_command()),
        "directory": str(Path.cwd()),
        "folder": str(folder),
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git_state(),
        "hardware": {
            **{name: environment[name] for name in ("device", "precision") if name in environment},
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "workers": workers,
        "model": plan.spec.model,
        "data": plan.data.name,
        "fingerprints": {"model": plan.model.fingerprint, "data": plan.data.fingerprint},
        "notes": list(notes),
        "plan": [
            {"trial": trial.id, "arm": trial.arm, "seed": trial.seed, "steps": steps_of(trial, plan.data.train)}
            for trial in plan.trials
        ],
        "estimate": before.get("estimate"),
        ACTUAL_COST: before.get(ACTUAL_COST),
        "trials": before.get("trials", {}),
        "looks": before.get("looks", []),
    }


def with_estimate(manifest: dict[str, Any], estimate: CostEstimate) -> dict[str, Any]:
    """Return the manifest with an estimate of trials, added to the one of earlier trials."""
    before = manifest.get("estimate")
    whole = CostEstimate.from_json(before).joined(estimate) if before else estimate
    return {**manifest, "estimate": whole.as_json()}


def unestimated(manifest: dict[str, Any], trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials without an estimate in the manifest."""
    known = (manifest.get("estimate") or {}).get("trials", {})
    return [trial for trial in trials if trial.id not in known]


def seconds_until_now(manifest: dict[str, Any]) -> float:
    """Return the run time in seconds of all commands of the sweep until now."""
    return float((manifest.get(ACTUAL_COST) or {}).get("seconds", 0.0))


def with_times(manifest: dict[str, Any], folder: SweepFolder, actual: CostEstimate, *, ended: bool) -> dict[str, Any]:
    """Return the manifest with time, peak memory, attempts and numbers of parameters of each finished trial.

    Args:
        manifest: the current manifest.
        folder: the sweep.
        actual: measured cost of the plan until now, which the key `truth` has beside `estimate`.
        ended: whether the sweep has ended, for now.
    """
    statuses = [status for place in folder.trials() if (status := place.status())]
    timed = {
        status.trial: status.model_dump(include=set(_STATUS_FIELDS))
        for status in statuses
        if status.state is TrialState.DONE and status.seconds is not None
    }
    trials = {**manifest.get("trials", {}), **timed}
    return {**manifest, "ended": utc_now() if ended else None, ACTUAL_COST: actual.as_json(), "trials": trials}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the git checkout of this package, None without a checkout."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None  # installed into an environment inside the checkout of another project
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
