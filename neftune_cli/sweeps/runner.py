"""Run a sweep: missing trials on an executor, tables, manifest and kept models during the run."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from neftune_cli.config.run_settings import Keep, SweepSettings
from neftune_cli.errors import UsageError
from neftune_cli.formatting import counted, local_time, size
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Cost, Manifest, Workers
from neftune_cli.sweeps.dispatch import Dispatcher, DispatchResult
from neftune_cli.sweeps.estimate import CostEstimate, estimate_cost, measured_cost, peak_of_finished
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.failures import Failure, failure_of
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.manifest import new_manifest, unestimated, with_estimate, with_measured_cost
from neftune_cli.sweeps.measurement_cache import remember_sizes, sizes_of
from neftune_cli.sweeps.plan import Plan, done_trials, failed_trials, missing_trials, trial_folder
from neftune_cli.sweeps.progress import Observer
from neftune_cli.sweeps.resources import GIB, WorkerAllocation, load_and_allocate, memory_warning
from neftune_cli.training.trial import Trial

LARGEST_TABLES_SHARE = 0.05
"""Largest share of the run time in which tables, manifest and kept models are updated."""


@dataclass(frozen=True)
class SweepOutcome:
    """Counts of trials, failures and kept models after a run."""

    already_done: int
    run_now: int
    run_elsewhere: int
    """Trials that another process finished during the run."""
    failed: dict[str, str]
    """Reasons of failed trials, of this run and earlier ones, by label, for example "alpha=5, seed 0"."""
    left: int = 0
    """Trials that neither finished nor failed."""
    models: tuple[Path, ...] = ()
    """Folders of kept models."""
    halted: str = ""
    """Reason why no further trial could run; empty if there is none."""
    stopped: bool = False
    """Whether the run was stopped: by the user, by a failure with --fail-fast, or for the reason in `halted`."""
    interrupted: bool = False
    """Whether the user interrupted the command, even if no trial was left to stop."""
    submitted: int = 0
    """Trials that go on after the end of the command, with --detach."""
    notes: tuple[str, ...] = ()
    """Notes of the run, those that the user had seen before included."""
    training_examples: dict[str, int] = field(default_factory=dict)
    """Number of training examples by maximum length, as in `LoadedSizes`; empty if no trial was run."""

    @property
    def was_cut_short(self) -> bool:
        """Return whether trials may be left that did not run."""
        return self.stopped or self.interrupted or self.submitted > 0


def run_sweep(
    plan: Plan,
    folder: SweepFolder,
    executor: Executor,
    observer: Observer,
    interrupts: Interrupts,
    settings: SweepSettings,
    *,
    known_notes: Collection[str] = (),
) -> SweepOutcome:
    """Run the missing trials and update the tables. Nothing is written before data and model are checked.

    Args:
        plan: trials of the sweep.
        folder: results folder. Other processes may work on it at the same time.
        executor: runs the trials.
        observer: receives the progress.
        interrupts: receives the signals that request a stop.
        settings: run settings.
        known_notes: notes that the user has seen, for example at an earlier look. They are not shown again.

    Raises:
        UsageError: data and model do not match, the folder is not writable, another command has changed the sweep in it
            since it was planned, or a file cannot be read before the first trial. During the run it halts the sweep.
        KeyboardInterrupt: the user interrupted a second time.
    """
    missing = missing_trials(plan, folder, retry_failed=settings.retry_failed)
    done_before = done_trials(plan, folder)
    allocation = _allocation(plan, missing, folder, executor, settings) if missing else None
    folder.open(plan.spec, replaces=plan.stored)
    folder.remove_leftovers(lease_seconds=settings.trial_settings.lease_seconds)
    notes = [*plan.all_notes, *_notes_on_missing_models(plan, folder, settings.keep, done_before)]
    if allocation:
        started = _start_workers(plan, folder, executor, allocation, notes)
        if settings.estimate and (new := unestimated(started.manifest, missing)):
            remember_sizes(plan, [trial.spec for trial in missing], started.allocation.sizes)
            started = _add_estimate(started, plan, new, folder, executor, observer)
        allocation, notes = started.allocation, started.notes
    elif not folder.manifest().started:  # it was removed
        _write_manifest(plan, folder, notes)
    workers = allocation.workers if allocation else max(1, folder.manifest().workers.number)
    observer.sweep_started(plan.trials, missing, [note for note in notes if note not in known_notes])
    updates = _FolderUpdates(plan, folder, settings.keep, workers=workers)
    trial_settings = replace(settings.trial_settings, side_by_side=workers)
    dispatcher = Dispatcher(
        folder, executor, observer, trial_settings, after_trial=updates.update, fail_fast=settings.fail_fast
    )
    with interrupts.graceful(executor.interrupt):
        ran = dispatcher.run(missing, lambda: interrupts.requested, detach=settings.detach)
    try:
        if ran.submitted:
            folder.write_tables()
        elif not ran.halted:
            updates.finish(changed=bool(missing))
    except (OSError, UsageError) as error:
        ran = replace(ran, halted=failure_of(error, folder.path), stopped=True)
    outcome = _outcome(plan, folder, ran, done_before)
    need = _disk_need(settings.keep, missing, allocation)
    return replace(
        outcome,
        halted=_halt_reason(ran.halted, need),
        interrupted=interrupts.requested,
        notes=tuple(notes),
        training_examples=allocation.sizes.training_examples if allocation else {},
    )


def _outcome(plan: Plan, folder: SweepFolder, ran: DispatchResult, done_before: set[str]) -> SweepOutcome:
    """Return the counts of trials, failures and kept models, given the ids of the trials that were done before.

    If the sweep was halted, trials that cannot be read are counted as left.
    """
    trials = (trial for trial in plan.trials if not ran.halted or _is_readable(folder, trial))
    readable = replace(plan, trials=tuple(trials))
    done = done_trials(readable, folder)
    failed = failed_trials(readable, folder)
    if not (ran.stopped or ran.submitted):
        failed |= _without_result(plan, done | {trial.id for trial in plan.trials if trial.label in failed})
    return SweepOutcome(
        already_done=len(done_before),
        run_now=len(ran.ended),
        run_elsewhere=len(done - done_before - ran.ended),
        failed=failed,
        left=len(plan.trials) - len(done) - len(failed),
        models=_models(readable, folder),
        stopped=ran.stopped,
        submitted=len(ran.submitted - done),
    )


def _is_readable(folder: SweepFolder, trial: Trial) -> bool:
    files = trial_folder(folder, trial)
    try:
        files.record()
        files.status()
    except UsageError:
        return False
    return True


def _allocation(
    plan: Plan, missing: Sequence[Trial], folder: SweepFolder, executor: Executor, settings: SweepSettings
) -> WorkerAllocation:
    """Return the workers. For an executor on other machines, remembered sizes spare the command a wait in the queue."""
    prepare = executor.prepare if settings.on_this_machine else partial(sizes_of, plan, executor)
    allocation = load_and_allocate(plan, missing, folder, prepare, settings.allowed_workers)
    if not settings.on_this_machine:
        remember_sizes(plan, [trial.spec for trial in missing], allocation.sizes)
    return allocation


def _models(plan: Plan, folder: SweepFolder) -> tuple[Path, ...]:
    return tuple(path for trial in plan.trials if (path := trial_folder(folder, trial).model_path).is_dir())


def _notes_on_missing_models(plan: Plan, folder: SweepFolder, keep: Keep, done: set[str]) -> Iterator[str]:
    """Yield a note if models are requested for trials that finished without keeping them."""
    folders = [trial_folder(folder, trial) for trial in plan.trials if trial.id in done and not trial.is_base]
    lacking = sum(not one.model_path.is_dir() for one in folders)
    if keep is not Keep.NONE and lacking and not (keep is Keep.BEST and lacking < len(folders)):
        has, them = ("has", "it") if lacking == 1 else ("have", "them")
        yield f"{counted(lacking, 'finished trial')} {has} no kept model. To train {them} again, use another --output."


def _without_result(plan: Plan, ended: set[str]) -> dict[str, str]:
    """Return the trials with neither a record nor a failure after a complete run. Normally there are none."""
    lost = (trial.label for trial in plan.trials if trial.id not in ended)
    return dict.fromkeys(lost, "The trial ended without a record.")


def _disk_need(keep: Keep, missing: Sequence[Trial], allocation: WorkerAllocation | None) -> int:
    """Return the estimated maximum disk space in bytes for the unfinished trials."""
    if allocation is None:
        return 0
    return allocation.disk_need({Keep.NONE: 0, Keep.BEST: 1 + allocation.workers, Keep.ALL: len(missing)}[keep])


def _halt_reason(halted: Failure | None, need: int) -> str:
    """Return the reason why no further trial could run, empty if there is none."""
    if halted is None:
        return ""
    space = f" The trials need about {size(need)} for checkpoints and models during the run."
    return halted.reason + (space if halted.kind == "disk-full" else "")


@dataclass(frozen=True)
class _StartedWorkers:
    """The workers of a sweep, the notes for the user, and the manifest with both."""

    allocation: WorkerAllocation
    """The workers, of which there may be fewer than allocated."""
    notes: list[str]
    """The earlier notes, and those on the workers."""
    manifest: Manifest
    """The manifest that was written."""


def _start_workers(
    plan: Plan, folder: SweepFolder, executor: Executor, allocation: WorkerAllocation, notes: Sequence[str]
) -> _StartedWorkers:
    """Start as many workers as fit into the memory by what is known of earlier trials, and write the manifest."""
    earlier = folder.manifest().estimate
    peak = peak_of_finished(plan.trials, folder) or (earlier.peak_memory if earlier else None)
    given, allocation = allocation, allocation.fitting(peak)
    notes = [*notes, *allocation.sizes.notes, *given.notes_on_fewer_workers(allocation, peak)]
    executor.start(allocation.workers, allocation.threads, allocation.gpus)
    manifest = _write_manifest(plan, folder, notes, _workers(allocation), allocation.sizes.training_examples)
    return _StartedWorkers(allocation, notes, manifest)


def _write_manifest(
    plan: Plan,
    folder: SweepFolder,
    notes: Sequence[str],
    workers: Workers | None = None,
    training_examples: Mapping[str, int] | None = None,
) -> Manifest:
    """Write the manifest of a sweep that starts or resumes, and return it. The arguments are as in `new_manifest`."""
    path, workers, examples = folder.path.absolute(), workers or Workers(), training_examples or {}
    return folder.update_manifest(
        lambda before: new_manifest(plan, path, before, notes, workers=workers, training_examples=examples)
    )


def _add_estimate(
    started: _StartedWorkers,
    plan: Plan,
    unestimated_trials: Sequence[Trial],
    folder: SweepFolder,
    executor: Executor,
    observer: Observer,
) -> _StartedWorkers:
    """Estimate the cost of trials, and add it to the manifest.

    A calibration on the workers may show that fewer of them fit into the memory. The surplus ones then end.
    """
    estimated = estimate_cost(plan, unestimated_trials, folder, executor, started.allocation, observer.note)
    allocation = estimated.allocation
    executor.start(allocation.workers, allocation.threads, allocation.gpus)
    notes = [*started.notes, *estimated.notes, *_memory_notes(estimated)]
    if estimated.cost.calibrated:
        observer.note(f"Time and memory are those of a calibration of {local_time(estimated.cost.calibrated)}.")
    estimate = with_estimate(started.manifest, estimated.cost).estimate
    new = {"ended": None, "notes": tuple(notes), "workers": _workers(allocation), "estimate": estimate}
    # another command may have added looks and trials during the calibration
    manifest = folder.update_manifest(lambda current: current.model_copy(update=new))
    return _StartedWorkers(allocation, notes, manifest)


def _memory_notes(estimated: CostEstimate) -> Iterator[str]:
    """Yield a note if the workers need more memory than there is."""
    allocation, peak = estimated.allocation, estimated.cost.peak_memory or 0
    if warning := memory_warning(peak, allocation.workers, allocation.memory):
        yield f"{counted(allocation.workers, 'worker')} of {peak / GIB:.1f} GiB each: {warning}"


def _workers(allocation: WorkerAllocation) -> Workers:
    return Workers(number=allocation.workers, threads=allocation.threads)


class _FolderUpdates:
    """Update tables, manifest and kept models, using a limited share of the run time."""

    def __init__(self, plan: Plan, folder: SweepFolder, keep: Keep, *, workers: int) -> None:
        self._plan, self._folder, self._keep, self._workers = plan, folder, keep, workers
        self._started = time.monotonic()
        self._manifest = folder.manifest()
        before = self._manifest.truth  # the cost that earlier commands measured
        self._seconds_before = before.seconds if before else 0.0
        self._not_before = 0.0

    def update(self) -> None:
        if time.monotonic() < self._not_before:
            return
        started = time.monotonic()
        self._write(ended=False)
        self._not_before = time.monotonic() + (time.monotonic() - started) / LARGEST_TABLES_SHARE

    def finish(self, *, changed: bool) -> None:
        """Update everything if a trial was run, or if an earlier command did not come to its end."""
        manifest = self._folder.manifest()
        if changed or (manifest.started and manifest.ended is None):
            self._write(ended=True)
        else:
            self._folder.write_tables()

    def _write(self, *, ended: bool) -> None:
        self._folder.write_tables()
        if self._keep is Keep.BEST:
            keep_best_model(self._folder)
        measured = self._measured_cost()

        def updated(current: Manifest) -> Manifest:
            manifest = current if current.started else self._manifest  # it may have been removed during the run
            return with_measured_cost(manifest, self._folder, measured, ended=ended)

        self._manifest = self._folder.update_manifest(updated)

    def _measured_cost(self) -> Cost:
        seconds = self._seconds_before + time.monotonic() - self._started
        return measured_cost(self._plan.trials, self._folder, workers=self._workers, seconds=seconds)


def keep_best_model(folder: SweepFolder) -> None:
    """Remove all kept models except the one with the lowest held-out loss."""
    kept = [
        (record.loss.eval_loss, record.trial, files) for files, record in folder.finished() if files.model_path.is_dir()
    ]
    for *_, files in sorted(kept, key=lambda one: one[:2])[1:]:
        files.remove_model()
