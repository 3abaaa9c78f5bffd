"""Problems of the fields of a spec: errors of pydantic with place and fix, and SFTConfig fields without effect."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from neftune_cli.config.experiment_file import ExperimentFile
from neftune_cli.config.noises import DISTRIBUTIONS, SCHEDULES
from neftune_cli.config.spec import (
    NOISE_DETAILS,
    AnalysisSpec,
    ArmSpec,
    EvaluationSpec,
    NoiseDetails,
    Spec,
    SweepSpec,
    TrainSpec,
)
from neftune_cli.config.values import MOST_SEEDS
from neftune_cli.errors import Location, Problem, alternatives, closest_choice, did_you_mean

TRAINING_FIELDS = tuple(name for name in TrainSpec.model_fields if name != "sft")
"""Fields of a recipe that have an option of their own, and are not given among other SFTConfig fields."""
TRAIN_FIELD_SYNONYMS = {
    "lr": "learning_rate",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "steps": "max_steps",
    "num_steps": "max_steps",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "seq_length": "max_length",
}
"""Names that other programs use for training fields, for error messages."""
_WITHOUT_EFFECT = frozenset(
    "batch_eval_metrics bf16_full_eval dataset_num_proc dataset_text_field do_predict do_train eval_accumulation_steps "
    "eval_delay eval_do_concat_batches eval_packing eval_steps eval_use_gather_object fp16_full_eval greater_is_better "
    "hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token include_for_metrics "
    "include_num_input_tokens_seen label_names length_column_name local_rank log_on_each_node metric_for_best_model "
    "per_device_eval_batch_size prediction_loss_only project run_name save_on_each_node save_only_model save_steps "
    "save_total_limit shuffle_dataset skip_memory_metrics trackio_bucket_id trackio_space_id trackio_static_space_id "
    "truncation_mode use_cache".split()
)
"""SFTConfig fields for tasks of TRL's trainer that neftune does itself or not at all: it tokenizes and truncates the
examples, evaluates, and writes checkpoints and curves."""
_EFFECT_WITH_PACKING = frozenset({"dataset_num_proc", "shuffle_dataset"})
"""Fields of these that have an effect with packing, for which TRL prepares the data."""
Details = Mapping[str, Any]
"""One error of a `ValidationError`."""


def place_of(details: Details) -> Location:
    """Return the location of a field that has an error. Pydantic places the order of looks at their section."""
    location: Location = details["loc"]
    return (*location, "looks") if details["type"] == "looks_order" else location


@dataclass(frozen=True)
class Origin:
    """Origin of the values of a sweep: an experiment file and options."""

    file: ExperimentFile
    options: Mapping[str, Any]
    arms: Sequence[Mapping[str, Any]]
    """All arms of the sweep."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Default training recipe of the model, whose values are the examples in messages."""

    def problem(self, details: Details) -> Problem:
        """Return an error of pydantic as a problem with its fix."""
        location = tuple(part for part in place_of(details) if part != "sft")
        is_option = self._is_option(location)
        prefix = "" if is_option else self.file.prefix(*location)
        if details["type"] == "extra_forbidden":
            return Problem(f"{prefix}{self._unknown_field(location)}.", _closest_field(location))
        if fix := _FIXES.get(details["type"]):
            return Problem(f"{prefix}{details['msg']}.", fix)
        subject = _option(location) if is_option else self._subject(location)
        if location == ("seeds",) and details["type"] in ("tuple_type", "too_short"):
            what = f"must be a number of seeds, 1 to {MOST_SEEDS:,}, or a list of seeds"
            fix = "Use seeds: 3, or seeds: [0, 1, 7]."
        else:
            what = requirement(details)
            fix = (
                _closest_literal(details)
                or _quoted(details)
                or self._fix(location, details["input"], is_option=is_option)
            )
        return Problem(f"{prefix}{subject} {what}{given(details['input'])}.", fix)

    def placed(self, problem: Problem) -> Problem:
        """Return a problem with its place at the start: the file and line, or the option."""
        match problem.field:
            case ():
                return problem
            case ("train", *_, str(name)) if self._is_option(problem.field):
                prefix = f"--set {name}: "
            case _ if self._is_option(problem.field):
                prefix = f"{_option(problem.field)}: "
            case ("arms", int(index), *_):
                prefix = f"{self.file.prefix(*problem.field)}{self._arm(index)}: "
            case _:
                prefix = self.file.prefix(*problem.field)
        return Problem(prefix + problem.what, problem.fix)

    def _is_option(self, location: Location) -> bool:
        values: Any = self.options
        for part in location[:2]:
            if not isinstance(values, Mapping):
                return True
            if part not in values:
                return False
            values = values[part]
        return bool(location)

    def _subject(self, location: Location) -> str:
        """Return a field as the user reads it in the file."""
        match location:
            case ("arms", int(index), *rest):
                return ": ".join([self._arm(index), ".".join(map(str, rest))])
            case (str(name), int(index)):
                return f"item {index + 1} of {name}"
        return ".".join(map(str, location))

    def _unknown_field(self, location: Location) -> str:
        match location:
            case ("arms", int(index), *_, name):
                return f"{self._arm(index)} has no field {name!r}"
            case (section, name):
                return f"{section} has no field {name!r}"
        return f"there is no field {location[-1]!r}"

    def _fix(self, location: Location, value: Any, *, is_option: bool) -> str:
        """Return the advice to use a valid value of a field: the closest choice, or an example."""
        if isinstance(value, date):
            return (
                f"YAML reads {value} as a date. Put it in quotes{' within the value' if is_option else ''}: '{value}'."
            )
        *_, name = [part for part in location if isinstance(part, str)]
        if name in NOISE_DETAILS and (meant := did_you_mean(str(value), choices_of(name))):
            return meant
        example = example_of(location)
        if "train" in location:
            example = self.recipe.get(name, example)
        if example is None:
            return "Use another value."
        key = f"{_option(location)} " if is_option else f"{name}: "
        return f"Use {key}{example if isinstance(example, str) else _as_yaml(example)}."

    def _arm(self, index: int) -> str:
        listed = self.file.fields.get("arms")
        written = listed[index] if isinstance(listed, list) and index < len(listed) else self.arms[index]
        return arm_label(index, written)


