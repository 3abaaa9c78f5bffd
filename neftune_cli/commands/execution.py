"""Run a plan while showing progress, and report the results.

The runner, the display and the reports are imported when they are needed, so that a sweep prints its first line soon.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from neftune_cli.commands.executable_plan import executable_plan
from neftune_cli.commands.output import say_line, say_nothing
from neftune_cli.commands.request import PlannedSweep
from neftune_cli.commands.run_plan import run_plan
from neftune_cli.config.process import command_again
from neftune_cli.config.run_settings import SweepSettings
from neftune_cli.errors import ExitCode, NeftuneError
from neftune_cli.sweeps.failures import DISK_KINDS, failure

if TYPE_CHECKING:
    from neftune_cli.sweeps.runner import SweepOutcome


def run_and_report(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    run_settings: SweepSettings,
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
        run_settings: how trials are run.
        quiet: whether to show no progress.
        as_json: whether to print one JSON summary instead of tables.
        single_trial: whether the folder may have only one training.
        pause_at: number of seeds of the planned look after which to stop, or None.

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.
        typer.Exit: with code 1, a trial failed, or the sweep cannot continue.
        KeyboardInterrupt: the user or the system interrupted the sweep.

    """
    with executable_plan(
        file, fields, output, run_settings, quiet=quiet, single_trial=single_trial, pause_at=pause_at
    ) as executable:
        # imported before the run, because an upgrade may replace the files
        from neftune_cli.commands.printed_results import print_results

        planned, say = executable.planned, say_nothing if quiet else say_line
        with _disk_errors_reported(planned.folder.path):
            outcome = run_plan(executable, run_settings, lambda: _observer(planned, quiet=quiet), say)
    with _disk_errors_reported(planned.folder.path):
        print_results(planned, outcome, as_json=as_json, single_trial=single_trial)
    _finish(planned, outcome, retried=run_settings.retry_failed)
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


def _finish(planned: PlannedSweep, outcome: "SweepOutcome", *, retried: bool) -> None:
    """Report failures, and end the command with its exit code if there are any.

    Raises:
        KeyboardInterrupt: the sweep was interrupted.
        typer.Exit: a trial failed, or the sweep could not continue.

    """
    if outcome.failed:
        say_line(_failure_report(planned, outcome, retried=retried))
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
