"""Identity of a trial: canonical JSON of the model, the data, the spec and the environment, and the id hashed from it.

Run settings (`neftune_cli.config.run_settings`) are not part of it, except the processes of a trial (`--nproc`,
`--accelerate-config`) if there are several.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from neftune_cli.config.canonical_json import canonical_json
from neftune_cli.config.spec import (
    NOISE_DETAILS,
    Affects,
    ArmSpec,
    ResolvedEvaluation,
    Spec,
    SweepSpec,
    TrainSpec,
    TrialSpec,
)

ID_DIGITS = 12

METHOD_VERSION = 6
"""Raise this number with a change that alters the numbers of trials. Older records then have other ids."""

ORIGINAL_FIELDS = frozenset(
    "alpha noise noise_scale noise_schedule noise_target "
    "epochs max_steps learning_rate batch_size max_length lora_rank sft "
    "max_new_tokens repetition_penalty".split()
)
"""Fields that the identity contains even with their default value. A field added later is left out while it has its
default value, so that the ids of existing trials stay the same."""


def trial_identity(
    spec: TrialSpec, *, model_fingerprint: str, data_fingerprint: str, environment: dict[str, str]
) -> dict[str, Any]:
    """Return the identity of a trial: the model, the data, the spec and the environment.

    It contains fingerprints of model and data instead of names. With alpha 0 it contains no noise field.
    """
    return {
        **_shared_identity(spec, model_fingerprint, data_fingerprint, environment),
        "noise": identifying_fields(spec.noise) if spec.noise.alpha > 0 else None,
        "train": recipe_identity(spec.train),
        "seed": spec.seed,
        **({"repeat": spec.repeat} if spec.repeat else {}),
    }


def base_identity(
    spec: TrialSpec, *, model_fingerprint: str, data_fingerprint: str, environment: dict[str, str]
) -> dict[str, Any]:
    """Return the identity of the base model, which has no noise, recipe, seed or loss curve."""
    shared = _shared_identity(spec, model_fingerprint, data_fingerprint, environment)
    evaluation = {name: value for name, value in shared["evaluation"].items() if name != "curve_examples"}
    return {**shared, "evaluation": evaluation, "base": True}


def identifying_fields(spec: Spec) -> dict[str, Any]:
    """Return the fields of a spec that belong to the identity."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in type(spec).model_fields.items()}
    values = spec.model_dump()
    return {name: value for name, value in values.items() if name in ORIGINAL_FIELDS or value != defaults[name]}


def changed_fields(spec: SweepSpec, arm: ArmSpec | None, identity: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each field in which a sweep differs from the identity of one of its trials, and both values.

    Fields of model and data are not compared, because the identity has their fingerprints instead; nor are the repeat
    of an arm, parts that the identity lacks, and values that the sweep leaves to the data.

    Args:
        spec: the sweep.
        arm: the trial's arm; None for the base model.
        identity: the trial's identity.
    """
    if arm is not None:
        recipe = spec.recipe_of(arm)
        yield from _changed("train.{}", recipe, identity.get("train", {}), exclude={"precision"})
        yield from _changed_precision(recipe, identity.get("environment", {}))
        if arm.snr is None and "noise" in identity:  # the identity of an arm without noise has null here
            noise, recorded = spec.noise_of(arm), identity["noise"] or {"alpha": 0.0}
            details = set() if noise.alpha and recorded.get("alpha") else set(NOISE_DETAILS)
            yield from _changed(f"{{}} of the arm {arm.name}", noise, recorded, exclude=details)
    left_to_data = {name for name in ORIGINAL_FIELDS if getattr(spec.evaluation, name, "") is None}
    of_trained = {"curve_examples"} if arm is None else set()
    exclude = {"lm_eval", "lm_eval_limit", *left_to_data, *of_trained}
    yield from _changed("evaluation.{}", spec.evaluation, identity.get("evaluation", {}), exclude=exclude)


def _changed(
    name_in_file: str, spec: Spec, recorded: Mapping[str, Any], *, exclude: set[str]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields of a spec with another value than in a part of an identity, if the trial has that part."""
    if not recorded:
        return
    values, there = _flat(spec.model_dump(exclude=exclude)), _flat(recorded)
    further = dict.fromkeys(sorted((values.keys() | recorded.get("sft", {}).keys()) - type(spec).model_fields.keys()))
    added = {name: field.default for name, field in type(spec).model_fields.items() if name not in ORIGINAL_FIELDS}
    there = {**added, **further, **there}
    for name, value in {**further, **values}.items():
        if name in there and there[name] != value:
            yield name_in_file.format(name), value, there[name]


def _changed_precision(recipe: TrainSpec, environment: Mapping[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the precision if a recipe sets another one than that of the trial."""
    for name, value in _chosen_precision(recipe).items():
        if environment.get(name, value) != value:
            yield f"train.{name}", value, environment[name]


def has_other_method(identity: Mapping[str, Any]) -> bool:
    """Return whether another version of neftune, with another method, gave the numbers of a trial."""
    return bool(identity.get("method_version", METHOD_VERSION) != METHOD_VERSION)


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with those of `sft` among them."""
    return {**{name: value for name, value in recipe.items() if name != "sft"}, **recipe.get("sft", {})}


def _shared_identity(spec: TrialSpec, model: str, data: str, environment: dict[str, str]) -> dict[str, Any]:
    inputs = spec.inputs_with(Affects.IDENTITY)
    tokenization = {name: value for name, value in identifying_fields(spec).items() if name in inputs}
    return {
        **({"tokenization": tokenization} if tokenization else {}),
        "method_version": METHOD_VERSION,
        "model": model,
        "data": data,
        "evaluation": _evaluation_identity(spec.evaluation),
        "environment": {**environment, **_chosen_precision(spec.train)},
    }


def _evaluation_identity(evaluation: ResolvedEvaluation) -> dict[str, Any]:
    """Return the fields of an evaluation that belong to the identity, without the paths of task files."""
    fields = identifying_fields(evaluation)
    if evaluation.lm_eval is not None:
        fields["lm_eval"] = evaluation.lm_eval.model_dump(exclude={"entries", "metrics"})
    return fields


def recipe_identity(train: TrainSpec) -> dict[str, Any]:
    """Return the fields of a recipe that belong to the identity; its precision is part of the environment."""
    return {name: value for name, value in identifying_fields(train).items() if name != "precision"}


def _chosen_precision(train: TrainSpec) -> dict[str, str]:
    """Return the precision that a recipe sets in place of that of the hardware."""
    return {} if train.precision == "auto" else {"precision": train.precision}


def trial_id(identity: dict[str, Any]) -> str:
    """Return the id: 12 hex digits of the SHA-256 of the canonical JSON.

    Raises:
        TypeError: a value has no unique representation in JSON.
        ValueError: a number is NaN or infinite.
    """
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:ID_DIGITS]
