"""What trials will take, and what they took: seconds each, time on so many workers, peak memory, training tokens."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from heapq import heapify, heapreplace
from statistics import fmean
from typing import Any, Self

from neftune_cli.config.spec import TrialSpec
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.plan import Plan, place_of
from neftune_cli.sweeps.resources import WorkerAllocation
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.trial import Trial

CALIBRATION, EARLIER, MEASURED = "calibration", "earlier trials", "measured"
"""Where figures come from: a few steps tried out, other trials of the sweep, or the trials themselves."""


@dataclass(frozen=True)
class CostEstimate:
    """What trials take together, or, measured, what they took."""

    trials: dict[str, float]
    """Seconds of each trial from its beginning to its end, by id; those are left out that nothing is known of."""
    seconds: float
    """From the start of the command, or of the first trial, to the end of the last one."""
    peak_memory: int | None
    """Bytes that one worker holds at most: of main memory, or of the GPU's where it is one."""
    workers: int
    source: str
    tokens: dict[str, int]
    """Tokens that each trial trains on in all epochs, padding left out."""

    def joined(self, later: Self) -> Self:
        """Return it with what is estimated of further trials, which run after these."""
        return replace(
            self,
            trials={**self.trials, **later.trials},
            seconds=self.seconds + later.seconds,
            peak_memory=max((one for one in (self.peak_memory, later.peak_memory) if one), default=None),
            source=" and ".join(dict.fromkeys((self.source, later.source))),
            tokens={**self.tokens, **later.tokens},
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as the manifest has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what was written; what another version wrote beside it is left out."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def to_calibrate(
    missing: Sequence[Trial], trials: Sequence[Trial], folder: SweepFolder, *, workers: int
) -> list[TrialSpec]:
    """Return one trial for each kind of recipe among the missing ones that no finished trial speaks for.

    The base is calibrated by any recipe, as only what all of them share is asked of it; so it comes last.
    """
    told = _earlier(trials, folder, workers)
    unknown = [trial for trial in missing if _kind(trial) not in told]
    chosen: dict[str, TrialSpec] = {}
    for trial in sorted(unknown, key=lambda trial: trial.is_base):
        if not (trial.is_base and chosen):
            chosen.setdefault(recipe_key(trial.spec.train), trial.spec)
    return list(chosen.values())


def estimate_of(
    missing: Sequence[Trial],
    trials: Sequence[Trial],
    folder: SweepFolder,
    calibrations: Sequence[Calibration],
    *,
    workers: int,
) -> CostEstimate:
    """CostEstimate what the missing trials take.

    Trials of the same recipe and length that have finished on this machine, with as many beside them, win over
    calibrations, and several of either are averaged. A trial that goes on from a checkpoint has only the rest of its
    time before it.

    Args:
        missing: the trials to run, in their order.
        trials: all trials of the plan.
        folder: where finished and interrupted ones are.
        calibrations: what was measured for recipes that no finished trial speaks for.
        workers: how many trials run side by side.
    """
    told = _earlier(trials, folder, workers)
    tried = _calibrated(missing, calibrations)
    found = {trial.id: told.get(_kind(trial)) or tried.get(trial.id, []) for trial in missing}
    expected = {trial.id: _mean(found[trial.id]) for trial in missing if found[trial.id]}
    left = [_left(trial, expected[trial.id], folder) for trial in missing if trial.id in expected]
    peaks = [one.peak_memory for one in expected.values() if one.peak_memory]
    return CostEstimate(
        trials={trial: one.seconds for trial, one in expected.items()},
        seconds=schedule(left, workers),
        peak_memory=max(peaks, default=None),
        workers=workers,
        source=" and ".join(dict.fromkeys(one.source for one in expected.values())) or "nothing",
        tokens={trial: one.tokens for trial, one in expected.items()},
    )


def measured(trials: Sequence[Trial], folder: SweepFolder, *, workers: int, seconds: float) -> CostEstimate:
    """Return what the finished ones of these trials took, in the same shape; `seconds` is the command's own time."""
    taken = {trial.id: _taken(trial, folder, status) for trial, status in _finished(trials, folder)}
    return CostEstimate(
        trials={trial: one.seconds for trial, one in taken.items()},
        seconds=seconds,
        peak_memory=max((one.peak_memory for one in taken.values() if one.peak_memory), default=None),
        workers=workers,
        source=MEASURED,
        tokens={trial: one.tokens for trial, one in taken.items()},
    )


