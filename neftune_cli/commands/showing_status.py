"""What `neftune status` does: find the sweeps, look at them, and print what is there."""

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, Group
from rich.text import Text

from neftune_cli.errors import ExitCode, NothingToCompareError, Problem, UsageError
from neftune_cli.store import SweepFolder, find_sweeps
from neftune_cli.sweeps.picture import SweepPicture
from neftune_cli.sweeps.status import StatusReader
from neftune_cli.sweeps.views import State, SweepStatus, TrialView, seconds_since

PLAIN_WIDTH = 120
"""Characters of a line where there is no terminal to fit."""
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
        typer.echo(json.dumps({"sweeps": [_as_data(status) for status in statuses]}, indent=2, default=str))
    else:
        _print(statuses, console)
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
    from neftune_cli.sweeps.live import LivePicture

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


def _print(statuses: Sequence[SweepStatus], console: Console) -> None:
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH, color_system=None)
    for number, status in enumerate(statuses):
        console.print(*([""] if number else []), SweepPicture(status, folded=False), sep="\n")
        for sentence in _what_next(status):
            console.print(Text(f"\n{sentence}"), soft_wrap=True)


def _what_next(status: SweepStatus) -> Iterator[str]:
    """Yield what to do where nothing goes on by itself."""
    if status.of(State.RUNNING):
        return
    command = shlex.join(status.command or ("neftune", "sweep", str(status.path / "sweep.yaml")))
    if not status.is_over:
        yield f"No trial runs now. To go on, give the sweep's command:\n  {command}"
    elif status.failures:
        retrying = command if "--retry" in status.command else f"{command} --retry failed"
        yield f"Logs are in {status.path / 'trials'}. To run the failed trials again:\n  {retrying}"


def _as_data(status: SweepStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "path": str(status.path),
        "counts": {str(state): number for state, number in status.counts.items()},
        "over": status.is_over,
        "workers": status.workers,
        "seconds_left": status.seconds_left,
        "work_left": status.work_left,
        "started": status.started,
        "age_seconds": seconds_since(status.started),
        "command": list(status.command),
        "trials": [_trial_as_data(trial) for trial in status.trials],
    }


def _trial_as_data(trial: TrialView) -> dict[str, Any]:
    """Return everything known of a trial; `age_seconds` is the time since it last reported."""
    return {**asdict(trial), "label": trial.label, "age_seconds": seconds_since(trial.updated)}
