"""`--dry-run`: the trials of a plan, what is done already, and how many steps the rest takes."""

import json

import typer
from rich.console import Console
from rich.table import Table

from neftune_cli.commands.request import Request
from neftune_cli.sweeps.plan import steps_of
from neftune_cli.sweeps.runner import missing_trials, place_of
from neftune_cli.training.trial import Trial


def show_plan(request: Request, *, retry_failed: bool, as_json: bool) -> None:
    """Print the plan; nothing is trained or written."""
    plan = request.plan
    missing = {trial.id for trial in missing_trials(plan, request.folder, retry_failed=retry_failed)}
    rows = [
        {
            "trial": trial.id,
            "arm": trial.arm,
            "seed": trial.seed,
            "steps": steps_of(trial, plan.data),
            "state": _state(request, trial, missing),
        }
        for trial in plan.trials
    ]
    if as_json:
        typer.echo(json.dumps({"folder": str(request.folder.path), "trials": rows}, indent=2))
        return
    table = Table(
        "trial", "arm", "seed", "steps", "state", title=f"Plan of {request.folder.path}", title_justify="left"
    )
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)
    for note in plan.notes:
        typer.echo(note)
    steps = sum(int(str(row["steps"])) for row in rows if row["trial"] in missing)
    typer.echo(
        f"{len(missing)} of {len(rows)} trials to run, {steps} optimizer steps at most; "
        f"{len(plan.data.train)} training examples, {len(plan.data.held_out)} held out."
    )


def _state(request: Request, trial: Trial, missing: set[str]) -> str:
    if trial.id in missing:
        return "to run"
    return "failed" if place_of(request.folder, trial).record() is None else "done"
