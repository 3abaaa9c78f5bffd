"""Cost estimates and measured costs of trials: time per trial, total time, peak memory and training tokens."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import mul, truediv
from statistics import fmean
from time import monotonic

from neftune_cli.config.spec import TrialSpec
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Cost, joined_sources
from neftune_cli.sweeps.durations import makespan
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.measurement_cache import CalibratedRecipe, Remembered, calibration_key, recall, remember
from neftune_cli.sweeps.plan import Plan, trial_folder
from neftune_cli.sweeps.resources import WorkerAllocation
from neftune_cli.training.cost import CALIBRATION_SECONDS, FULLY_MEASURED, Calibration, recipe_key
from neftune_cli.training.trial import Trial

CALIBRATION, EARLIER, OWN_TRIALS = "calibration", "earlier trials", "measured"
"""Sources of a cost: a calibration, other finished trials of the sweep, or the trials themselves."""
SHORTEST_CALIBRATION = 7.5
"""Least seconds for a calibration. If there are fewer, a recipe is estimated from the calibrated ones."""


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of the missing trials, and the workers that run them."""

    cost: Cost
    allocation: WorkerAllocation
    """The given one, with fewer workers if these did not fit into the memory."""
    startup: float
    """Seconds until model and data are loaded, as measured by an earlier command; 0 if it is unknown."""
    notes: list[str]
    """Notes for the user."""


def estimate_cost(
    plan: Plan,
    missing: Sequence[Trial],
    folder: SweepFolder,
    executor: Executor,
    allocation: WorkerAllocation,
    note: Callable[[str], None],
    *,
    calibrate: bool = True,
) -> CostEstimate:
    """Return the estimated cost of the missing trials with all workers busy.

    Recipes without a finished trial are calibrated, unless an earlier command has done it. A number of workers that was
    not given is lowered to the number that fits into the memory, by the measured peaks.

    Args:
        plan: all trials.
        missing: trials to run, in order.
        folder: results folder with finished trials.
        executor: calibrates recipes.
        allocation: number of workers and their threads.
        note: receives a message for the user before a calibration.
        calibrate: whether to calibrate.

    Raises:
        UsageError: the data do not fit the model.
    """
    first = allocation.fitting(peak_of_finished(plan.trials, folder))
    recipes = recipes_to_calibrate(missing, plan.trials, folder, workers=first.workers) if calibrate else []
    found = _find_calibrations(plan, recipes, executor, first, note)
    peaks = [one.peak_memory for one in found.calibrations if one.peak_memory]
    fitting = first.fitting(max(peaks, default=None))
    cost = combined_estimate(missing, plan.trials, folder, found.calibrations, workers=fitting.workers)
    oldest = min((one.written for one in found.remembered), default="")
    return CostEstimate(
        cost=cost.model_copy(update={"calibrated": oldest}),
        allocation=fitting,
        startup=max((one.value.startup for one in found.remembered), default=0.0),
        notes=[*found.notes, *allocation.notes_on_fewer_workers(fitting, cost.peak_memory)],
    )


def peak_of_finished(trials: Sequence[Trial], folder: SweepFolder) -> int | None:
    """Return the largest peak memory, in bytes, of the trials that finished on this machine; None if there is none."""
    peaks = (status.peak_memory for _, status in _finished(trials, folder) if status.host == socket.gethostname())
    return max((one for one in peaks if one), default=None)


