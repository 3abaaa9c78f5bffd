"""`neftune status`: progress of sweeps, read from their folders."""

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neftune_cli.config.process import arguments_of
from neftune_cli.errors import ExitCode, NothingToCompareError, Problem, Problems, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neftune_cli.store import SweepFolder
    from neftune_cli.sweeps.progress.status import StatusReader
    from neftune_cli.sweeps.progress.views import SweepStatus, TrialView


@dataclass(frozen=True)
class LooksTaken:
    """Planned looks of a sweep: those that were taken, and the command that continues with the next one."""

    planned: tuple[int, ...]
    """Number of seeds at each planned look."""
    taken: int
    """Number of looks that were taken."""
    command: tuple[str, ...]
    """Command that continues; empty while planned trials are open, and if no arm gets further seeds."""

    @property
    def summary(self) -> str:
        """Return the last look that was taken, for example "Look 1 of 4 (5 seeds) was taken last."."""
        if not self.taken:
            return f"None of the {len(self.planned)} planned looks has been taken yet."
        return f"Look {self.taken} of {len(self.planned)} ({self.planned[self.taken - 1]} seeds) was taken last."


def status(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Results folders, or folders that contain results.")
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Update the display until no trial runs, or until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON document.")] = False,
) -> None:
    """Show the progress of sweeps: running and failed trials, the time left, and the command that resumes.

    The command only reads. It works in another terminal, and on another machine with the same disk.
    The exit code is 1 if a trial has failed. It is 2 if sweep.yaml is damaged, missing, or does not fit the trials; if
    manifest.json is damaged; or if it is missing in a sweep with planned looks. A trial with a damaged or missing file
    counts as waiting, and is trained again.
    """
    from rich.console import Console

    from neftune_cli.evidence.folders import check_folders, find_sweeps, nothing_found, sweeps_without_spec
    from neftune_cli.sweeps.progress.status import StatusReader

    check_folders(paths)
    folders = [*find_sweeps(paths), *sweeps_without_spec(paths)]
    if not folders:
        raise nothing_found(paths)
    readers = [StatusReader(folder) for folder in folders]
    console = Console(highlight=False)
    if watch:
        _watch(readers, console, as_json=as_json)
    statuses = [_checked(reader.read(), folder) for reader, folder in zip(readers, folders, strict=True)]
    if as_json:
        typer.echo(json.dumps({"sweeps": [as_data(one) for one in statuses]}, indent=2, default=str))
    else:
        print_statuses(statuses, console)
    if problems := [problem for one in statuses for problem in one.problems]:
        raise UsageError(*problems)
    if any(one.failures for one in statuses):
        raise typer.Exit(ExitCode.FAILED)


def _checked(status: "SweepStatus", folder: "SweepFolder") -> "SweepStatus":
    """Return a status with the problems of the sweep's files: `sweep.yaml`, the manifest and the records."""
    from neftune_cli.evidence.folders import check_files

    found = Problems()
    found.add(status.problems)
    found.attempt(lambda: check_files(folder, folder.records()))
    return replace(status, problems=found.found)


def print_statuses(statuses: "Sequence[SweepStatus]", console: "Console") -> None:
    """Print each sweep, and under it the command to type if no trial runs."""
    from rich.console import Console
    from rich.text import Text

    from neftune_cli.formatting import PLAIN_WIDTH
    from neftune_cli.sweeps.progress.screen import SweepScreen
    from neftune_cli.sweeps.progress.views import ObservedState

    if not console.file.isatty():
        console = Console(file=console.file, highlight=False, width=PLAIN_WIDTH, color_system=None)
    for number, one in enumerate(statuses):
        console.print(*([""] if number else []), SweepScreen(one, is_cut=False), sep="\n")
        for trial in one.of(ObservedState.WAITING):
            if trial.reason:
                console.print(Text(f"{trial.label} {trial.reason}"), soft_wrap=True)
        for sentence in _next_steps(one):
            console.print(Text(f"\n{sentence}"), soft_wrap=True)


def as_data(status: "SweepStatus") -> dict[str, Any]:
    """Return all information about a sweep, as `--json` prints it."""
    from neftune_cli.sweeps.progress.views import seconds_since

    looks = _looks(status)
    return {
        "name": status.name,
        "path": str(status.path),
        "counts": {str(state): number for state, number in status.counts.items()},
        "over": status.is_over and not (looks and looks.command),
        "looks": None if looks is None else asdict(looks),
        "workers": status.workers,
        "seconds_left": status.seconds_left,
        "work_left": status.work_left,
        "submitted": _submitted(status),
        "started": status.started,
        "age_seconds": seconds_since(status.started),
        "command": list(status.command),
        "directory": status.directory,
        "trials": [_trial_as_data(trial) for trial in status.trials],
    }


