"""Run a plan: choose the executor, run the trials while showing progress, and report the results.

The runner, the display and the reports are imported when they are needed, so that a sweep prints its first line soon.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from neftune_cli.commands.request import PlannedSweep, plan_sweep
from neftune_cli.config.executors import INLINE, LOCAL, make_executor
from neftune_cli.config.process import command_again
from neftune_cli.config.run_settings import SweepSettings, Tracking
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import ExitCode, NeftuneError, Problem, UsageError
from neftune_cli.metrics import names_function
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.failures import DISK_KINDS, failure
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.resources import available_cores
from neftune_cli.trackers import prepare_trackers

if TYPE_CHECKING:
    from neftune_cli.sweeps.progress import Observer
    from neftune_cli.sweeps.runner import SweepOutcome

READING = "Reading model and data ..."
"""First line of a sweep. The imports of a worker and its reading take seconds."""


@dataclass(frozen=True)
class ExecutablePlan:
    """A plan with the executor for its trials."""

    planned: PlannedSweep
    executor: Executor
    interrupts: Interrupts


@contextmanager
def executable_plan(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    running: SweepSettings,
    *,
    quiet: bool,
    single_trial: bool = False,
    remembered: Callable[[SweepSpec], Inspection | None] = lambda _: None,
) -> Iterator[ExecutablePlan]:
    """Yield the plan of the given options with its executor, whose workers end with the block.

    Unless `quiet`, a line says that model and data are read: by a worker, unless `remembered` returns the facts.

    Raises:
        UsageError: every problem of the request; or only one trial is allowed, and the folder has another.

    """
    with Interrupts() as interrupts, _executor(running) as executor:
        say = _say_nothing if quiet else say_line

        def inspect(spec: SweepSpec) -> Inspection:
            known = remembered(spec) if running.on_this_machine else None
            found = known or executor.inspect(spec)
            return found.for_processes(running.trial_settings.processes, available_cores())

        planned = plan_sweep(file, fields, output, inspect, lambda: say(READING))
        if running.estimate:
            from neftune_cli.sweeps.measurement_cache import remember_machine

            remember_machine(planned.plan.inspection)
        if single_trial and len(planned.plan.trials) > 2:  # the base model and the one training
            there = f"{planned.folder.path} already has trials of other arms or seeds"
            what = f"`neftune train` needs a folder with one training; {there}."
            raise UsageError(Problem(what, "Use another folder with --output, or `neftune sweep`."))
        yield ExecutablePlan(planned, executor, interrupts)


def say_line(line: str) -> None:
    """Print a line on stderr, which may be closed."""
    with suppress(OSError, ValueError):
        typer.echo(line, err=True)


def _say_nothing(line: str) -> None: ...


def _executor(running: SweepSettings) -> Executor:
    if running.workers != 0:
        return make_executor(running.executor, running.executor_settings)
    if running.executor not in (LOCAL, INLINE):
        what = f"--workers 0 selects --executor inline, but --executor {running.executor} is given."
        raise UsageError(Problem(what, "Remove one of them."))
    return make_executor(INLINE)


def run_and_report(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    running: SweepSettings,
    *,
    quiet: bool,
    as_json: bool,
    single_trial: bool = False,
    pause_at: int | None = None,
) -> "tuple[PlannedSweep, SweepOutcome]":
    """Plan, run, and print the results.

    Args:
        file: experiment in YAML, or None.
        fields: given option values by spec field.
        output: results folder, or None for the default one.
        running: how trials are run.
        quiet: whether to show no progress.
        as_json: whether to print one JSON summary instead of tables.
        single_trial: whether the folder may have only one training.
        pause_at: number of seeds of the planned look after which to stop, or None.

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.
        typer.Exit: with code 1, a trial failed, or the sweep cannot continue.
        KeyboardInterrupt: the user or the system interrupted the sweep.

    """
    with executable_plan(file, fields, output, running, quiet=quiet, single_trial=single_trial) as executable:
        from neftune_cli.commands.outcome import print_results  # before the run: an upgrade may replace the files

        planned, say = executable.planned, _say_nothing if quiet else say_line
        with _disk_errors_reported(planned.folder.path):
            outcome = run_plan(executable, running, lambda: _observer(planned, quiet=quiet), say, pause_at=pause_at)
    with _disk_errors_reported(planned.folder.path):
        print_results(planned, outcome, as_json=as_json, single_trial=single_trial)
    _finish(planned, outcome, retried=running.retry_failed)
    return planned, outcome


def run_plan(
    executable: ExecutablePlan,
    running: SweepSettings,
    observe: "Callable[[], AbstractContextManager[Observer]]",
    say: Callable[[str], None],
    *,
    pause_at: int | None = None,
) -> "SweepOutcome":
    """Run all trials, or those of the planned looks until every arm is decided.

    Args:
        executable: the plan with its executor.
        running: how trials are run.
        observe: returns a new observer of a run.
        say: receives a line on each planned look.
        pause_at: number of seeds of the planned look after which to stop, or None.

    Raises:
        UsageError: no look is planned at `pause_at`, the folder is not writable, a tracker cannot be used, or the
            declared function does not score a response.
        KeyboardInterrupt: the user interrupted a second time.

    """
    from neftune_cli.commands.until_decided import check_pause, run_looks
    from neftune_cli.sweeps.runner import run_sweep

    plan, folder = executable.planned.plan, executable.planned.folder
    check_pause(plan.spec.analysis.looks, pause_at)
    with _comparison_tracked(running.trial_settings.tracking, folder, say):
        if plan.spec.analysis.looks:
            return run_looks(executable, running, observe, say, pause_at=pause_at)
        with observe() as observer:
            outcome = run_sweep(plan, folder, executable.executor, observer, executable.interrupts, running)
        if not outcome.was_cut_short:
            folder.add_look(len(plan.spec.seeds))
            score_declared_metric(plan.spec, folder)
        return outcome


def score_declared_metric(spec: SweepSpec, folder: SweepFolder) -> None:
    """Score the responses of all finished trials with the declared function, if there is one, and store the scores.

    Raises:
        UsageError: the function cannot be called, or does not return a number.

    """
    if not names_function(spec.analysis.metric):
        return
    from neftune_cli.evidence.user_metrics import metric_scores

    try:
        scores = metric_scores(folder, str(spec.analysis.metric))
    except UsageError as error:
        resume = "No trial is lost: then run the same command again."
        raise UsageError(*(replace(one, fix=f"{one.fix} {resume}") for one in error.problems)) from error
    folder.write_metric_scores(scores)


@contextmanager
def _comparison_tracked(tracking: Tracking | None, folder: SweepFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Check the trackers of a sweep before it runs, and write its comparison to them afterwards."""
    if tracking is None:
        yield
        return
    prepare_trackers(tracking, folder.name)
    yield
    from neftune_cli.trackers.runs import write_comparison

    for line in write_comparison(tracking, folder):
        say(line)