def unused_field_problems(spec: SweepSpec, earlier: SweepSpec | None = None) -> Iterator[Problem]:
    """Yield a problem for each SFTConfig field of a recipe that has no effect, or a value that neftune replaces.

    Args:
        spec: the sweep.
        earlier: the sweep in the results folder. Its fields are accepted: a sweep without them would be another one.
    """
    accepted = {name for arm in earlier.arms for name in earlier.recipe_of(arm).sft} if earlier else set()
    for index, arm in enumerate(spec.arms):
        fields = spec.recipe_of(arm).sft
        unused = _WITHOUT_EFFECT - _EFFECT_WITH_PACKING if fields.get("packing") else _WITHOUT_EFFECT
        for name, value in fields.items():
            place = place_in_recipe(arm, index, name)
            if name in unused and name not in accepted:
                yield Problem(f"the SFTConfig field {name!r} has no effect in neftune.", "Remove it.", place)
            # Here and not in check_recipe, because an earlier sweep may have it.
            if (name, value) == ("packing_strategy", "bfd_split") and name not in accepted:
                what = (
                    "packing_strategy=bfd_split is the same as bfd in neftune, because examples are cut to --max-length"
                )
                yield Problem(f"{what} first.", "Use packing_strategy=bfd.", place)


def place_in_recipe(arm: ArmSpec, index: int, name: str) -> Location:
    """Return the location of a field of an arm's recipe: in the arm if it overrides the field, else in the sweep.

    Args:
        arm: the arm.
        index: its position among the arms of the sweep.
        name: name of the field, which may be one of SFTConfig.
    """
    overridden = {**arm.train, **(arm.train.get("sft") or {})}
    return ("arms", index, "train", name) if name in overridden else ("train", name)


def arm_label(index: int, arm: Mapping[str, Any]) -> str:
    """Return how messages refer to an arm: its name, or its place in the list if it has none."""
    return f"arm {arm['name']!r}" if str(arm.get("name") or "").strip() else f"arm {index + 1}"


def independent(error: ValidationError) -> list[Details]:
    """Return the errors of a validation, except that a list is too short because its items are not valid."""
    details: list[Details] = [dict(one) for one in error.errors()]
    parents = {one["loc"][:length] for one in details for length in range(len(one["loc"]))}
    return [one for one in details if not (one["type"] == "too_short" and one["loc"] in parents)]


def requirement(details: Details) -> str:
    """Return the condition that a value does not meet, for example "must be larger than 0"."""
    if pattern := _REQUIREMENTS.get(details["type"]):
        return pattern.format(**{name: _as_yaml(value) for name, value in details.get("ctx", {}).items()})
    if details["type"] == "literal_error":
        return f"must be {details['ctx']['expected'].replace(chr(39), '')}"
    message: str = details["msg"]
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def choices_of(field: str) -> Sequence[str]:
    """Return the allowed values of one of NOISE_DETAILS; none for a field that is not a choice."""
    registered = {"noise": DISTRIBUTIONS.names, "noise_schedule": SCHEDULES.names}
    annotation = NoiseDetails.model_fields[field].annotation
    if field in registered:
        return registered[field]()
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def given(value: Any) -> str:
    """Return the end of a message with the given value, "" for a value with parts."""
    return "" if isinstance(value, dict | list | tuple) else f"; {_as_yaml(value)} was given"


