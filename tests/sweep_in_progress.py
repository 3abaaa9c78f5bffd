"""A sweep with trials in every state, as written by running processes."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.records import CurvePoint, TrialRecord, TrialState
from neftune_cli.store import LeasedTrial, SweepFolder
from neftune_cli.store.manifest import Manifest
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import SweepStatus
from tests.finished_trials import start_trial, trial_record
from tests.manifests import cost_estimate, planned_trial

STEPS = 120
COMMAND = ("neftune", "sweep", "--alphas", "0,5", "--output", "results/bios noise")


class FakeSweep:
    """Writer of trials of arms and seeds. It is a context manager that releases the leases."""

    def __init__(self, path: Path, arms: Sequence[str], seeds: int, *, estimate: float | None = None) -> None:
        self.folder = SweepFolder(path)
        self.folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]}))
        self.planned = [("base", None), *((arm, seed) for seed in range(seeds) for arm in arms)]
        trials = [trial_id(arm, seed) for arm, seed in self.planned]
        plan = [
            planned_trial(trial, arm, seed, 0 if seed is None else STEPS)
            for trial, (arm, seed) in zip(trials, self.planned, strict=True)
        ]
        estimated = None if estimate is None else cost_estimate(dict.fromkeys(trials, estimate), estimate * len(trials))
        started = "2026-01-01T10:00:00+00:00"
        self.folder.write_manifest(Manifest(started=started, command=COMMAND, plan=tuple(plan), estimate=estimated))
        self._held = ExitStack()

    def __enter__(self) -> "FakeSweep":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def status(self) -> SweepStatus:
        """Return the status as read by a new reader."""
        return StatusReader(self.folder).read()

    def run(
        self, arm: str, seed: int | None, step: int = 0, losses: Sequence[float] = (), **status: Any
    ) -> LeasedTrial:
        """Hold the lease of a running trial at a step."""
        trial = trial_id(arm, seed)
        known = {"phase": "training", "step": step, "steps": STEPS, "host": "here", "process": os.getpid(), **status}
        leased = start_trial(self.folder.trial(trial, arm, seed), trial, **known)
        self._held.callback(leased.release)
        leased.rewrite_metrics([point(number + 1, loss) for number, loss in enumerate(losses)])
        return leased

    def stall(self, arm: str, seed: int | None, step: int = 0, **status: Any) -> None:
        """Write a trial of a killed process, with a checkpoint of its last step if there is one."""
        leased = self.run(arm, seed, step, **status)
        self._write_checkpoint(leased, step, status)
        leased.release()

    def stop(self, arm: str, seed: int | None, step: int = 0, **status: Any) -> None:
        """Write a trial that was stopped on request."""
        leased = self.run(arm, seed, step, **status)
        self._write_checkpoint(leased, step, status)
        self._end(leased, TrialState.STOPPED)

    def fail(self, arm: str, seed: int | None, reason: str, **status: Any) -> None:
        """Write a failed trial."""
        self._end(self.run(arm, seed, **status), TrialState.FAILED, reason)

    def finish(self, arm: str, seed: int | None, eval_loss: float, seconds: float = 24.0) -> None:
        """Write a finished trial."""
        leased = self.run(arm, seed, STEPS, losses=[2.0, 1.0], seconds=seconds)
        leased.finish(record(arm, seed, eval_loss), [], [])
        leased.release()

    def _write_checkpoint(self, leased: LeasedTrial, step: int, status: dict[str, Any]) -> None:
        if step:
            with leased.folder.checkpoints.new(step, status.get("seconds", 0.0), {}, lambda: None) as files:
                (files / "weights").touch()

    def _end(self, leased: LeasedTrial, state: TrialState, reason: str = "") -> None:
        leased.end(state, reason)
        leased.release()


def sweep_in_every_state(path: Path) -> FakeSweep:
    """Return a sweep with trials in every state: the base model, and three arms with three seeds."""
    sweep = FakeSweep(path, ["alpha=0", "alpha=5", "alpha=10"], 3)
    sweep.finish("base", None, 4.2012, seconds=11)
    sweep.finish("alpha=0", 0, 1.5012)
    sweep.finish("alpha=5", 0, 1.4987)
    sweep.fail("alpha=10", 0, "out of memory; give a lower --batch-size, or --on-oom halve-batch")
    sweep.run("alpha=0", 1, 40, falling_losses(40), loss=1.234, tokens_per_second=5120.4, seconds=8.0)
    sweep.run("alpha=5", 1, STEPS, falling_losses(STEPS), phase="generating", seconds=20.0)
    sweep.stop("alpha=10", 1, 60, seconds=12.0)
    sweep.stall("alpha=0", 2, 12, seconds=3.0)
    return sweep


def falling_losses(steps: int) -> list[float]:
    """Return decreasing losses, starting below 2.5."""
    return [2.5 - step / STEPS for step in range(steps)]


def trial_id(arm: str, seed: int | None) -> str:
    """Return an id that is unique in the sweep."""
    return hashlib.sha256(f"{arm} {seed}".encode()).hexdigest()[:12]


def point(step: int, loss: float) -> CurvePoint:
    """Return a logged step."""
    return CurvePoint(step=step, epoch=step / STEPS, train_loss=loss)


def record(arm: str, seed: int | None, eval_loss: float) -> TrialRecord:
    """Return the record of a finished trial of the sweep."""
    return trial_record(trial_id(arm, seed), arm, seed, eval_loss)