def schedule(seconds: Iterable[float], workers: int) -> float:
    """Return when the last of these trials ends if each goes, in this order, to the worker that is free first."""
    free = [0.0] * workers
    heapify(free)
    for one in seconds:
        heapreplace(free, free[0] + one)
    return max(free)


def price(seconds: float, hourly_rate: float) -> float:
    """Return what a machine costs for so long, at what it costs an hour."""
    return seconds / 3600 * hourly_rate


@dataclass(frozen=True)
class _Expected:
    """What is known or believed of one trial."""

    seconds: float
    tokens: int
    peak_memory: int | None
    source: str


def _mean(found: Sequence[_Expected]) -> _Expected:
    return _Expected(
        seconds=fmean(one.seconds for one in found),
        tokens=found[0].tokens,
        peak_memory=max((one.peak_memory for one in found if one.peak_memory), default=None),
        source=found[0].source,
    )


def _left(trial: Trial, expected: _Expected, folder: SweepFolder) -> float:
    """Return the seconds a trial has before it, which are fewer where it goes on from a checkpoint."""
    kept = place_of(folder, trial).kept()
    return max(0.0, expected.seconds - (kept.seconds if kept else 0.0))


def _calibrated(missing: Sequence[Trial], calibrations: Sequence[Calibration]) -> dict[str, list[_Expected]]:
    """Return what calibrations say of each trial: those of its recipe, or any of them if it is the base."""
    found: dict[str, list[_Expected]] = {}
    for trial in missing:
        key = recipe_key(trial.spec.train)
        own = [one for one in calibrations if one.recipe == key]
        for one in own or (calibrations if trial.is_base else []):
            cost = one.estimate(trial.spec.train, is_base=trial.is_base)
            expected = _Expected(cost.seconds, cost.tokens, one.peak_memory, CALIBRATION)
            found.setdefault(trial.id, []).append(expected)
    return found


def _earlier(trials: Sequence[Trial], folder: SweepFolder, workers: int) -> dict[str, list[_Expected]]:
    """Return what trials took that finished on this machine with so many side by side, by kind."""
    found: dict[str, list[_Expected]] = {}
    for trial, status in _finished(trials, folder):
        if (status.host, status.side_by_side) == (socket.gethostname(), workers):
            found.setdefault(_kind(trial), []).append(_taken(trial, folder, status))
    return found


def _finished(trials: Sequence[Trial], folder: SweepFolder) -> Iterator[tuple[Trial, TrialStatus]]:
    for trial in trials:
        place = place_of(folder, trial)
        status = place.status()
        if status is None or status.state is not TrialState.DONE or status.seconds is None:
            continue
        if place.record() is not None:  # else a file of it is damaged, and it is trained again
            yield trial, status


def _taken(trial: Trial, folder: SweepFolder, status: TrialStatus) -> _Expected:
    tokens = max((point.tokens or 0 for point in place_of(folder, trial).curve()), default=0)
    return _Expected(status.seconds or 0.0, tokens, status.peak_memory, EARLIER)


def _kind(trial: Trial) -> str:
    """Return what trials share that take equally long: the recipe and its length, whatever noise and seed."""
    if trial.is_base:
        return "base"
    train = trial.spec.train
    return json.dumps([recipe_key(train), train.max_steps or train.epochs, train.max_steps is None])


def estimate_cost(
    plan: Plan,
    missing: Sequence[Trial],
    folder: SweepFolder,
    executor: Executor,
    staff: WorkerAllocation,
    tell: Callable[[str], None],
    *,
    calibrate: bool = True,
) -> tuple[CostEstimate, list[str]]:
    """Return what the missing trials take with all workers busy, and notes on what couldn't be tried out.

    Args:
        plan: all trials.
        missing: those to run, in their order.
        folder: where finished ones are.
        executor: who tries recipes out that no finished trial speaks for.
        staff: how many workers there are, and with how many threads.
        tell: takes a sentence for the user if that takes a moment.
        calibrate: whether they are to be tried out.

    Raises:
        UsageError: the data don't fit the model.
    """
    recipes = to_calibrate(missing, plan.trials, folder, workers=staff.workers) if calibrate else []
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
