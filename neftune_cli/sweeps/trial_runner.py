"""Runner of trials in one process: inspection for the plan, calibration, and the run of each trial with its report."""

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.errors import LeaseLost, Problems, TrialError
from neftune_cli.models.sources import ModelSource
from neftune_cli.records import TrialRecord, TrialState, TrialStatus
from neftune_cli.store import LeasedTrial, SweepFolder
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.failures import DISK_KINDS, failure, is_out_of_memory
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, Preparation, resolved_evaluation
from neftune_cli.sweeps.model_cache import ModelCache
from neftune_cli.sweeps.plan import place_of
from neftune_cli.sweeps.signal_to_noise import with_alphas
from neftune_cli.training.cost import Calibration
from neftune_cli.training.hardware import (
    device_name,
    environment,
    gpu_count,
    peak_memory_bytes,
    release_memory,
    reset_peak_memory,
    restore_torch_settings,
)
from neftune_cli.training.sft_trainer import check_recipe
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import ReportProgress, Trial, TrialProgress
from neftune_cli.training.trial_log import ATTEMPT, Redirect, redirect_library_output


class TrialRunner:
    """Runner of trials, one at a time. Data and weights stay in memory between trials.

    Args:
        redirect: sends the output of libraries during a trial to the trial's log.

    """

    def __init__(self, redirect: Redirect = redirect_library_output) -> None:
        self._cache = ModelCache()
        self._redirect = redirect

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Return the facts for a plan. TRL is imported only if a recipe has SFTConfig fields."""
        problems = Problems()
        source = problems.attempt(lambda: self._cache.source(spec))
        data = problems.attempt(lambda: self._cache.data(spec))
        for arm in spec.arms:
            problems.attempt(partial(check_recipe, spec.recipe_of(arm)))
        filled = None
        if source is not None and data is not None and not problems.found:
            filled = problems.attempt(lambda: self._with_alphas(spec, data))
        return Inspection(
            spec=filled[0] if filled else spec,
            notes=filled[1] if filled else (),
            problems=problems.found,
            device=device_name(),
            gpus=gpu_count(),
            environment=environment(lora=False),
            lora_environment=environment(lora=True),
            model=ModelFacts(source.name, source.fingerprint) if source else None,
            data=_facts(data) if data else None,
        )

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        """Load the model, tokenize the data for each maximum length of the trials, and return their properties.

        Raises:
            UsageError: the model cannot be loaded, or data and model do not match.

        """
        from neftune_cli.sweeps.model_cache import preparation

        prepared = {trial.train.max_length: self._cache.prepared_data(trial) for trial in trials}
        ranks = {trial.train.lora_rank for trial in trials}
        return preparation(self._cache.pristine(trials[0]), list(prepared.values()), ranks)

    def calibrate(self, trial: TrialSpec) -> Calibration:
        """Measure the cost of a trial like this one.

        Raises:
            UsageError: the model cannot be loaded, or data and model do not match.
            TrialError: a prompt leaves no room for a response in the model's context.

        """
        from neftune_cli.training.calibration import calibrate

        prepared = self._cache.prepared_data(trial)
        try:
            return calibrate(self._cache.fresh_model(trial), prepared, trial)
        finally:
            release_memory(device_name())

    def run(
        self,
        job: Job,
        folder: SweepFolder,
        stop: StopRequest,
        *,
        on_lease: Callable[[], None] = lambda: None,
    ) -> TrialRecord | None:
        """Run one trial under its lease. State and log in its folder have its progress and its end.

        Returns:
            The record, possibly of another process that has just finished the trial; None if another process has the
            lease.

        Raises:
            TrialStopped: a stop was requested. The trial resumes from its checkpoint next time.
            LeaseLost: another process has taken over the lease.
            Exception: the cause of a failure.

        """
        stop.raise_if_requested()
        trial = job.trial
        place = place_of(folder, trial).acquire_lease(lease_seconds=job.settings.lease_seconds)
        if place is None:
            return None
        try:
            sys.audit("neftune.trial-leased", trial.id)
            return place.folder.record() or self._run_leased(job, folder, place, stop, on_lease)
        finally:
            place.release()
            sys.audit("neftune.trial-released", trial.id)
            release_memory(device_name())

    def _run_leased(
        self,
        job: Job,
        folder: SweepFolder,
        place: LeasedTrial,
        stop: StopRequest,
        on_lease: Callable[[], None],
    ) -> TrialRecord:
        on_lease()
        with TrialReport(place, job, folder.path) as report, self._redirect(report.log_path), restore_torch_settings():
            sys.audit("neftune.trial-started", job.trial.id)
            report.watch(TrialProgress("loading"))
            return self._run_with_memory(job, place, report.watch, stop)

    def _run_with_memory(self, job: Job, place: LeasedTrial, watch: ReportProgress, stop: StopRequest) -> TrialRecord:
        """Run a trial. If memory runs out and the settings allow it, restart with half the batch size, repeatedly."""
        kept = place.folder.newest_checkpoint()
        halvings = max(job.halvings, int(kept.about.get("halvings", 0)) if kept else 0)
        while True:
            try:
                return self._run_once(job, place, watch, stop, halvings)
            except Exception as error:
                if not (job.settings.halve_batch and is_out_of_memory(error) and job.trial.can_be_halved(halvings)):
                    raise
                print(f"Out of memory ({error}): restarting with half the batch size.", file=sys.stderr)
            # the error and the tensors of its frames are released here
            place.drop_checkpoints()
            release_memory(device_name())
            halvings += 1

    def _run_once(
        self, job: Job, place: LeasedTrial, watch: ReportProgress, stop: StopRequest, halvings: int
    ) -> TrialRecord:
        from neftune_cli.training.trial_run import run_trial

        trial, supplies = job.trial, self._cache
        _check_unchanged(trial, supplies.source(trial.spec), supplies.data(trial.spec))
        with stop.interruptible():
            prepared = supplies.prepared_data(trial.spec)
            loaded = supplies.fresh_model(trial.spec)
        return run_trial(trial, loaded, prepared, place, watch, settings=job.settings, stop=stop, halvings=halvings)

    def _with_alphas(self, spec: SweepSpec, data: InstructionData) -> tuple[SweepSpec, tuple[str, ...]]:
        return with_alphas(spec, resolved_evaluation(spec, data.generation), self._cache.prepared_data)


def _facts(data: InstructionData) -> DataFacts:
    return DataFacts(
        name=data.name,
        fingerprint=data.fingerprint,
        train=len(data.train),
        held_out=len(data.held_out),
        probe=len(data.probe),
        has_prompts=any(example.prompt for example in data.train),
        generation=data.generation,
        notes=data.notes,
    )


def _check_unchanged(trial: Trial, source: ModelSource, data: InstructionData) -> None:
    """Refuse to train on a model or on data that changed after planning, because the identity would be wrong."""
    for part, found in (("model", source.fingerprint), ("data", data.fingerprint)):
        if trial.identity[part] != found:
            name = source.name if part == "model" else data.name
            what = f"The {part} {name} changed during the sweep."
            raise TrialError(f"{what} Restore it, or give another folder with --output.")


SECONDS_BETWEEN = 1.0
"""Interval between updates of `state.json`, which `neftune status` reads."""


class TrialReport:
    """Context manager that prepares a trial's folder, updates its state, and records its end.

    Args:
        place: lease of the trial.
        job: the trial with its settings.
        sweep: results folder of the sweep, to distinguish disk failures from failures of the trial.

    """

    def __init__(self, place: LeasedTrial, job: Job, sweep: Path) -> None:
        self._place, self._trial, self._sweep = place, job.trial, sweep
        before = place.folder.status()
        self._status = TrialStatus(
            trial=job.trial.id,
            state=TrialState.RUNNING,
            attempts=before.attempts + 1 if before else 1,
            started=before.started if before else "",
            host=socket.gethostname(),
            process=os.getpid(),
            side_by_side=job.settings.side_by_side,
        )
        self._reported = time.monotonic()

    @property
    def log_path(self) -> Path:
        """Return the path of the log."""
        return self._place.folder.log_path

    def __enter__(self) -> Self:
        reset_peak_memory(device_name())
        self._place.start(self._trial.spec, self._status)
        with self.log_path.open("a" if self._status.attempts > 1 else "w", encoding="utf-8") as log:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            log.write(f"{ATTEMPT}{when} attempt {self._status.attempts}, {self._status.host}, process {os.getpid()}\n")
        return self

    def watch(self, progress: TrialProgress) -> None:
        """Write the progress to `state.json`, if the phase is new or the last update is old."""
        now = time.monotonic()
        is_due = now - self._reported >= SECONDS_BETWEEN or progress.phase != self._status.phase
        self._status = self._status.model_copy(
            update={
                "phase": progress.phase,
                "step": progress.step or self._status.step,
                "steps": progress.steps or self._status.steps,
                "loss": self._status.loss if progress.loss is None else _finite(progress.loss),
                "tokens_per_second": progress.tokens_per_second,
            }
        )
        if is_due:
            self._reported = now
            self._place.report(self._measured())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._place.report(self._measured(state=TrialState.DONE, phase=""))
            return
        found = failure(error, self._sweep)
        if found.kind == "lease-lost":
            return
        state = TrialState.STOPPED if found.kind in ("stopped", *DISK_KINDS) else TrialState.FAILED
        with suppress(OSError, LeaseLost):  # the first error is more informative
            self._place.report(self._measured())
            self._place.end(state, found.reason if state is TrialState.FAILED else "")

    def _measured(self, **changes: object) -> TrialStatus:
        measured = {
            "seconds": round(self._place.seconds, 2),
            "seconds_in_all": round(self._place.seconds_in_all, 2),
            "peak_memory": peak_memory_bytes(device_name()),
        }
        return self._status.model_copy(update={**measured, **changes})


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None  # JSON has no NaN and no infinity
