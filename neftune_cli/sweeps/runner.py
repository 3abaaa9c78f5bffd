"""What Ctrl-C and a scheduler's SIGTERM do: while trials run, the first asks them to stop and the second ends all."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from neftune_cli.config.running import Keep, RunOptions
from neftune_cli.formatting import size
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.dispatch import Dispatcher
from neftune_cli.sweeps.estimate import CostEstimate, estimate_cost, measured
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.manifest import new_manifest, unestimated, with_estimate, with_times
from neftune_cli.sweeps.plan import Plan, done_trials, failed_trials, missing_trials, place_of
from neftune_cli.sweeps.progress import Observer
from neftune_cli.sweeps.resources import WorkerAllocation, allocate_workers
from neftune_cli.training.trial import Trial

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """Turns signals into `KeyboardInterrupt`; in a `patient` block the first is noted, and then only Ctrl-C is one."""

    def __init__(self) -> None:
        self.requested = False
        """Whether the user, or the system, wants the sweep to stop."""
        self._on_request: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patient(self, on_request: Callable[[], None]) -> Iterator[None]:
        """Only note the first signal that comes in the block, and call something that a signal handler may call."""
        self._on_request = on_request
        try:
            yield
        finally:
            self._on_request = None

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._on_request is None:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            self._on_request()
        elif number == signal.SIGINT:  # a terminal that is closed, and batch systems, may say it twice
            raise KeyboardInterrupt


TABLES_SHARE = 20
"""The tables are written anew at most so many times less long than the time since they were last."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    already_done: int
    run_now: int
    run_elsewhere: int
    """Trials that another process finished meanwhile."""
    failed: dict[str, str]
    """Reasons of the trials that have no record, failed now or earlier, by `arm, seed`."""
    left: int = 0
    """Trials that have neither been finished nor failed."""
    models: tuple[Path, ...] = ()
    """Where trained models are."""
    halted: str = ""
    """Why the sweep couldn't go on, whatever the trial."""
    interrupted: bool = False

    @property
    def was_cut_short(self) -> bool:
        """Return whether trials may be left that nobody has tried."""
        return self.interrupted or bool(self.halted)


def run_sweep(
    plan: Plan,
    folder: SweepFolder,
    executor: Executor,
    observer: Observer,
    interrupts: Interrupts,
    options: RunOptions,
) -> Outcome:
    """Run the missing trials and write the tables as they end; nothing is written before the data fit the model.

    Args:
        plan: what shall be there in the end.
        folder: where it goes. Other processes may work on it at the same time.
        executor: who runs the trials.
        observer: who is told.
        interrupts: says when the user wants the trials to stop.
        options: how it is run.

    Raises:
        UsageError: the data don't fit the model, or the folder can't be written.
        KeyboardInterrupt: the user wants it all to end at once.
    """
    missing = missing_trials(plan, folder, retry_failed=options.retry_failed)
    done_before = done_trials(plan, folder)
    staff = allocate_workers(plan, missing, folder, executor, options.workers) if missing else None
    workers = staff.workers if staff else 1
    folder.open(plan.spec)
    folder.tidy()
    notes = [*plan.notes, *plan.data.notes]
    if staff:
        notes = _begin(plan, missing, folder, executor, staff, observer, estimate=options.estimate)
    notes += _without_model(plan, folder, options.keep, done_before)
    observer.sweep_started(plan, missing, notes)
    tables = _Tables(plan, folder, options.keep, workers=workers)
    settings = replace(options.settings, side_by_side=workers)
    dispatcher = Dispatcher(folder, executor, observer, settings, settled=tables.update, fail_fast=options.fail_fast)
    with interrupts.patient(executor.interrupt):
        ran = dispatcher.run(missing, lambda: interrupts.requested)
    if not ran.halted:
        tables.finish(changed=bool(missing))
    done = done_trials(plan, folder)
    failed = failed_trials(plan, folder)
    if not ran.stopped:
        failed |= _lost(plan, done | {trial.id for trial in plan.trials if trial.label in failed})
    return Outcome(
        already_done=len(done_before),
        run_now=len(ran.ended),
        run_elsewhere=len(done - done_before - ran.ended),
        failed=failed,
        left=len(plan.trials) - len(done) - len(failed),
        models=_models(plan, folder),
        halted=_halt_reason(ran.halted, _disk_need(options.keep, missing, staff)),
        interrupted=interrupts.requested,
    )


