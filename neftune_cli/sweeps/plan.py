"""The plan: the trials a spec means on this machine, checked against what the results folder already holds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from neftune_cli.config.identity import base_identity, trial_id, trial_identity
from neftune_cli.config.spec import BASE_ARM, ArmSpec, SweepSpec
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, resolved_evaluation
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Plan:
    """Everything a sweep will do: the base first, then round by round of seeds, so that arms stay comparable."""

    spec: SweepSpec
    model: ModelFacts
    data: DataFacts
    trials: tuple[Trial, ...]
    inspection: Inspection
    notes: tuple[str, ...] = ()
    """What was worked out for the user on the way."""


def make_plan(spec: SweepSpec, folder: SweepFolder, inspect: Callable[[SweepSpec], Inspection]) -> Plan:
    """Return the plan of a spec joined with the sweep already in the folder.

    Args:
        spec: what the user wants.
        folder: where it goes.
        inspect: tells what only a process with torch can.

    Raises:
        UsageError: every problem with the model, the data, the recipe and the folder.
    """
    problems = Problems()
    found, there = inspect(spec), None
    problems.add(found.problems)
    if not problems.found:  # because of an invalid option, the folder would seem to hold a different sweep
        there = problems.attempt(lambda: _sweep_there(folder, spec))
    if found.data is not None:
        data = found.data
        problems.attempt(lambda: _check_targets(spec, data))
    problems.raise_any()
    assert found.model is not None
    assert found.data is not None
    whole = merged(there, found.spec) if there else found.spec
    trials = tuple(_trials(whole, found, found.model, found.data))
    _check_distinct(trials)
    _check_records(folder, trials)
    notes = (*found.notes, *_more_than_asked(folder, whole, found.spec))
    return Plan(whole, found.model, found.data, trials, found, notes)


def steps_of(trial: Trial, examples: int) -> int:
    """Return how many optimizer steps a trial takes on so many training examples: none for the base."""
    train = trial.spec.train
    if trial.is_base:
        return 0
    if train.max_steps:
        return train.max_steps
    return math.ceil(math.ceil(examples / examples_per_step(trial)) * train.epochs)


def examples_per_step(trial: Trial) -> int:
    """Return the examples of one optimizer step on one device: batch size times gradient accumulation."""
    train = trial.spec.train
    return train.batch_size * int(train.sft.get("gradient_accumulation_steps", 1))


def _check_targets(spec: SweepSpec, data: DataFacts) -> None:
    """Refuse noise on a part of the examples that there isn't, or that nobody could tell from the rest."""
    for arm in spec.arms:
        target = spec.noise_of(arm).noise_target
        if target == "prompt" and not data.has_prompts:
            what = f"Arm {arm.name!r}: {data.name} has no prompts for noise on prompt tokens."
            raise UsageError(Problem(what, "Use --noise-target all, or data with prompts and completions."))
        if target != "all" and spec.recipe_of(arm).sft.get("label_smoothing_factor"):
            what = (
                f"Arm {arm.name!r}: with label_smoothing_factor the model isn't told which tokens are the {target}'s."
            )
            raise UsageError(Problem(what, "Leave it out, or use --noise-target all."))


def _sweep_there(folder: SweepFolder, spec: SweepSpec) -> SweepSpec | None:
    """Return the sweep in the folder, which a spec may only add arms and seeds to; None if there is none yet."""
    there = folder.spec()
    if there is None:
        if folder.holds_something_else():
            raise UsageError(
                Problem(f"{folder.path} holds files but no sweep.", "Give an empty or a new folder with --output.")
            )
        return None
    if different := list(differences(there, spec)):
        what = f"{folder.path} holds a different sweep: {'; '.join(different)}."
        raise UsageError(Problem(what, "Give another folder with --output, or make the options the same."))
    return there


def _trials(spec: SweepSpec, found: Inspection, model: ModelFacts, data: DataFacts) -> Iterator[Trial]:
    evaluation = resolved_evaluation(spec, data.generation)
    content = {"model_fingerprint": model.fingerprint, "data_fingerprint": data.fingerprint}
    base = spec.trial(ArmSpec(name=BASE_ARM), 0, evaluation)
    identity = base_identity(base, **content, environment=found.environment)
    yield Trial(trial_id(identity), BASE_ARM, base, identity)
    for seed in spec.seeds:
        for arm in spec.arms:
            one = spec.trial(arm, seed, evaluation)
            where = found.lora_environment if one.train.lora_rank else None
            identity = trial_identity(one, **content, environment=where or found.environment)
            yield Trial(trial_id(identity), arm.name, one, identity)


