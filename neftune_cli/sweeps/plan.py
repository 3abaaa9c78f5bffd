"""The plan: the trials a spec means on this machine, checked against what the results folder already holds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from neftune_cli.config.identity import base_identity, trial_id, trial_identity
from neftune_cli.config.merging import differences, merged
from neftune_cli.config.spec import BASE_ARM, ArmSpec, SweepSpec
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.store import SweepFolder
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
    there = problems.attempt(lambda: _sweep_there(folder, spec))
    found = inspect(spec)
    problems.add(found.problems)
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
    rows = train.batch_size * int(train.sft.get("gradient_accumulation_steps", 1))
    return math.ceil(math.ceil(examples / rows) * train.epochs)


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
