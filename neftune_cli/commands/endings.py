"""How a sweep ends otherwise than it should: what is said of it, what to type next, and the exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from neftune_cli.commands.request import Request
from neftune_cli.config.command_line import command_again
from neftune_cli.errors import ExitCode, NeftuneError
from neftune_cli.sweeps.failures import DISK_KINDS, failure
from neftune_cli.sweeps.runner import Outcome


def end(request: Request, outcome: Outcome, *, retried: bool) -> None:
    """Say what went wrong, if something did, and end the command with its exit code.

    Raises:
        KeyboardInterrupt: it was interrupted.
        typer.Exit: a trial has failed, or nothing could go on.
    """
    if outcome.failed:
        typer.echo(_failures_told(request, outcome, retried=retried), err=True)
    if outcome.halted:
        typer.echo(_halt_told(outcome.halted), err=True)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failed or outcome.halted:
        raise typer.Exit(ExitCode.TRIAL_FAILED)


@contextmanager
def disk_watched(request: Request) -> Iterator[None]:
    """Turn what the disk refuses, for the folder as a whole, into a sentence and the command to go on with."""
    try:
        yield
    except OSError as error:
        why = failure(error, request.folder.path)
        if why.kind not in DISK_KINDS:
            raise
        raise NeftuneError(_halt_told(why.reason)) from error


def _failures_told(request: Request, outcome: Outcome, *, retried: bool) -> str:
    """Return the reason of each failed trial, where more is to be read, and the command that runs them again."""
    again = command_again() if retried else command_again("--retry", "failed")
    lines = [f"{trial} failed: {reason}" for trial, reason in outcome.failed.items()]
    logs = f"Each one's log.txt is in {request.folder.path / 'trials'}. To run them again, when the cause is mended:"
    return "\n".join([*lines, logs, f"  {again}"])


def _halt_told(halted: str) -> str:
    """Return why nothing could go on, whatever the trial, and the command that does."""
    return f"{halted}\nWhat is finished is kept. To go on, when that is mended:\n  {command_again()}"
