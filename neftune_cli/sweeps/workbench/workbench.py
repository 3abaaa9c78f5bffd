"""Where trials are run: holds data and weights from one trial to the next, and tells the plan what torch knows."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.errors import Problems, TrialError
from neftune_cli.models.sources import ModelSource
from neftune_cli.records import TrialRecord
from neftune_cli.store import ClaimedTrial, SweepFolder
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.failures import is_out_of_memory
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, Preparation, resolved_evaluation
from neftune_cli.sweeps.remaining import place_of
from neftune_cli.sweeps.workbench.signal_to_noise import with_alphas
from neftune_cli.sweeps.workbench.supplies import Supplies
from neftune_cli.sweeps.workbench.trial_report import TrialReport
from neftune_cli.training.cost import Calibration
from neftune_cli.training.hardware import device_name, environment, free_memory, gpu_count, own_settings
from neftune_cli.training.logs import Redirect, library_output_to
from neftune_cli.training.sft import check_recipe
from neftune_cli.training.stopping import StopRequest
from neftune_cli.training.trial import Trial, TrialProgress, Watch


class Workbench:
    """One process's place of work, where one trial is run at a time.

    Args:
        redirect: sends what libraries print while a trial runs to the trial's log.
    """

    def __init__(self, redirect: Redirect = library_output_to) -> None:
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
        from neftune_cli.sweeps.workbench.weighing import preparation

        materials = {trial.train.max_length: self._supplies.material(trial) for trial in trials}
        ranks = {trial.train.lora_rank for trial in trials}
        return preparation(self._supplies.pristine(trials[0]), list(materials.values()), ranks)

    def calibrate(self, trial: TrialSpec) -> Calibration:
        """Measure what a trial like this one costs.

        Raises:
            UsageError: the model can't be loaded, or the data don't fit it.
            TrialError: a prompt leaves no room for an answer in the model's context.
        """
        from neftune_cli.training.calibration import calibrate

        material = self._supplies.material(trial)
        try:
            return calibrate(self._supplies.fresh_model(trial), material, trial)
        finally:
            free_memory(device_name())

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
            ClaimLost: another process has taken it over.
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
            free_memory(device_name())

    def _run_claimed(
        self,
        job: Job,
        folder: SweepFolder,
        place: ClaimedTrial,
        stop: StopRequest,
        on_claim: Callable[[], None],
    ) -> TrialRecord:
        on_claim()
        with TrialReport(place, job, folder.path) as report, self._redirect(report.log_path), own_settings():
            sys.audit("neftune.trial-begun", job.trial.id)
            report.watch(TrialProgress("loading"))
            return self._run_with_memory(job, place, report.watch, stop)

    def _run_with_memory(self, job: Job, place: ClaimedTrial, watch: Watch, stop: StopRequest) -> TrialRecord:
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
            free_memory(device_name())
            halvings += 1

    def _run_once(self, job: Job, place: ClaimedTrial, watch: Watch, stop: StopRequest, halvings: int) -> TrialRecord:
        from neftune_cli.training.run import run_trial

        trial, supplies = job.trial, self._supplies
        _check_unchanged(trial, supplies.source(trial.spec), supplies.data(trial.spec))
        with stop.interrupting():
            material = supplies.material(trial.spec)
            loaded = supplies.fresh_model(trial.spec)
        return run_trial(trial, loaded, material, place, watch, settings=job.settings, stop=stop, halvings=halvings)

    def _with_alphas(self, spec: SweepSpec, data: InstructionData) -> tuple[SweepSpec, tuple[str, ...]]:
        return with_alphas(spec, resolved_evaluation(spec, data.generation), self._supplies.material)


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
