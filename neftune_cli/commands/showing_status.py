"""What `neftune status` does: find the sweeps, and look at them once or again and again."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console, Group
from rich.text import Text

from neftune_cli.commands.status_text import as_data, print_statuses
from neftune_cli.errors import ExitCode, NothingToCompareError, Problem, UsageError
from neftune_cli.store import SweepFolder, find_sweeps
from neftune_cli.sweeps.watching.picture import SweepPicture
from neftune_cli.sweeps.watching.status import StatusReader
from neftune_cli.sweeps.watching.views import SweepStatus

WATCH_SECONDS = 0.6
_WATCH_HINT = Text("Ctrl-C ends this view, not the sweep", style="dim")


def show_status(paths: Sequence[Path], *, watch: bool, as_json: bool) -> None:
    """Print how the sweeps at or below the paths stand; exit with 1 if a trial has failed.

    Raises:
        UsageError: a path doesn't exist, or there is no terminal for `--watch`.
        NothingToCompareError: there is no sweep.
    """
    readers = [StatusReader(folder) for folder in _find(paths)]
    console = Console(highlight=False)
    if watch:
        _check_watchable(console, as_json=as_json)
        _watch(readers, console)
    statuses = _read(readers)
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


def _check_watchable(console: Console, *, as_json: bool) -> None:
    if as_json:
        raise UsageError(Problem("--watch draws on a terminal, which --json doesn't.", "Leave one of them out."))
    if not console.is_terminal or console.is_dumb_terminal:
        fix = "Leave it out, and give the command again as often as you like."
        raise UsageError(Problem("--watch needs a terminal that can be drawn on.", fix))


def _watch(readers: Sequence[StatusReader], console: Console) -> None:
    """Draw until there is nothing left to do, or until Ctrl-C; nothing of it stays on the screen."""
    from neftune_cli.sweeps.watching.live import LivePicture

    try:
        with LivePicture(console, transient=True) as picture:
            statuses = _read(readers)
            while not all(status.is_over for status in statuses):
                shown = (SweepPicture(one, footer=_WATCH_HINT, share=len(statuses)) for one in statuses)
                picture.show(Group(*shown))
                time.sleep(WATCH_SECONDS)
                statuses = _read(readers)
    except KeyboardInterrupt:
        return


def _read(readers: Sequence[StatusReader]) -> list[SweepStatus]:
    return [reader.read() for reader in readers]