def _more_than_asked(folder: SweepFolder, whole: SweepSpec, asked: SweepSpec) -> Iterator[str]:
    """Say what an earlier command has asked for that this one hasn't."""
    names = {arm.name for arm in asked.arms}
    more = [
        *(arm.name for arm in whole.arms if arm.name not in names),
        *(f"seed {seed}" for seed in whole.seeds if seed not in asked.seeds),
    ]
    if more:
        yield f"{folder.path} has been begun with {', '.join(more)} as well: what is missing of that is trained, too."


def _check_distinct(trials: tuple[Trial, ...]) -> None:
    arms: dict[str, str] = {}
    for trial in trials:
        if trial.id in arms:
            what = f"The arms {arms[trial.id]!r} and {trial.arm!r} are the same training."
            raise UsageError(Problem(what, "Keep one of them, under the name it had."))
        arms[trial.id] = trial.arm


def _check_records(folder: SweepFolder, trials: tuple[Trial, ...]) -> None:
    """Refuse to put a trial beside the record of one of the same arm and seed that something else was different for."""
    planned = {(trial.arm, trial.seed): trial for trial in trials}
    for record in folder.records():
        trial = planned.get((record.arm, record.seed))
        if trial is not None and trial.id != record.trial:
            changed = [part for part, value in trial.identity.items() if record.identity.get(part) != value]
            what = f"{folder.path}: {trial.label} was run with another {' and '.join(changed)}."
            raise UsageError(Problem(what, "Give another folder with --output, or restore what was there."))


def differences(there: SweepSpec, here: SweepSpec) -> Iterator[str]:
    """Yield, in words, where two specs differ in anything but their arms and seeds."""
    yield from _differences(_comparable(there), _comparable(here))


def _comparable(spec: SweepSpec) -> dict[str, Any]:
    values = spec.model_dump(mode="json", exclude={"arms", "seeds"})
    for section in ("train", "evaluation"):
        fields = values.pop(section)
        values |= {f"{section}.{name}": value for name, value in {**fields.pop("sft", {}), **fields}.items()}
    return values


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    for name in {**there, **here}:
        if there.get(name) != here.get(name):
            yield f"{name} is {_said(there.get(name))} there and {_said(here.get(name))} here"


def merged(there: SweepSpec, here: SweepSpec) -> SweepSpec:
    """Return `here` with the arms and seeds that only `there` has: a sweep grows, it never forgets.

    Arms that are alphas in ascending order stay so, so that growing a sweep in any order gives the same tables.
    """
    arms = {arm.name: arm for arm in (*there.arms, *here.arms)}
    ordered = list(arms.values())
    if _ascending(there) and _ascending(here):
        ordered.sort(key=lambda arm: arm.alpha or 0.0)
    return here.model_copy(update={"arms": tuple(ordered), "seeds": tuple(sorted({*there.seeds, *here.seeds}))})


def _ascending(spec: SweepSpec) -> bool:
    alphas = [arm.alpha or 0.0 for arm in spec.arms]
    return all(arm.varies_only_alpha for arm in spec.arms) and alphas == sorted(alphas)


def _said(value: Any) -> str:
    return "not set" if value is None else repr(value)


def place_of(folder: SweepFolder, trial: Trial) -> TrialFolder:
    """Return where a trial's files are, or will be."""
    return folder.trial(trial.id, trial.arm, trial.seed)


def missing_trials(plan: Plan, folder: SweepFolder, *, retry_failed: bool = False) -> list[Trial]:
    """Return the trials to run: without a record, and not failed before unless failed ones shall be retried."""
    without = [trial for trial in plan.trials if place_of(folder, trial).record() is None]
    return [trial for trial in without if retry_failed or why_failed(place_of(folder, trial)) is None]


def done_trials(plan: Plan, folder: SweepFolder) -> set[str]:
    """Return the ids of the trials that have a record."""
    return {trial.id for trial in plan.trials if place_of(folder, trial).record() is not None}


def failed_trials(plan: Plan, folder: SweepFolder) -> dict[str, str]:
    """Return why trials have failed that have no record, by `arm, seed`."""
    return {trial.label: why for trial in plan.trials if (why := why_failed(place_of(folder, trial))) is not None}


def why_failed(place: TrialFolder) -> str | None:
    """Return why a trial has failed, None if it hasn't."""
    status = place.status()
    if status is None or status.state is not TrialState.FAILED or place.record() is not None:
        return None
    return status.reason
