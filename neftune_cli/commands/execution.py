"""Run a plan: choose the executor, run the trials while showing progress, and report the results.

The runner, the display and the reports are imported when they are needed, so that a sweep prints its first line soon.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from neftune_cli.commands.request import PlannedSweep, plan_sweep
from neftune_cli.config.executors import INLINE, LOCAL, make_executor
from neftune_cli.config.run_settings import RunOptions
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.interrupts import Interrupts

if TYPE_CHECKING:
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
    running: RunOptions,
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
    with Interrupts() as interrupts, make_executor(_executor_name(running)) as executor:
        announce = _announce_nothing if quiet else _announce_reading

        def inspect(spec: SweepSpec) -> Inspection:
            return remembered(spec) or executor.inspect(spec)

        planned = plan_sweep(file, fields, output, inspect, announce)
        if running.estimate:
            from neftune_cli.sweeps.remembered import remember_machine

            remember_machine(planned.plan.inspection)
        if single_trial and len(planned.plan.trials) > 2:  # the base model and the one training
            what = f"{planned.folder.path} has other trainings."
            raise UsageError(Problem(what, "Use another folder with --output, or `neftune sweep`."))
        yield ExecutablePlan(planned, executor, interrupts)


def _announce_reading() -> None:
    with suppress(OSError, ValueError):  # the terminal may be closed
        typer.echo(READING, err=True)


def _announce_nothing() -> None: ...


def _executor_name(running: RunOptions) -> str:
    if running.workers != 0:
        return running.executor
    if running.executor not in (LOCAL, INLINE):
        what = f"--workers 0 runs the trials in the main process, but --executor {running.executor} does not."
        raise UsageError(Problem(what, "Remove one of them."))
    return INLINE


def run_and_report(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    running: RunOptions,
    *,
    quiet: bool,
    as_json: bool,
    single_trial: bool = False,
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

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.
        typer.Exit: with code 1, a trial failed, or the sweep cannot continue.
        KeyboardInterrupt: the user or the system interrupted the sweep.

    """
    with executable_plan(file, fields, output, running, quiet=quiet, single_trial=single_trial) as work:
        from neftune_cli.commands.failures import disk_errors_reported, finish
        from neftune_cli.commands.outcome import print_results  # before the run: an upgrade may replace the files
        from neftune_cli.sweeps.runner import run_sweep

        planned = work.planned
        with _observer(planned, quiet=quiet) as observer, disk_errors_reported(planned.folder.path):
            outcome = run_sweep(planned.plan, planned.folder, work.executor, observer, work.interrupts, running)
    with disk_errors_reported(planned.folder.path):
        print_results(planned, outcome, as_json=as_json, single_trial=single_trial)
    finish(planned, outcome, retried=running.retry_failed)
    return planned, outcome


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
