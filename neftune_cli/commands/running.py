"""What `train` and `sweep` share: plan, run the plan while showing it, then print what came out."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neftune_cli.commands.endings import failures_told, halt_told
from neftune_cli.commands.printing import print_tables
from neftune_cli.commands.request import Request, understand
from neftune_cli.config.running import RunOptions
from neftune_cli.errors import ExitCode, NeftuneError, NothingToCompareError
from neftune_cli.reporting.documents import document
from neftune_cli.reporting.formats import Format
from neftune_cli.reporting.sweep_report import judge_sweep, write_reports
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.executors.inline import InlineExecutor
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.failures import DISK_KINDS, failure
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.live import LiveTable
from neftune_cli.sweeps.progress import PlainLines, Silent
from neftune_cli.sweeps.runner import Outcome, run_sweep


@dataclass(frozen=True)
class Work:
    """A plan and who carries it out."""

    request: Request
    executor: Executor
    interrupts: Interrupts


@contextmanager
def planned(file: Path | None, options: Mapping[str, Any], output: Path | None, running: RunOptions) -> Iterator[Work]:
    """Yield the plan that options mean, with its workers, who end with the block."""
    with Interrupts() as interrupts, InlineExecutor() if running.workers == 0 else LocalExecutor() as executor:
        yield Work(understand(file, options, output, executor.inspect), executor, interrupts)


def run_and_report(
    file: Path | None,
    options: Mapping[str, Any],
    output: Path | None,
    running: RunOptions,
    *,
    quiet: bool,
    as_json: bool,
) -> Request:
    """Plan, run, and print the tables; exit with 1 if a trial has failed, with 130 if the user interrupted it."""
    with planned(file, options, output, running) as work:
        request = work.request
        with _observer(request, quiet=quiet) as observer, _disk_watched(request):
            outcome = run_sweep(request.plan, request.folder, work.executor, observer, work.interrupts, running)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.halted:
        typer.echo(halt_told(outcome.halted), err=True)
        raise typer.Exit(ExitCode.TRIAL_FAILED)
    with _disk_watched(request):
        _report(request, outcome, as_json=as_json)
    if outcome.failed:
        typer.echo(failures_told(request, outcome, retried=running.retry_failed), err=True)
        raise typer.Exit(ExitCode.TRIAL_FAILED)
    return request


@contextmanager
def _disk_watched(request: Request) -> Iterator[None]:
    """Turn what the disk refuses, for the folder as a whole, into a sentence and the command to go on with."""
    try:
        yield
    except OSError as error:
        why = failure(error, request.folder.path)
        if why.kind not in DISK_KINDS:
            raise
        raise NeftuneError(halt_told(why.reason)) from error


def _observer(request: Request, *, quiet: bool) -> Any:
    if quiet:
        return nullcontext(Silent())
    console = Console(file=sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console, request.folder)
    stream = sys.stderr
    return PlainLines(lambda line: print(line, file=stream, flush=True), request.folder)


def _report(request: Request, outcome: Outcome, *, as_json: bool) -> None:
    folder = request.folder
    try:
        judged = judge_sweep(folder)
    except NothingToCompareError as error:
        typer.echo(str(error), err=True)
        if as_json:
            typer.echo(_summary(request, outcome, {"comparisons": []}))
        return
    write_reports(folder, judged)
    comparisons = [one.comparison for one in judged]
    if as_json:
        typer.echo(_summary(request, outcome, json.loads(document(comparisons, Format.JSON))))
        return
    print_tables(comparisons)
    elsewhere = f", by another process: {outcome.run_elsewhere}" if outcome.run_elsewhere else ""
    counts = f"Trials run: {outcome.run_now}, done before: {outcome.already_done}{elsewhere}"
    typer.echo(f"{counts}; all in {folder.path}", err=True)


def _summary(request: Request, outcome: Outcome, comparisons: dict[str, Any]) -> str:
    counts = {
        "already_done": outcome.already_done,
        "run_now": outcome.run_now,
        "run_elsewhere": outcome.run_elsewhere,
        "failed": outcome.failed,
    }
    return json.dumps({"folder": str(request.folder.path), **counts, **comparisons}, indent=2)
