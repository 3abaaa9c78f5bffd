"""Where trials are run: holds data and weights from one trial to the next, and tells the plan what torch knows."""

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
from neftune_cli.store import ClaimedTrial, SweepFolder
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.failures import DISK_KINDS, failure, is_out_of_memory
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, Preparation, resolved_evaluation
from neftune_cli.sweeps.model_cache import Supplies
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
    """One process's place of work, where one trial is run at a time.

    Args:
        redirect: sends what libraries print while a trial runs to the trial's log.
    """

    def __init__(self, redirect: Redirect = redirect_library_output) -> None:
        self._supplies = Supplies()
        self._redirect = redirect

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Return what a plan needs to know; TRL is imported only where a recipe names fields of its own."""
        problems = Problems()
        source = problems.attempt(lambda: self._supplies.source(spec))
        data = problems.attempt(lambda: self._supplies.data(spec))
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
        """Load the model, tokenize the data for each maximum length among the trials, and say what came of it.

        Raises:
            UsageError: the model can't be loaded, or the data don't fit it.
        """
        from neftune_cli.sweeps.model_cache import preparation

        prepared = {trial.train.max_length: self._supplies.prepared_data(trial) for trial in trials}
        ranks = {trial.train.lora_rank for trial in trials}
        return preparation(self._supplies.pristine(trials[0]), list(prepared.values()), ranks)

    def calibrate(self, trial: TrialSpec) -> Calibration:
        """Measure what a trial like this one costs.

        Raises:
            UsageError: the model can't be loaded, or the data don't fit it.
            TrialError: a prompt leaves no room for an answer in the model's context.
        """
        from neftune_cli.training.calibration import calibrate

        prepared = self._supplies.prepared_data(trial)
        try:
            return calibrate(self._supplies.fresh_model(trial), prepared, trial)
        finally:
            release_memory(device_name())

    def run(
        self,
        job: Job,
        folder: SweepFolder,
        stop: StopRequest,
        *,
        on_claim: Callable[[], None] = lambda: None,
    ) -> TrialRecord | None:
        """Run one trial under its claim; its state and log in the folder follow it, and say how it ended.

        Returns:
            Its record, which may be one that another process has just finished; None where another one works on it.

        Raises:
            TrialStopped: it was asked to stop, and goes on from its checkpoint the next time.
            LeaseLost: another process has taken it over.
            Exception: whatever the trial died of.
        """
        stop.raise_if_requested()
        trial = job.trial
        place = place_of(folder, trial).claim(lease_seconds=job.settings.lease_seconds)
        if place is None:
            return None
        try:
            sys.audit("neftune.trial-claimed", trial.id)
            return place.folder.record() or self._run_claimed(job, folder, place, stop, on_claim)
        finally:
            place.release()
            sys.audit("neftune.trial-released", trial.id)
            release_memory(device_name())

    def _run_claimed(
        self,
        job: Job,
        folder: SweepFolder,
        place: ClaimedTrial,
        stop: StopRequest,
        on_claim: Callable[[], None],
    ) -> TrialRecord:
        on_claim()
        with TrialReport(place, job, folder.path) as report, self._redirect(report.log_path), restore_torch_settings():
            sys.audit("neftune.trial-begun", job.trial.id)
            report.watch(TrialProgress("loading"))
            return self._run_with_memory(job, place, report.watch, stop)

    def _run_with_memory(self, job: Job, place: ClaimedTrial, watch: ReportProgress, stop: StopRequest) -> TrialRecord:
        """Run a trial, anew with half the batch as often as memory isn't enough for it and that is asked for."""
        kept = place.folder.kept()
        halvings = max(job.halvings, int(kept.about.get("halvings", 0)) if kept else 0)
        while True:
            try:
                return self._run_once(job, place, watch, stop, halvings)
            except Exception as error:
                if not (job.settings.halve_batch and is_out_of_memory(error) and job.trial.can_be_halved(halvings)):
                    raise
                print(f"Out of memory ({error}): starting anew with half the batch.", file=sys.stderr)
            # here the error is gone, and what its frames held with it
            place.drop_checkpoints()
            release_memory(device_name())
            halvings += 1

    def _run_once(
        self, job: Job, place: ClaimedTrial, watch: ReportProgress, stop: StopRequest, halvings: int
    ) -> TrialRecord:
        from neftune_cli.training.trial_run import run_trial

        trial, supplies = job.trial, self._supplies
        _check_unchanged(trial, supplies.source(trial.spec), supplies.data(trial.spec))
        with stop.interruptible():
            prepared = supplies.prepared_data(trial.spec)
            loaded = supplies.fresh_model(trial.spec)
        return run_trial(trial, loaded, prepared, place, watch, settings=job.settings, stop=stop, halvings=halvings)

    def _with_alphas(self, spec: SweepSpec, data: InstructionData) -> tuple[SweepSpec, tuple[str, ...]]:
        return with_alphas(spec, resolved_evaluation(spec, data.generation), self._supplies.prepared_data)


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
    """Refuse to train on something else than the plan was made for, which would be in no identity."""
    for part, found in (("model", source.fingerprint), ("data", data.fingerprint)):
        if trial.identity[part] != found:
            name = source.name if part == "model" else data.name
            what = f"The {part} {name} changed while the sweep ran."
            raise TrialError(f"{what} Restore what was there, or give another folder with --output.")


SECONDS_BETWEEN = 1.0
"""Between two reports on the disk, which `neftune status` reads."""


class TrialReport:
    """Begins a trial's folder, keeps its state current, and says in the end how it ended.

    Args:
        place: the trial's claim.
        job: the trial, and how it is run.
        sweep: the sweep's folder, to tell a disk's failures from the trial's.
    """

    def __init__(self, place: ClaimedTrial, job: Job, sweep: Path) -> None:
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
        """Return where output goes."""
        return self._place.folder.log_path

    def __enter__(self) -> Self:
        reset_peak_memory(device_name())
        self._place.begin(self._trial.spec, self._status)
        with self.log_path.open("a" if self._status.attempts > 1 else "w", encoding="utf-8") as log:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            log.write(f"{ATTEMPT}{when} attempt {self._status.attempts}, {self._status.host}, process {os.getpid()}\n")
        return self

    def watch(self, progress: TrialProgress) -> None:
        """Put a progress into `state.json` if the phase is new or the last report is old."""
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
        if found.kind == "claim-lost":
            return
        state = TrialState.STOPPED if found.kind in ("stopped", *DISK_KINDS) else TrialState.FAILED
        with suppress(OSError, LeaseLost):  # the first error says more
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
    return loss if math.isfinite(loss) else None  # JSON has no other numbers