def _observer(planned: PlannedSweep, *, quiet: bool) -> Any:
    from rich.console import Console

    from neftune_cli.sweeps.progress import NullObserver
    from neftune_cli.sweeps.progress.live import LiveObserver, can_draw
    from neftune_cli.sweeps.progress.plain_lines import LineObserver

    if quiet:
        return nullcontext(NullObserver())
    console = Console(file=sys.stderr)
    if can_draw(console):
        return LiveObserver(console, planned.folder)
    stream = sys.stderr
    return LineObserver(lambda line: print(line, file=stream, flush=True), planned.folder)


def _finish(planned: PlannedSweep, outcome: "SweepOutcome", *, retried: bool) -> None:
    """Report failures, and end the command with its exit code if there are any.

    Raises:
        KeyboardInterrupt: the sweep was interrupted.
        typer.Exit: a trial failed, or the sweep could not continue.

    """
    if outcome.failed:
        typer.echo(_failure_report(planned, outcome, retried=retried), err=True)
    if outcome.halted:
        typer.echo(_halt_report(outcome.halted), err=True)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failed or outcome.halted:
        raise typer.Exit(ExitCode.TRIAL_FAILED)


@contextmanager
def _disk_errors_reported(folder: Path) -> Iterator[None]:
    """Turn a disk error of the results folder into a message with the command that resumes.

    Raises:
        NeftuneError: the disk is full, or the folder is missing or read-only.

    """
    try:
        yield
    except OSError as error:
        why = failure(error, folder)
        if why.kind not in DISK_KINDS:
            raise
        raise NeftuneError(_halt_report(why.reason)) from error


def _failure_report(planned: PlannedSweep, outcome: "SweepOutcome", *, retried: bool) -> str:
    """Return the reason of each failed trial, the place of the logs, and the command that retries."""
    again = command_again() if retried else command_again("--retry", "failed")
    lines = [f"{trial} failed: {reason}" for trial, reason in outcome.failed.items()]
    logs = f"The logs are in {planned.folder.path / 'trials'}. After fixing the cause, retry the failed trials with:"
    return "\n".join([*lines, logs, f"  {again}"])


def _halt_report(reason: str) -> str:
    """Return the reason why no trial can run, and the command that resumes."""
    return f"{reason}\nFinished trials are kept. After fixing the cause, resume with:\n  {command_again()}"
