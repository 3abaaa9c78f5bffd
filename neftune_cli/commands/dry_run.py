"""`--dry-run`: the plan with estimates of time, memory and cost for the trials that are left."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial

import typer
from rich.console import Console

from neftune_cli.commands.output import say_line
from neftune_cli.commands.request import PreparedSweep, SweepRequest, prepared_sweep
from neftune_cli.commands.run_plan import after_taken_looks
from neftune_cli.store.manifest import Cost
from neftune_cli.sweeps.cost_table import TO_RESUME, TO_RUN, CostedPlan, costed_plan, print_costs, states_of
from neftune_cli.sweeps.estimate import CostEstimate, estimate_cost
from neftune_cli.sweeps.measurement_cache import remember_sizes, remembered_inspection, sizes_of
from neftune_cli.sweeps.resources import load_and_allocate, plannable_memory
from neftune_cli.training.trial import Trial


def dry_run(request: SweepRequest, *, hourly_rate: float | None, quiet: bool, as_json: bool) -> None:
    """Plan, calibrate where no finished trial shows the cost, and print the plan.

    Nothing is written to the results folder. A plan that this machine has calibrated before is printed without torch.

    Raises:
        UsageError: every problem of the options, the model, the data and the folder.
    """
    begin = time.monotonic()
    with prepared_sweep(request, quiet=quiet, remembered=remembered_inspection) as sweep:
        costed = _costed(sweep, hourly_rate, begin)
    if as_json:
        typer.echo(json.dumps(costed.as_json(), indent=2))
        return
    print_costs(costed, Console())


def _costed(sweep: PreparedSweep, hourly_rate: float | None, begin: float) -> CostedPlan:
    folder, retry_failed = sweep.folder, sweep.request.settings.retry_failed
    plan = after_taken_looks(sweep.plan, folder, retry_failed=retry_failed)
    states = states_of(plan, folder, retry_failed=retry_failed)
    missing = [trial for trial in plan.trials if states[trial.id] in (TO_RUN, TO_RESUME)]
    notes = list(plan.all_notes)
    estimate: Cost | None = None
    training_examples: Mapping[str, int] = {}
    memory = None if plan.inspection.device == "cuda" else plannable_memory()
    if missing:
        estimated = _cost_estimate(sweep, missing)
        # the preparations are included, because a sweep makes them before its first trial too
        estimate = estimated.cost.after(max(time.monotonic() - begin, estimated.startup))
        memory, training_examples = estimated.allocation.memory, estimated.allocation.sizes.training_examples
        notes += [*estimated.allocation.sizes.notes, *estimated.notes]
    return costed_plan(
        plan,
        folder,
        states,
        estimate,
        hourly_rate=hourly_rate,
        available_memory=memory,
        notes=notes,
        training_examples=training_examples,
    )


def _cost_estimate(sweep: PreparedSweep, missing: Sequence[Trial]) -> CostEstimate:
    """Return the cost of the missing trials with all workers busy. Workers start only if something is not known yet."""
    plan, folder, executor, settings = sweep.plan, sweep.folder, sweep.executor, sweep.request.settings

    prepare = partial(sizes_of, plan, executor)
    allocation = load_and_allocate(plan, missing, folder, prepare, settings.allowed_workers)
    if settings.estimate:
        remember_sizes(plan, [trial.spec for trial in missing], allocation.sizes)
    return estimate_cost(plan, missing, folder, executor, allocation, say_line, calibrate=settings.estimate)
