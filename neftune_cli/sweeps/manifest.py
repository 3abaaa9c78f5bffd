"""Content of the manifest of a sweep: versions, hardware, fingerprints, times, estimated and measured cost."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from neftune_cli.config.process import own_command
from neftune_cli.formatting import utc_now
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import (
    Cost,
    Fingerprints,
    GitState,
    Hardware,
    Manifest,
    PlannedTrial,
    TrialResources,
    Workers,
)
from neftune_cli.sweeps.plan import Plan, available_examples, steps_of
from neftune_cli.training.hardware import installed_version, processor_name
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


def new_manifest(
    plan: Plan,
    folder: Path,
    before: Manifest,
    notes: Sequence[str],
    *,
    workers: Workers,
    training_examples: Mapping[str, int],
) -> Manifest:
    """Return the manifest of a sweep that starts or resumes, with earlier values of start, costs, looks and trials.

    Args:
        plan: the trials.
        folder: their results folder.
        before: the manifest in the folder.
        notes: notes for the user.
        workers: the workers of this command.
        training_examples: number of training examples by maximum length, as in `LoadedSizes`. A trial with another
            length keeps the number of steps of the manifest before.
    """
    versions = ((name, installed_version(name)) for name in _PACKAGES)
    return Manifest(
        started=before.started or utc_now(),
        ended=None,
        command=own_command(),
        directory=str(Path.cwd()),
        folder=str(folder),
        versions={"python": platform.python_version(), **{name: found for name, found in versions if found}},
        git=_git_state(),
        hardware=_hardware(plan),
        workers=workers,
        model=plan.spec.model,
        data=plan.data.name,
        fingerprints=Fingerprints(model=plan.model.fingerprint, data=plan.data.fingerprint),
        notes=tuple(notes),
        plan=tuple(
            PlannedTrial(trial=one.id, arm=one.arm, seed=one.seed, steps=steps)
            for one, steps in _planned_steps(plan, before, training_examples)
        ),
        estimate=before.estimate,
        truth=before.truth,
        trials=before.trials,
        looks=before.looks,
        settled=before.settled,
        **(before.model_extra or {}),
    )


def _planned_steps(plan: Plan, before: Manifest, training_examples: Mapping[str, int]) -> Iterator[tuple[Trial, int]]:
    """Yield the trials with their steps.

    A command that resumes loads the data for the missing trials only. The others keep an earlier number of steps.
    """
    earlier = {one.trial: one.steps for one in before.plan}
    for trial in plan.trials:
        steps = steps_of(trial, training_examples, plan.data.train_examples)
        if available_examples(trial.spec.train, training_examples) is None:
            steps = earlier.get(trial.id, steps)
        yield trial, steps


def with_estimate(manifest: Manifest, estimate: Cost) -> Manifest:
    """Return the manifest with an estimate of trials, added to the one of earlier trials."""
    whole = manifest.estimate.joined(estimate) if manifest.estimate else estimate
    return manifest.model_copy(update={"estimate": whole})


def unestimated(manifest: Manifest, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials without an estimate in the manifest."""
    return [trial for trial in trials if trial.id not in manifest.estimated_seconds]


def with_measured_cost(manifest: Manifest, folder: SweepFolder, measured: Cost, *, ended: bool) -> Manifest:
    """Return the manifest with the measured cost of the sweep, and the resources of each finished trial.

    Args:
        manifest: the current manifest.
        folder: the sweep.
        measured: measured cost of the plan until now.
        ended: whether the sweep has ended, for now.
    """
    kept = set(TrialResources.model_fields)
    statuses = [status for files in folder.trials() if (status := files.status())]
    timed = {
        status.trial: TrialResources(**status.model_dump(include=kept))
        for status in statuses
        if status.state is TrialState.DONE and status.seconds is not None
    }
    trials = {**manifest.trials, **timed}
    return manifest.model_copy(update={"ended": utc_now() if ended else None, "truth": measured, "trials": trials})


def _hardware(plan: Plan) -> Hardware:
    """Return the machine of this command, with the floating-point precision of the planned training."""
    automatic = plan.inspection.environment.get("precision")
    recipes = {one.spec.train.precision for one in plan.trials if not one.is_base}
    precisions = {automatic if precision == "auto" else precision for precision in recipes}
    return Hardware(
        device=plan.inspection.device,
        precision=", ".join(sorted(filter(None, precisions))) or None,
        processor=processor_name(),
        cores=os.cpu_count(),
        gpus=plan.inspection.gpu_models or None,
        system=platform.platform(),
    )


def _git_state() -> GitState | None:
    """Return commit and dirty flag of the git checkout of this package, None without a checkout."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None  # installed into an environment inside the checkout of another project
        return GitState(
            commit=git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