@dataclass
class _FoundCalibrations:
    """Calibrations of recipes, and where they come from."""

    calibrations: list[Calibration] = field(default_factory=list)
    remembered: list[Remembered[CalibratedRecipe]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _find_calibrations(
    plan: Plan,
    recipes: Sequence[TrialSpec],
    executor: Executor,
    allocation: WorkerAllocation,
    note: Callable[[str], None],
) -> _FoundCalibrations:
    """Return the remembered calibrations, and calibrate the other recipes within CALIBRATION_SECONDS."""
    found, unknown = _FoundCalibrations(), []
    for recipe in recipes:
        if known := recall(CalibratedRecipe, calibration_key(plan, recipe, executor, allocation)):
            found.remembered.append(known)
            found.calibrations += known.value.calibrations
        else:
            unknown.append(recipe)
    if unknown:
        executor.start(allocation.workers, allocation.threads, allocation.gpus)
        note(f"Calibrating with a few steps, at most {CALIBRATION_SECONDS:.0f} seconds ...")
        _calibrate_unknown(unknown, plan, executor, allocation, found)
    return found


def _calibrate_unknown(
    recipes: Sequence[TrialSpec],
    plan: Plan,
    executor: Executor,
    allocation: WorkerAllocation,
    found: _FoundCalibrations,
) -> None:
    """Calibrate and remember recipes. When time has run out, estimate the rest from the calibrated ones."""
    left, uncalibrated = CALIBRATION_SECONDS, []
    for number, recipe in enumerate(recipes):
        if left < SHORTEST_CALIBRATION and found.calibrations:
            uncalibrated.append(recipe)
            continue
        share = max(SHORTEST_CALIBRATION, left / (len(recipes) - number))
        begin = monotonic()
        measured = _calibrate_recipe(executor, recipe, share, found.notes)
        # without the start of workers, if the workers have measured the time themselves
        left -= max((one.seconds for one in measured), default=monotonic() - begin)
        found.calibrations += measured
        if measured:
            key = calibration_key(plan, recipe, executor, allocation)
            remember(CalibratedRecipe(tuple(measured), allocation.startup), key)
    known = list(found.calibrations)
    for recipe in uncalibrated:
        found.calibrations += [one.adapted_to(recipe.train) for one in known]


def recipes_to_calibrate(
    missing: Sequence[Trial], trials: Sequence[Trial], folder: SweepFolder, *, workers: int
) -> list[TrialSpec]:
    """Return one trial for each recipe among the missing trials that has no finished trial.

    The base model needs only evaluation, which the calibration of any recipe measures. It is therefore last, and is
    chosen only if no recipe is.
    """
    known = _costs_of_finished(trials, folder, workers)
    unknown = [trial for trial in missing if _duration_key(trial) not in known]
    chosen: dict[str, TrialSpec] = {}
    for trial in sorted(unknown, key=lambda trial: trial.is_base):
        if not (trial.is_base and chosen):
            chosen.setdefault(recipe_key(trial.spec.train), trial.spec)
    return list(chosen.values())


def combined_estimate(
    missing: Sequence[Trial],
    trials: Sequence[Trial],
    folder: SweepFolder,
    calibrations: Sequence[Calibration],
    *,
    workers: int,
) -> Cost:
    """Return the estimated cost of the missing trials.

    Finished trials with the same recipe, length, machine and number of parallel trials take precedence over
    calibrations. Several of either are averaged. A trial that resumes from a checkpoint needs only the remaining time.

    Args:
        missing: trials to run, in order.
        trials: all trials of the plan.
        folder: results folder with finished and interrupted trials.
        calibrations: measurements for recipes without a finished trial.
        workers: number of trials in parallel.
    """
    earlier = _costs_of_finished(trials, folder, workers)
    calibrated = _calibrated_costs(missing, calibrations)
    found = {trial.id: earlier.get(_duration_key(trial)) or calibrated.get(trial.id, []) for trial in missing}
    expected = {trial.id: _mean(found[trial.id]) for trial in missing if found[trial.id]}
    known = [trial for trial in missing if trial.id in expected]
    left = [_remaining_seconds(trial, expected[trial.id], folder) for trial in known]
    factors = [expected[trial.id].uncertainty for trial in known]
    is_range = any(factor > FULLY_MEASURED for factor in factors)
    peaks = [one.peak_memory for one in expected.values() if one.peak_memory]
    return Cost(
        trials={trial: one.seconds for trial, one in expected.items()},
        seconds=makespan(left, workers),
        peak_memory=max(peaks, default=None),
        workers=workers,
        source=joined_sources(one.source for one in expected.values()),
        tokens={trial: one.tokens for trial, one in expected.items()},
        lowest_seconds=makespan(map(truediv, left, factors), workers) if is_range else None,
        highest_seconds=makespan(map(mul, left, factors), workers) if is_range else None,
    )


def measured_cost(trials: Sequence[Trial], folder: SweepFolder, *, workers: int, seconds: float) -> Cost:
    """Return the measured cost of the finished trials. `seconds` is the run time of all commands of the sweep."""
    costs = {trial.id: _measured(trial, folder, status) for trial, status in _finished(trials, folder)}
    return Cost(
        trials={trial: one.seconds for trial, one in costs.items()},
        seconds=seconds,
        peak_memory=max((one.peak_memory for one in costs.values() if one.peak_memory), default=None),
        workers=workers,
        source=OWN_TRIALS,
        tokens={trial: one.tokens for trial, one in costs.items()},
        # set although they are the defaults: only fields that are set are written into the manifest
        lowest_seconds=None,
        highest_seconds=None,
        calibrated="",
    )


@dataclass(frozen=True)
class _TrialEstimate:
    """Estimated or measured cost of one trial."""

    seconds: float
    tokens: int
    peak_memory: int | None
    source: str
    uncertainty: float = FULLY_MEASURED
    """Factor by which the true seconds may be higher or lower."""


def _mean(found: Sequence[_TrialEstimate]) -> _TrialEstimate:
    return _TrialEstimate(
        seconds=fmean(one.seconds for one in found),
        tokens=found[0].tokens,
        peak_memory=max((one.peak_memory for one in found if one.peak_memory), default=None),
        source=found[0].source,
        uncertainty=max(one.uncertainty for one in found),
    )


def _remaining_seconds(trial: Trial, expected: _TrialEstimate, folder: SweepFolder) -> float:
    """Return the remaining seconds of a trial, less if it resumes from a checkpoint."""
    kept = trial_folder(folder, trial).newest_checkpoint()
    return max(0.0, expected.seconds - (kept.seconds if kept else 0.0))


def _calibrated_costs(missing: Sequence[Trial], calibrations: Sequence[Calibration]) -> dict[str, list[_TrialEstimate]]:
    """Return the calibrated cost of each trial: of its recipe, or of any recipe for the base model."""
    found: dict[str, list[_TrialEstimate]] = {}
    for trial in missing:
        key = recipe_key(trial.spec.train)
        own = [one for one in calibrations if one.recipe == key]
        for one in own or (calibrations if trial.is_base else []):
            cost = one.estimate(trial.spec.train, is_base=trial.is_base)
            expected = _TrialEstimate(cost.seconds, cost.tokens, one.peak_memory, CALIBRATION, one.uncertainty)
            found.setdefault(trial.id, []).append(expected)
    return found


def _costs_of_finished(trials: Sequence[Trial], folder: SweepFolder, workers: int) -> dict[str, list[_TrialEstimate]]:
    """Return the cost of trials by `_duration_key`, if they finished here with the same number of parallel trials."""
    found: dict[str, list[_TrialEstimate]] = {}
    for trial, status in _finished(trials, folder):
        if (status.host, status.side_by_side) == (socket.gethostname(), workers):
            found.setdefault(_duration_key(trial), []).append(_measured(trial, folder, status))
    return found


def _finished(trials: Sequence[Trial], folder: SweepFolder) -> Iterator[tuple[Trial, TrialStatus]]:
    for trial in trials:
        files = trial_folder(folder, trial)
        status = files.status()
        if status is None or status.state is not TrialState.DONE or status.seconds is None:
            continue
        if files.record() is not None:  # without a usable record, the trial will run again
            yield trial, status


def _measured(trial: Trial, folder: SweepFolder, status: TrialStatus) -> _TrialEstimate:
    tokens = max((point.tokens or 0 for point in trial_folder(folder, trial).curve()), default=0)
    return _TrialEstimate(status.seconds or 0.0, tokens, status.peak_memory, EARLIER)


def _duration_key(trial: Trial) -> str:
    """Return a key that trials of equal duration share: recipe and length of training, but not noise and seed."""
    if trial.is_base:
        return "base"
    train = trial.spec.train
    return json.dumps([recipe_key(train), train.max_steps or train.epochs, train.max_steps is None])


def _calibrate_recipe(executor: Executor, recipe: TrialSpec, seconds: float, notes: list[str]) -> list[Calibration]:
    """Return the measurement of each worker; none, and a note with the reason, if the recipe fails."""
    try:
        return executor.calibrate(recipe, seconds)
    except UsageError:
        raise
    except NeftuneError as error:
        notes.append(f"The calibration with batch size {recipe.train.batch_size} failed: {error}")
        return []
