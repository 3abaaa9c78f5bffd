"""`--dry-run`: the plan with estimates of time, memory and cost for the trials that are left."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from neftune_cli.commands.executable_plan import ExecutablePlan, executable_plan
from neftune_cli.commands.output import say_line
from neftune_cli.commands.run_plan import after_taken_looks
from neftune_cli.config.run_settings import SweepSettings
from neftune_cli.config.spec import TrialSpec
from neftune_cli.store.manifest import Cost
from neftune_cli.sweeps.cost_table import TO_RESUME, TO_RUN, CostedPlan, costed_plan, print_costs, states_of
from neftune_cli.sweeps.estimate import PlannedCost, estimate_cost
from neftune_cli.sweeps.inspection import LoadedSizes
from neftune_cli.sweeps.measurement_cache import remember_sizes, remembered_inspection, remembered_sizes
from neftune_cli.sweeps.resources import load_and_allocate, plannable_memory
from neftune_cli.training.trial import Trial


def dry_run(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    run_settings: SweepSettings,
    *,
    hourly_rate: float | None,
    quiet: bool,
    as_json: bool,
    pause_at: int | None = None,
) -> None:
    """Plan, calibrate where no finished trial shows the cost, and print the plan.

    Nothing is written to the results folder. A plan that this machine has calibrated before is printed without torch.

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.

    """
    begin = time.monotonic()
    with executable_plan(
        file, fields, output, run_settings, quiet=quiet, pause_at=pause_at, remembered=remembered_inspection
    ) as executable:
        costed = _costed(executable, run_settings, hourly_rate, begin)
    if as_json:
        typer.echo(json.dumps(costed.as_json(), indent=2))
        return
    print_costs(costed, Console())


def _costed(
    executable: ExecutablePlan, run_settings: SweepSettings, hourly_rate: float | None, begin: float
) -> CostedPlan:
    folder = executable.folder
    plan = after_taken_looks(executable.planned, retry_failed=run_settings.retry_failed)
    states = states_of(plan, folder, retry_failed=run_settings.retry_failed)
    missing = [trial for trial in plan.trials if states[trial.id] in (TO_RUN, TO_RESUME)]
    notes = list(plan.all_notes)
    estimate: Cost | None = None
    memory = None if plan.inspection.device == "cuda" else plannable_memory()
    if missing:
        planned = _planned(executable, missing, run_settings)
        # the preparations are included, because a sweep makes them before its first trial too
        estimate = planned.cost.after(max(time.monotonic() - begin, planned.startup))
        memory = planned.allocation.memory
        notes += [*planned.allocation.sizes.notes, *planned.notes]
    return costed_plan(
        plan,
        folder,
        states,
        estimate,
        hourly_rate=hourly_rate,
        available_memory=memory,
        notes=notes,
    )


def _planned(executable: ExecutablePlan, missing: Sequence[Trial], run_settings: SweepSettings) -> PlannedCost:
    """Return the cost of the missing trials with all workers busy. Workers start only if something is not known yet."""
    plan, folder, executor = executable.plan, executable.folder, executable.executor

    def prepare(trials: Sequence[TrialSpec]) -> LoadedSizes:
        return remembered_sizes(plan, trials) or executor.prepare(trials)

    allocation = load_and_allocate(plan, missing, folder, prepare, run_settings.allowed_workers)
    if run_settings.estimate:
        remember_sizes(plan, [trial.spec for trial in missing], allocation.sizes)
    return estimate_cost(plan, missing, folder, executor, allocation, say_line, calibrate=run_settings.estimate)
