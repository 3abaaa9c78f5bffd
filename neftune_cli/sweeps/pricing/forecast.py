"""Says what a plan's missing trials will take, from finished ones of their kind, else from a few steps tried out."""

from collections.abc import Callable, Sequence

from neftune_cli.config.spec import TrialSpec
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.pricing.estimate import Estimate, estimate_of, to_calibrate
from neftune_cli.sweeps.staffing import Staff
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial import Trial


def forecast(
    plan: Plan,
    missing: Sequence[Trial],
    folder: SweepFolder,
    executor: Executor,
    staff: Staff,
    tell: Callable[[str], None],
    *,
    try_out: bool = True,
) -> tuple[Estimate, list[str]]:
    """Return what the missing trials take with all workers busy, and notes on what couldn't be tried out.

    Args:
        plan: all trials.
        missing: those to run, in their order.
        folder: where finished ones are.
        executor: who tries recipes out that no finished trial speaks for.
        staff: how many workers there are, and with how many threads.
        tell: takes a sentence for the user if that takes a moment.
        try_out: whether they are to be tried out.

    Raises:
        UsageError: the data don't fit the model.
    """
    recipes = to_calibrate(missing, plan.trials, folder, workers=staff.workers) if try_out else []
    calibrations: list[Calibration] = []
    notes: list[str] = []
    if recipes:
        executor.start(staff.workers, staff.threads, staff.gpus)
        tell("Trying out a few steps, for up to a minute a recipe ...")
        calibrations = [one for recipe in recipes for one in _calibrations(executor, recipe, notes)]
    estimate = estimate_of(missing, plan.trials, folder, calibrations, workers=staff.workers)
    return estimate, notes


def _calibrations(executor: Executor, recipe: TrialSpec, notes: list[str]) -> list[Calibration]:
    """Return what each worker measured; nothing, and a note why, where the recipe doesn't run."""
    try:
        return executor.calibrate(recipe)
    except UsageError:
        raise
    except NeftuneError as error:
        notes.append(f"Batches of {recipe.train.batch_size} couldn't be tried out: {error}")
        return []
