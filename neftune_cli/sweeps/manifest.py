"""The manifest of a sweep: what it ran with and on, when, and how long each trial took."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neftune_cli.sweeps.executors import Result
from neftune_cli.sweeps.plan import Plan
from neftune_cli.training.hardware import environment, peak_memory_bytes

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


def new_manifest(plan: Plan, before: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the manifest of a sweep that starts or goes on; trials timed before stay."""
    return {
        "started": before.get("started", _now()),
        "ended": None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git_state(),
        "hardware": {
            **{name: value for name, value in environment(lora=False).items() if name in ("device", "precision")},
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "model": plan.spec.model,
        "data": plan.data.name,
        "fingerprints": {"model": plan.source.fingerprint, "data": plan.data.fingerprint},
        "notes": notes,
        "trials": before.get("trials", {}),
    }


def with_result(manifest: dict[str, Any], result: Result) -> dict[str, Any]:
    """Return the manifest with one more trial timed (seconds) and the process's peak memory so far (bytes)."""
    timed = {"seconds": round(result.seconds, 2), "peak_memory": peak_memory_bytes()}
    trials = {**manifest.get("trials", {}), result.trial.id: timed}
    return {**manifest, "ended": _now(), "trials": trials}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the checkout this package runs from, None if it runs from none."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None  # installed into an environment that lies in somebody else's checkout
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
