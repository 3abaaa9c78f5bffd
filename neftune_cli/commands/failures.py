"""Failures of a sweep for the user: their reasons, the command that retries or resumes, and the exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from neftune_cli.commands.request import PlannedSweep
from neftune_cli.config.command_line import command_again
from neftune_cli.errors import ExitCode, NeftuneError
from neftune_cli.sweeps.failures import DISK_KINDS, failure
from neftune_cli.sweeps.runner import SweepOutcome


def finish(planned: PlannedSweep, outcome: SweepOutcome, *, retried: bool) -> None:
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
def disk_errors_reported(folder: Path) -> Iterator[None]:
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


def _failure_report(planned: PlannedSweep, outcome: SweepOutcome, *, retried: bool) -> str:
    """Return the reason of each failed trial, the place of the logs, and the command that retries."""
    again = command_again() if retried else command_again("--retry", "failed")
    lines = [f"{trial} failed: {reason}" for trial, reason in outcome.failed.items()]
    logs = f"The logs are in {planned.folder.path / 'trials'}. After fixing the cause, retry the failed trials with:"
    return "\n".join([*lines, logs, f"  {again}"])


def _halt_report(reason: str) -> str:
    """Return the reason why no trial can run, and the command that resumes."""
    return f"{reason}\nFinished trials are kept. After fixing the cause, resume with:\n  {command_again()}"
