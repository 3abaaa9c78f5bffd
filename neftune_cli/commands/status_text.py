"""How `neftune status` puts what it has seen: as tables with what to type next, or as JSON."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from neftune_cli.formatting import PLAIN_WIDTH
from neftune_cli.sweeps.progress.picture import SweepPicture
from neftune_cli.sweeps.progress.views import State, SweepStatus, TrialView, seconds_since


def print_statuses(statuses: Sequence[SweepStatus], console: Console) -> None:
    """Print how sweeps stand, one after the other, and under each what to type if nothing goes on by itself."""
    if not console.file.isatty():
        console = Console(file=console.file, highlight=False, width=PLAIN_WIDTH, color_system=None)
    for number, status in enumerate(statuses):
        console.print(*([""] if number else []), SweepPicture(status, folded=False), sep="\n")
        for trial in status.of(State.WAITING):
            if trial.reason:
                console.print(Text(f"{trial.label} {trial.reason}"), soft_wrap=True)
        for sentence in _what_next(status):
            console.print(Text(f"\n{sentence}"), soft_wrap=True)


def _what_next(status: SweepStatus) -> Iterator[str]:
    """Yield what to do where nothing goes on by itself."""
    if status.of(State.RUNNING):
        return
    command = _command(status)
    if not status.is_over:
        yield f"No trial runs now. Unless a sweep is just starting, this goes on:\n  {command}"
    elif status.failures:
        retries = "--retry" in status.command or "train" in status.command  # training once always does
        retrying = command if retries else f"{command} --retry failed"
        yield f"Logs are in {status.path / 'trials'}. To run the failed trials again:\n  {retrying}"


def _command(status: SweepStatus) -> str:
    """Return what to type: what was typed last, and where, if that was elsewhere."""
    if not status.command:
        return shlex.join(("neftune", "sweep", str(status.path / "sweep.yaml"), "--output", str(status.path)))
    command = shlex.join(status.command)
    is_here = status.directory in ("", str(Path.cwd()))
    return command if is_here else f"cd {shlex.quote(status.directory)} && {command}"


def as_data(status: SweepStatus) -> dict[str, Any]:
    """Return everything known of a sweep, as `--json` has it."""
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
        "directory": status.directory,
        "trials": [_trial_as_data(trial) for trial in status.trials],
    }


def _trial_as_data(trial: TrialView) -> dict[str, Any]:
    """Return everything known of a trial; `age_seconds` is the time since it last reported."""
    return {**asdict(trial), "label": trial.label, "age_seconds": seconds_since(trial.updated)}
