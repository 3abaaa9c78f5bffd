"""`--dry-run`: the plan with its price: what is done, what is to run, and what that takes in time, memory and money."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neftune_cli.commands.work import Work, planned
from neftune_cli.config.running import RunOptions
from neftune_cli.sweeps.estimate import Estimate, forecast
from neftune_cli.sweeps.price_table import TO_GO_ON, TO_RUN, PricedPlan, priced_plan, print_price, states_of
from neftune_cli.sweeps.resources import available_memory, staff_for
from neftune_cli.training.trial import Trial


def show_plan(
    file: Path | None,
    options: Mapping[str, Any],
    output: Path | None,
    running: RunOptions,
    *,
    hourly_rate: float | None,
    as_json: bool,
) -> None:
    """Plan, try a few steps out where no finished trial tells what they take, and print; nothing is written.

    Raises:
        UsageError: every problem with the options, the model, the data and the folder.
    """
    begin = time.monotonic()
    with planned(file, options, output, running) as work:
        priced = _priced(work, running, hourly_rate, begin)
    if as_json:
        typer.echo(json.dumps(priced.as_json(), indent=2))
        return
    print_price(priced, Console())


def _priced(work: Work, running: RunOptions, hourly_rate: float | None, begin: float) -> PricedPlan:
    plan, folder = work.request.plan, work.request.folder
    states = states_of(plan, folder, retry_failed=running.retry_failed)
    missing = [trial for trial in plan.trials if states[trial.id] in (TO_RUN, TO_GO_ON)]
    notes = [*plan.notes, *plan.data.notes]
    estimate: Estimate | None = None
    if missing:
        estimate, found = _estimate(work, missing, running, begin)
        notes += found
    return priced_plan(
        plan,
        folder,
        states,
        estimate,
        hourly_rate=hourly_rate,
        available_memory=None if plan.inspection.device == "cuda" else available_memory(),
        notes=notes,
    )


def _estimate(work: Work, missing: Sequence[Trial], running: RunOptions, begin: float) -> tuple[Estimate, list[str]]:
    """Return what the missing trials take with all workers busy, and what the user should know.

    A sweep makes the same preparations before its first trial as were made here since the beginning.
    """
    plan, folder, executor = work.request.plan, work.request.folder, work.executor
    staff = staff_for(plan, missing, folder, executor, running.workers)
    estimate, notes = forecast(plan, missing, folder, executor, staff, _tell, try_out=running.estimate)
    prepared = time.monotonic() - begin
    return replace(estimate, seconds=prepared + estimate.seconds), [*staff.preparation.notes, *notes]


def _tell(note: str) -> None:
    typer.echo(note, err=True)
