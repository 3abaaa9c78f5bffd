"""Runs what a plan still lacks, keeps the tables current, and goes on when a trial fails."""

from dataclasses import dataclass

from neftune_cli.records import TrialRecord, TrialState, TrialStatus
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Executor, Result
from neftune_cli.sweeps.manifest import new_manifest, with_result
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.progress import Observer
from neftune_cli.training.hardware import keep_memory_between_steps
from neftune_cli.training.logs import library_output_to
from neftune_cli.training.material import prepare_materials
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    already_done: int
    run_now: int
    failed: dict[str, str]
    """Reasons of the trials that have no record, failed now or earlier, by `arm, seed`."""


def place_of(folder: SweepFolder, trial: Trial) -> TrialFolder:
    """Return where a trial's files are, or will be."""
    return folder.trial(trial.id, trial.arm, trial.seed)


def missing_trials(plan: Plan, folder: SweepFolder, *, retry_failed: bool = False) -> list[Trial]:
    """Return the trials to run: without a record, and not failed before unless failed ones shall be retried."""
    places = [(trial, place_of(folder, trial)) for trial in plan.trials]
    return [trial for trial, place in places if place.record() is None and (retry_failed or _failure(place) is None)]


def run_sweep(
    plan: Plan,
    folder: SweepFolder,
    executor: Executor,
    observer: Observer,
    *,
    retry_failed: bool = False,
    keep_models: bool = False,
) -> Outcome:
    """Run the missing trials and write the tables after each; nothing is written before the data fit the model.

    Args:
        plan: what shall be there in the end.
        folder: where it goes.
        executor: who runs the trials.
        observer: who is told.
        retry_failed: run the trials again that failed before.
        keep_models: leave each trained model in its trial's folder, as safetensors.

    Raises:
        UsageError: the data don't fit the model, or the folder can't be written.
    """
    missing = missing_trials(plan, folder, retry_failed=retry_failed)
    materials = prepare_materials(plan.source, plan.data, [trial.spec for trial in missing]) if missing else {}
    folder.open(plan.spec)
    notes = [
        *plan.notes,
        *plan.data.notes,
        *dict.fromkeys(note for material in materials.values() for note in material.notes),
    ]
    if missing:
        keep_memory_between_steps()
        folder.write_manifest(new_manifest(plan, folder.manifest(), notes))
    observer.sweep_started(plan, missing, notes)
    already_done = sum(place_of(folder, trial).record() is not None for trial in plan.trials)

    def work(trial: Trial) -> TrialRecord:
        from neftune_cli.training.run import run_trial

        observer.trial_started(trial)
        place = place_of(folder, trial)
        place.start(trial.id, trial.spec)
        with library_output_to(place.log_path):
            return run_trial(
                trial,
                materials[trial.spec.train.max_length],
                place,
                lambda progress: observer.trial_progressed(trial, progress),
                model_to=place.path / "model" if keep_models and not trial.is_base else None,
            )

    for result in executor.run(missing, work):
        _settle(result, folder)
        observer.trial_ended(result)
    if not missing:  # an earlier run may have been killed between its last record and the tables
        folder.write_tables()
    failed = {trial.label: reason for trial in plan.trials if (reason := _failure(place_of(folder, trial)))}
    return Outcome(already_done, len(missing), failed)


def _settle(result: Result, folder: SweepFolder) -> None:
    """Put down how a trial ended, in its own state and in the sweep's tables and manifest."""
    if result.record is None:
        status = TrialStatus(trial=result.trial.id, state=TrialState.FAILED, reason=result.reason)
        place_of(folder, result.trial).set_status(status)
    folder.write_tables()
    folder.write_manifest(with_result(folder.manifest(), result))


def _failure(place: TrialFolder) -> str | None:
    status = place.status()
    failed = status is not None and status.state is TrialState.FAILED and place.record() is None
    return status.reason if status and failed else None