def example_of(location: Location) -> Any:
    """Return a valid value of a field: its example, its default or its first choice; None if it has none."""
    *section, name = [part for part in location if isinstance(part, str)]
    if name in NOISE_DETAILS and (choices := choices_of(name)):
        return choices[0]
    field = _fields(tuple(section)).get(name)
    if field is None:
        return None
    return field.examples[0] if field.examples else field.get_default(call_default_factory=True)


_REQUIREMENTS = {
    "greater_than": "must be larger than {gt}",
    "greater_than_equal": "must be {ge} or larger",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "finite_number": "must be a finite number",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    "string_type": "must be text",
    "dict_type": "must be a mapping of fields",
    "model_type": "must be a mapping of fields",
}
"""Conditions by pydantic's type of error."""

_FIXES = {
    "repeated_arm_name": "Remove one of the arms, or rename it.",
    "repeated_seed": "Remove the repeated seeds.",
    "reserved_arm_name": "Rename the arm.",
    "looks_order": "Use for example looks: [5, 8, 12, 20].",
    "seeds_of_looks": "Remove seeds; the last look sets their number.",
    "limit_without_tasks": "Add --lm-eval TASKS, or remove the limit.",
    "sft_type": "Use sft: {weight_decay: 0.1}.",
}
"""Fixes for the errors that the specs raise themselves, by type. Their message is a complete sentence."""


def _quoted(details: Details) -> str:
    """Return the advice to put a number or boolean in quotes where text is needed, else ""."""
    name, value = details["loc"][-1], details["input"]
    is_scalar = details["type"] == "string_type" and isinstance(value, bool | int | float)
    return f"Put it in quotes: {name}: '{_as_yaml(value)}'." if is_scalar else ""


def _closest_literal(details: Details) -> str:
    names = re.findall(r"'([^']+)'", details["ctx"]["expected"]) if details["type"] == "literal_error" else ()
    return closest_choice(str(details["input"]), names)


def _option(location: Location) -> str:
    names = [
        str(part) for part in location if part not in ("train", "evaluation", "analysis") and isinstance(part, str)
    ]
    is_other_field = location[0] == "train" and names[0] not in TRAINING_FIELDS
    return f"--set {names[0]}" if is_other_field else f"--{names[0].replace('_', '-')}"


def _fields(section: Location) -> dict[str, FieldInfo]:
    models: dict[str | int, type[Spec]] = {
        "train": TrainSpec,
        "evaluation": EvaluationSpec,
        "analysis": AnalysisSpec,
        "arms": ArmSpec,
    }
    names = [part for part in section if isinstance(part, str)]
    model = models.get(names[-1]) if names else SweepSpec
    return model.model_fields if model else {}


def _as_yaml(value: Any) -> str:
    """Return a value as the user would write it in YAML."""
    if isinstance(value, date):
        return str(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.15g}" if isinstance(value, float) else str(value) if isinstance(value, int) else repr(value)


def _closest_field(location: Location) -> str:
    name = str(location[-1])
    if len(location) == 1 and name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    if location[0] == "arms" and name in _ARM_FIELD_SYNONYMS:
        return f"Did you mean {_ARM_FIELD_SYNONYMS[name]!r}?"
    known = list(_fields(location[:-1])) if len(location) > 1 else _SWEEP_FIELDS
    return did_you_mean(name, known) or f"Use {alternatives(known)}."


_SWEEP_FIELDS = [*(field.alias or name for name, field in SweepSpec.model_fields.items()), "grid"]
_ARM_FIELD_SYNONYMS = {"alfa": "alpha", "neftune_noise_alpha": "alpha", "noise_alpha": "alpha"}
_OTHER_NAMES = {
    "alphas": "Use arms: [{alpha: 0}, {alpha: 5}], or grid: {alpha: [0, 5]}.",
    "alpha": "Use arms: [{alpha: 0}, {alpha: 5}], or grid: {alpha: [0, 5]}.",
    "noises": "Use grid: {alpha: [0, 5], noise: [uniform, gaussian]}.",
    "seed": "Use seeds: [0], or a number of seeds: seeds: 3.",
    "model_name": "Did you mean 'model'?",
    "data": "Did you mean 'dataset'?",
    "layout": "Did you mean 'format'?",
    **{name: f"Use evaluation: {{{name}: ...}}." for name in EvaluationSpec.model_fields},
    **{name: f"Use analysis: {{{name}: ...}}." for name in AnalysisSpec.model_fields},
    **{name: f"Use train: {{{name}: ...}}." for name in TRAINING_FIELDS},
    **{name: f"Use train: {{{field}: ...}}." for name, field in TRAIN_FIELD_SYNONYMS.items()},
}
"""Advice for fields that do not exist at the top level of an experiment."""
