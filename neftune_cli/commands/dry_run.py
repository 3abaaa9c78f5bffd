"""`--dry-run`: the plan with estimates of time, memory and cost for the trials that are left."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neftune_cli.commands.execution import ExecutablePlan, executable_plan
from neftune_cli.config.run_settings import SweepSettings
from neftune_cli.sweeps.cost_table import TO_RESUME, TO_RUN, CostedPlan, costed_plan, print_costs, states_of
from neftune_cli.sweeps.estimate import CostEstimate, estimate_cost
from neftune_cli.sweeps.resources import allocate_workers, available_memory
from neftune_cli.training.trial import Trial


def dry_run(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    running: SweepSettings,
    *,
    hourly_rate: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Plan, calibrate where no finished trial shows the cost, and print the plan. Nothing is written.

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.

    """
    begin = time.monotonic()
    with executable_plan(file, fields, output, running, quiet=quiet) as work:
        costed = _costed(work, running, hourly_rate, begin)
    if as_json:
        typer.echo(json.dumps(costed.as_json(), indent=2))
        return
    print_costs(costed, Console())


def _costed(work: ExecutablePlan, running: SweepSettings, hourly_rate: float | None, begin: float) -> CostedPlan:
    plan, folder = work.planned.plan, work.planned.folder
    states = states_of(plan, folder, retry_failed=running.retry_failed)
    missing = [trial for trial in plan.trials if states[trial.id] in (TO_RUN, TO_RESUME)]
    notes = [*plan.notes, *plan.data.notes]
    # before the calibration, whose worker keeps its memory
    available = None if plan.inspection.device == "cuda" else available_memory()
    estimate: CostEstimate | None = None
    if missing:
        estimate, found = _estimate(work, missing, running, begin)
        notes += found
    return costed_plan(
        plan,
        folder,
        states,
        estimate,
        hourly_rate=hourly_rate,
        available_memory=available,
        notes=notes,
    )


def _estimate(
    work: ExecutablePlan, missing: Sequence[Trial], running: SweepSettings, begin: float
) -> tuple[CostEstimate, list[str]]:
    """Return the cost of the missing trials with all workers busy, and notes for the user.

    The preparations since `begin` are included, because a sweep makes them before its first trial too.
    """
    plan, folder, executor = work.planned.plan, work.planned.folder, work.executor
    allocation = allocate_workers(plan, missing, folder, executor, running.workers)
    estimate, notes = estimate_cost(
        plan, missing, folder, executor, allocation, _print_note, calibrate=running.estimate
    )
    prepared = time.monotonic() - begin
    return replace(estimate, seconds=prepared + estimate.seconds), [*allocation.preparation.notes, *notes]


def _print_note(note: str) -> None:
    typer.echo(note, err=True)