def _models(plan: Plan, folder: SweepFolder) -> tuple[Path, ...]:
    return tuple(path for trial in plan.trials if (path := place_of(folder, trial).model_path).is_dir())


def _without_model(plan: Plan, folder: SweepFolder, keep: Keep, done: set[str]) -> Iterator[str]:
    """Say that models were asked for too late for trials that have finished."""
    places = [place_of(folder, trial) for trial in plan.trials if trial.id in done and not trial.is_base]
    gone = sum(not place.model_path.is_dir() for place in places)
    if keep is not Keep.NONE and gone and not (keep is Keep.BEST and gone < len(places)):
        yield f"Of {gone} trials that have finished before, no model was kept; another --output trains them again."


def _lost(plan: Plan, ended: set[str]) -> dict[str, str]:
    """Return the trials of a sweep that ran to its end which have neither record nor reason: none, if all is well."""
    lost = (trial.label for trial in plan.trials if trial.id not in ended)
    return dict.fromkeys(lost, "It ended and left no record.")


def _disk_need(keep: Keep, missing: Sequence[Trial], staff: WorkerAllocation | None) -> int:
    """Return the bytes that what isn't finished is guessed to take on the disk at most."""
    if staff is None:
        return 0
    return staff.disk_need({Keep.NONE: 0, Keep.BEST: 1 + staff.workers, Keep.ALL: len(missing)}[keep])


def _halt_reason(halted: Failure | None, need: int) -> str:
    """Return why the sweep couldn't go on, empty if it could."""
    if halted is None:
        return ""
    how_much = f" The trials need about {size(need)} for checkpoints and models while they run."
    return halted.reason + (how_much if halted.kind == "disk-full" else "")


def _begin(
    plan: Plan,
    missing: Sequence[Trial],
    folder: SweepFolder,
    executor: Executor,
    staff: WorkerAllocation,
    observer: Observer,
    *,
    estimate: bool,
) -> list[str]:
    """Start the workers and write the manifest, with an estimate if it is wanted; return what the user should know."""
    executor.start(staff.workers, staff.threads, staff.gpus)
    notes = [*plan.notes, *plan.data.notes, *staff.preparation.notes]
    workers = {"number": staff.workers, "threads": staff.threads}
    manifest = new_manifest(plan, folder.path.absolute(), folder.manifest(), notes, workers=workers)
    folder.write_manifest(manifest)
    if estimate and (new := unestimated(manifest, missing)):
        expected, found = estimate_cost(plan, new, folder, executor, staff, observer.note)
        notes += found
        folder.write_manifest(with_estimate({**manifest, "notes": notes}, expected))
    return notes


class _Tables:
    """Keeps tables, manifest and kept models up to date, without spending much of the sweep's time on it."""

    def __init__(self, plan: Plan, folder: SweepFolder, keep: Keep, *, workers: int) -> None:
        self._plan, self._folder, self._keep, self._workers = plan, folder, keep, workers
        self._begun = time.monotonic()
        self._seconds_before = (folder.manifest().get("truth") or {}).get("seconds", 0.0)
        self._not_before = 0.0

    def update(self) -> None:
        if time.monotonic() < self._not_before:
            return
        started = time.monotonic()
        self._write(ended=False)
        self._not_before = time.monotonic() + TABLES_SHARE * (time.monotonic() - started)

    def finish(self, *, changed: bool) -> None:
        if changed:
            self._write(ended=True)
        else:
            self._folder.write_tables()

    def _write(self, *, ended: bool) -> None:
        self._folder.write_tables()
        if self._keep is Keep.BEST:
            keep_best_model(self._folder)
        manifest = with_times(self._folder.manifest(), self._folder, self._truth(), ended=ended)
        self._folder.write_manifest(manifest)

    def _truth(self) -> CostEstimate:
        seconds = self._seconds_before + time.monotonic() - self._begun
        return measured(self._plan.trials, self._folder, workers=self._workers, seconds=seconds)


def keep_best_model(folder: SweepFolder) -> TrialFolder | None:
    """Remove the models of all finished trials but the one with the lowest held-out loss; return that one, if any."""
    kept = [
        (record.loss.eval_loss, record.trial, place) for place, record in folder.finished() if place.model_path.is_dir()
    ]
    if not kept:
        return None
    *_, best = min(kept, key=lambda one: one[:2])
    for *_, place in kept:
        if place is not best:
            shutil.rmtree(place.model_path, ignore_errors=True)  # another process may be at it, too
    return best
