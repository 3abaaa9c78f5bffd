"""What `neftune status` does: find the sweeps, and look at them once or again and again."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer
from rich.console import Console

from neftune_cli.commands.status_text import as_data, print_statuses
from neftune_cli.errors import ExitCode, NothingToCompareError, Problem, UsageError
from neftune_cli.store import SweepFolder, find_sweeps
from neftune_cli.sweeps.progress.status import StatusReader


def show_status(paths: Sequence[Path], *, watch: bool, as_json: bool) -> None:
    """Print how the sweeps at or below the paths stand; exit with 1 if a trial has failed.

    Raises:
        UsageError: a path doesn't exist, or there is no terminal for `--watch`.
        NothingToCompareError: there is no sweep.
    """
    readers = [StatusReader(folder) for folder in _find(paths)]
    console = Console(highlight=False)
    if watch:
        _watch(readers, console, as_json=as_json)
    statuses = [reader.read() for reader in readers]
    if as_json:
        typer.echo(json.dumps({"sweeps": [as_data(status) for status in statuses]}, indent=2, default=str))
    else:
        print_statuses(statuses, console)
    if any(status.failures for status in statuses):
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _find(paths: Sequence[Path]) -> list[SweepFolder]:
    if wrong := [path for path in paths if not path.is_dir()]:
        what = {True: "is a file", False: "doesn't exist"}
        fix = "Name a folder that `neftune sweep` writes to, like results/."
        raise UsageError(*(Problem(f"{path} {what[path.exists()]}.", fix) for path in wrong))
    if found := find_sweeps(paths):
        return found
    where = ", ".join(map(str, paths))
    raise NothingToCompareError(f"No sweep in {where}.\n  Run `neftune sweep --alphas 0,5,10,15` first.")


def _watch(readers: Sequence[StatusReader], console: Console, *, as_json: bool) -> None:
    """Draw the sweeps until nothing runs any more, or until Ctrl-C."""
    from neftune_cli.sweeps.progress.live import can_draw, watch_sweeps

    if as_json:
        raise UsageError(Problem("--watch draws on a terminal, which --json doesn't.", "Leave one of them out."))
    if not can_draw(console):
        fix = "Leave it out, and give the command again as often as you like."
        raise UsageError(Problem("--watch needs a terminal that can be drawn on.", fix))
    with suppress(KeyboardInterrupt):
        watch_sweeps(readers, console)
