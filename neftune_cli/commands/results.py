"""What a sweep prints when it has ended: its tables, or a summary as JSON."""

import json
from collections.abc import Iterator
from typing import Any

import typer

from neftune_cli.commands.printing import print_tables
from neftune_cli.commands.request import Request
from neftune_cli.errors import NothingToCompareError
from neftune_cli.reporting.documents import OutputFormat, document
from neftune_cli.reporting.reports import compare_sweep, write_reports
from neftune_cli.sweeps.runner import Outcome


def print_results(request: Request, outcome: Outcome, *, as_json: bool) -> None:
    """Write the reports beside the trials, and print the tables and how many trials were run; or all of it as JSON.

    Of a sweep that was cut short there is nothing but the summary as JSON.
    """
    folder = request.folder
    judged = None
    if not outcome.was_cut_short:
        try:
            judged = compare_sweep(folder)
        except NothingToCompareError as error:
            if not outcome.failed:  # else those say more, and what to do
                typer.echo(str(error), err=True)
    if judged is None:
        if as_json:
            _print_summary(request, outcome, {"comparisons": []})
        return
    write_reports(folder, judged)
    comparisons = [one.comparison for one in judged]
    if as_json:
        _print_summary(request, outcome, json.loads(document(comparisons, OutputFormat.JSON)))
        return
    print_tables(comparisons)
    for line in _counts(request, outcome):
        typer.echo(line, err=True)


def _counts(request: Request, outcome: Outcome) -> Iterator[str]:
    """Yield how many trials there were of each kind, and where the models are, if there are any."""
    folder = request.folder.path
    elsewhere = f", by another process: {outcome.run_elsewhere}" if outcome.run_elsewhere else ""
    left = f", left: {outcome.left} (the same command runs them)" if outcome.left else ""
    counts = f"Trials run: {outcome.run_now}, done before: {outcome.already_done}{elsewhere}{left}"
    yield f"{counts}; all in {folder}"
    match outcome.models:
        case [model]:
            yield f"The model is in {model}"
        case [_, *_]:
            yield f"{len(outcome.models)} models are in {folder / 'trials' / '*' / 'model'}"


def _print_summary(request: Request, outcome: Outcome, comparisons: dict[str, Any]) -> None:
    summary = {
        "folder": str(request.folder.path),
        "already_done": outcome.already_done,
        "run_now": outcome.run_now,
        "run_elsewhere": outcome.run_elsewhere,
        "failed": outcome.failed,
        "left": outcome.left,
        "models": [str(model) for model in outcome.models],
        "halted": outcome.halted,
        "interrupted": outcome.interrupted,
    }
    typer.echo(json.dumps({**summary, **comparisons}, indent=2))