def _trial_as_data(trial: "TrialView") -> dict[str, Any]:
    """Return all information about a trial. `age_seconds` is the time since its last update."""
    from neftune_cli.sweeps.progress.views import seconds_since

    return {**asdict(trial), "label": trial.label, "age_seconds": seconds_since(trial.updated)}


def _next_steps(status: "SweepStatus") -> Iterator[str]:
    """Yield the command that resumes, retries or continues, if no trial runs and the sweep can be resumed."""
    from neftune_cli.formatting import counted
    from neftune_cli.sweeps.progress.views import ObservedState

    if status.problems or status.of(ObservedState.RUNNING):
        return
    if looks := _looks(status):
        continued = f" Continue with the next look:\n  {shlex.join(looks.command)}" if looks.command else ""
        yield f"{looks.summary}{continued}"
    can_continue = not status.is_over or status.failures or (looks and looks.taken < len(looks.planned))
    if can_continue and _is_of_other_version(status):
        yield "The finished trials are from another version of neftune, and only that version can continue the sweep."
        return
    command = _command(status)
    if not status.is_over and (submitted := _submitted(status)):
        yield (
            f"No trial is running. {counted(submitted, 'submitted job')} may still wait; with SLURM, "
            f"`squeue --me` lists them. Collect their results, or submit again those that are gone, with:\n  {command}"
        )
    elif not status.is_over:
        yield f"No trial is running. Unless a sweep has just been started, resume with:\n  {command}"
    elif status.failures:
        retrying = command if _retries(arguments_of(status.command)) else f"{command} --retry failed"
        yield f"The logs are in {status.path / 'trials'}. Retry the failed trials with:\n  {retrying}"


def _is_of_other_version(status: "SweepStatus") -> bool:
    """Return whether a version of neftune with another method has finished a trial."""
    from neftune_cli.config.identity import has_other_method
    from neftune_cli.store import SweepFolder

    return any(has_other_method(record.identity) for record in SweepFolder(status.path).records())


def _retries(arguments: tuple[str, ...]) -> bool:
    """Return whether a command runs failed trials again. `train` always does."""
    return arguments[:1] == ("train",) or any(one.partition("=")[0] == "--retry" for one in arguments)


def _looks(status: "SweepStatus") -> LooksTaken | None:
    """Return the planned looks of a sweep, None if it has none or if its files are damaged."""
    from neftune_cli.store import SweepFolder

    folder = SweepFolder(status.path)
    with suppress(UsageError):
        spec = folder.spec()
        if spec is not None and spec.analysis.has_planned_looks:
            taken = len(folder.manifest().planned_looks_taken(spec.analysis.looks))
            return LooksTaken(spec.analysis.looks, taken, _next_look(folder) if status.is_over else ())
    return None


def _next_look(folder: "SweepFolder") -> tuple[str, ...]:
    """Return the command for the next look of a sweep, empty if no arm gets further seeds."""
    from neftune_cli.analysis.comparison import compare_sweep
    from neftune_cli.analysis.decision import continuation
    from neftune_cli.reporting.next_step import next_step

    with suppress(UsageError, NothingToCompareError):
        comparison = compare_sweep(folder)[0].comparison
        step = next_step(comparison) if continuation(comparison) == "looks" else None
        return step.command if step else ()
    return ()


def _submitted(status: "SweepStatus") -> int:
    """Return the number of open trials for which a job was submitted. Only the scheduler knows whether it waits."""
    from neftune_cli.store import SweepFolder

    with_job = {trial for _, jobs in SweepFolder(status.path).jobs() for trial in jobs}
    return sum(trial.is_open and trial.trial in with_job for trial in status.trials)


def _command(status: "SweepStatus") -> str:
    """Return the last command of the sweep, with a change of directory if it ran elsewhere."""
    if not status.command:
        return shlex.join(("neftune", "sweep", str(status.path / "sweep.yaml"), "--output", str(status.path)))
    command = shlex.join(status.command)
    is_here = status.directory in ("", str(Path.cwd()))
    return command if is_here else f"cd {shlex.quote(status.directory)} && {command}"


def _watch(readers: "Sequence[StatusReader]", console: "Console", *, as_json: bool) -> None:
    """Update the display until no trial runs, or until Ctrl-C."""
    from neftune_cli.sweeps.progress.live import can_draw, watch_sweeps

    if as_json:
        raise UsageError(Problem("--watch and --json cannot be combined.", "Remove one of them."))
    if not can_draw(console):
        raise UsageError(Problem("--watch needs a terminal.", "Remove --watch, and run the command again when needed."))
    with suppress(KeyboardInterrupt):
        watch_sweeps(readers, console)
