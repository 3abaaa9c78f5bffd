"""The plan: the trials a spec means on this machine, checked against what the results folder already holds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from neftune_cli.config.identity import base_identity, trial_id, trial_identity
from neftune_cli.config.merging import differences, merged
from neftune_cli.config.spec import BASE_ARM, ArmSpec, ResolvedEvaluation, SweepSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.models.sources import ModelSource, find_model
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.signal_to_noise import with_alphas
from neftune_cli.training.hardware import environment
from neftune_cli.training.sft import check_recipe
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Plan:
    """Everything a sweep will do: the base first, then round by round of seeds, so that arms stay comparable."""

    spec: SweepSpec
    source: ModelSource
    data: InstructionData
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    """What was worked out for the user on the way."""


def make_plan(spec: SweepSpec, folder: SweepFolder) -> Plan:
    """Return the plan of a spec joined with the sweep already in the folder.

    Raises:
        UsageError: every problem with the model, the data, the recipe and the folder.
    """
    problems = Problems()
    source = problems.attempt(lambda: find_model(spec.model))
    data = problems.attempt(lambda: _load_data(spec))
    for arm in spec.arms:
        problems.attempt(partial(check_recipe, spec.recipe_of(arm)))
    there = problems.attempt(lambda: _sweep_there(folder, spec))
    if data is not None:
        problems.attempt(lambda: _check_targets(spec, data))
    problems.raise_any()
    assert source is not None
    assert data is not None
    spec, notes = with_alphas(spec, source, data, _evaluation(spec, data))
    whole = merged(there, spec) if there else spec
    trials = tuple(_trials(whole, source, data))
    _check_distinct(trials)
    _check_records(folder, trials)
    return Plan(whole, source, data, trials, notes)


def steps_of(trial: Trial, data: InstructionData) -> int:
    """Return how many optimizer steps a trial takes: none for the base."""
    train = trial.spec.train
    if trial.is_base:
        return 0
    if train.max_steps:
        return train.max_steps
    rows = train.batch_size * int(train.sft.get("gradient_accumulation_steps", 1))
    return math.ceil(math.ceil(len(data.train) / rows) * train.epochs)


def _load_data(spec: SweepSpec) -> InstructionData:
    return load_data(
        spec.dataset,
        layout=spec.layout,
        train_examples=spec.train_examples,
        eval_examples=spec.eval_examples,
    )


def _check_targets(spec: SweepSpec, data: InstructionData) -> None:
    """Refuse noise on a part of the examples that there isn't, or that nobody could tell from the rest."""
    for arm in spec.arms:
        target = spec.noise_of(arm).noise_target
        if target == "prompt" and not any(example.prompt for example in data.train):
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
        if folder.path.is_dir() and any(folder.path.iterdir()):
            raise UsageError(
                Problem(f"{folder.path} holds files but no sweep.", "Give an empty or a new folder with --output.")
            )
        return None
    if different := list(differences(there, spec)):
        what = f"{folder.path} holds a different sweep: {'; '.join(different)}."
        raise UsageError(Problem(what, "Give another folder with --output, or make the options the same."))
    return there


def _trials(spec: SweepSpec, source: ModelSource, data: InstructionData) -> Iterator[Trial]:
    around = environment(lora=False)
    around_lora = environment(lora=True)
    evaluation = _evaluation(spec, data)
    content = {"model_fingerprint": source.fingerprint, "data_fingerprint": data.fingerprint}
    base = spec.trial(ArmSpec(name=BASE_ARM), 0, evaluation)
    identity = base_identity(base, **content, environment=around)
    yield Trial(trial_id(identity), BASE_ARM, base, identity)
    for seed in spec.seeds:
        for arm in spec.arms:
            one = spec.trial(arm, seed, evaluation)
            where = around_lora if one.train.lora_rank else around
            identity = trial_identity(one, **content, environment=where)
            yield Trial(trial_id(identity), arm.name, one, identity)


def _evaluation(spec: SweepSpec, data: InstructionData) -> ResolvedEvaluation:
    """Fill in what the spec leaves to the recipe and the data set."""
    chosen = spec.evaluation
    return ResolvedEvaluation(
        max_length=chosen.max_length or spec.train.max_length,
        max_new_tokens=chosen.max_new_tokens or data.generation.max_new_tokens,
        repetition_penalty=chosen.repetition_penalty or data.generation.repetition_penalty,
    )


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
