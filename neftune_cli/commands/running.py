"""What `train` and `sweep` share: run a plan while showing it, then print what came out."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import typer
from rich.console import Console

from neftune_cli.commands.printing import print_tables
from neftune_cli.commands.request import Request
from neftune_cli.errors import ExitCode, NothingToCompareError
from neftune_cli.reporting.documents import document
from neftune_cli.reporting.formats import Format
from neftune_cli.reporting.sweep_report import judge_sweep, write_reports
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.live import LiveTable
from neftune_cli.sweeps.progress import Observer, PlainLines, Silent
from neftune_cli.sweeps.runner import Outcome, run_sweep


def run_and_report(
    request: Request, *, retry_failed: bool = False, quiet: bool, as_json: bool, keep_models: bool = False
) -> None:
    """Run a plan and print its tables; exit with 1 if a trial has failed."""
    plan, folder = request.plan, request.folder
    with _observer(quiet=quiet) as observer:
        outcome = run_sweep(plan, folder, LocalExecutor(), observer, retry_failed=retry_failed, keep_models=keep_models)
    _report(request, outcome, as_json=as_json)
    if outcome.failed:
        typer.echo(_failures(request, outcome, retried=retry_failed), err=True)
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _observer(*, quiet: bool) -> AbstractContextManager[Observer]:
    if quiet:
        return nullcontext(Silent())
    console = Console(file=sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console)
    stream = sys.stderr
    return nullcontext(PlainLines(lambda line: print(line, file=stream, flush=True)))


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
    typer.echo(f"Trials run: {outcome.run_now}, done before: {outcome.already_done}; all in {folder.path}", err=True)


def _summary(request: Request, outcome: Outcome, comparisons: dict[str, Any]) -> str:
    counts = {"already_done": outcome.already_done, "run_now": outcome.run_now, "failed": outcome.failed}
    return json.dumps({"folder": str(request.folder.path), **counts, **comparisons}, indent=2)


def _failures(request: Request, outcome: Outcome, *, retried: bool) -> str:
    remedy = "Mend the cause and give the command again." if retried else "--retry failed runs them again."
    lines = [f"{trial} failed: {reason}" for trial, reason in outcome.failed.items()]
    logs = f"Each one's log.txt is in {request.folder.path / 'trials'}. {remedy}"
    return "\n".join([*lines, logs])
