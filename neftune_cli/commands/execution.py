"""Run a plan while showing progress, and report the results.

The runner, the display and the reports are imported when they are needed, so that a sweep prints its first line soon.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from neftune_cli.commands.output import say_line, say_nothing
from neftune_cli.commands.request import PreparedSweep, SweepRequest, prepared_sweep
from neftune_cli.commands.run_plan import run_plan, track_comparison
from neftune_cli.config.process import command_again
from neftune_cli.errors import ExitCode, NeftuneError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.failures import DISK_KINDS, failure_of

if TYPE_CHECKING:
    from neftune_cli.sweeps.runner import SweepOutcome


def run_and_report(request: SweepRequest, *, quiet: bool, as_json: bool) -> PreparedSweep:
    """Plan, run, and print the results.

    Args:
        request: options, experiment file and folder.
        quiet: whether to show no progress.
        as_json: whether to print one JSON summary instead of tables.

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.
        typer.Exit: with code 1, a trial failed, or the sweep cannot continue.
        KeyboardInterrupt: the user or the system interrupted the sweep.
    """
    with prepared_sweep(request, quiet=quiet) as sweep:
        # imported before the run, because an upgrade may replace the files
        from neftune_cli.commands.printed_results import print_results

        say = say_nothing if quiet else say_line
        with _disk_errors_reported(sweep.folder.path):
            outcome = run_plan(sweep, lambda: _observer(sweep.folder, quiet=quiet), say)
    with _disk_errors_reported(sweep.folder.path):
        compared = print_results(sweep, outcome, as_json=as_json)
        track_comparison(sweep, outcome, say, compared)
    _finish(sweep, outcome)
    return sweep


def _observer(folder: SweepFolder, *, quiet: bool) -> Any:
    from rich.console import Console

    from neftune_cli.sweeps.progress import NullObserver
    from neftune_cli.sweeps.progress.live import LiveObserver, can_draw
    from neftune_cli.sweeps.progress.plain_lines import LineObserver

    if quiet:
        return nullcontext(NullObserver())
    console = Console(file=sys.stderr)
    if can_draw(console):
        return LiveObserver(console, folder)
    stream = sys.stderr
    return LineObserver(lambda line: print(line, file=stream, flush=True), folder)


def _finish(sweep: PreparedSweep, outcome: "SweepOutcome") -> None:
    """Report failures, and end the command with its exit code if there are any.

    Raises:
        KeyboardInterrupt: the sweep was interrupted.
        typer.Exit: a trial failed, or the sweep could not continue.
    """
    if outcome.failed:
        say_line(_failure_report(sweep, outcome))
    if outcome.halted:
        say_line(_halt_report(outcome.halted))
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failed or outcome.halted:
        raise typer.Exit(ExitCode.FAILED)


@contextmanager
def _disk_errors_reported(folder: Path) -> Iterator[None]:
    """Turn a disk error of the results folder into a message with the command that resumes.

    Raises:
        NeftuneError: the disk is full, or the folder is missing or read-only.
    """
    try:
        yield
    except OSError as error:
        why = failure_of(error, folder)
        if why.kind not in DISK_KINDS:
            raise
        raise NeftuneError(_halt_report(why.reason)) from error


def _failure_report(sweep: PreparedSweep, outcome: "SweepOutcome") -> str:
    """Return the reason of each failed trial, the place of the logs, and the command that retries."""
    again = command_again() if sweep.request.settings.retry_failed else command_again("--retry", "failed")
    lines = [f"{trial} failed: {reason}" for trial, reason in outcome.failed.items()]
    logs = f"The logs are in {sweep.folder.path / 'trials'}. After fixing the cause, retry the failed trials with:"
    tested = "Failed trials whose arm was tested at a planned look without them are not retried."
    return "\n".join([*lines, logs, f"  {again}", *([tested] if sweep.plan.spec.analysis.has_planned_looks else [])])


def _halt_report(reason: str) -> str:
    """Return the reason why no trial can run, and the command that resumes."""
    return f"{reason}\nFinished trials are kept. After fixing the cause, resume with:\n  {command_again()}"
