"""Resolution of a spec: a YAML file overrides the defaults, and options override the file. Reports all problems."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from neftune_cli.config.arms import ARM_FLAGS, arms_of, fields_in
from neftune_cli.config.spec import (
    DEFAULT_SEEDS,
    TRAIN_FIELD_SYNONYMS,
    ArmSpec,
    EvaluationSpec,
    SweepSpec,
    TrainSpec,
    default_recipe,
)
from neftune_cli.config.values import NumberDumper, NumberLoader
from neftune_cli.errors import Problem, UsageError

_VERSION = "schema_version"
_FIELDS = [*(field.alias or name for name, field in SweepSpec.model_fields.items()), "grid"]
_FIELDS_OF = {"arms": list(ArmSpec.model_fields), "evaluation": list(EvaluationSpec.model_fields)}


def resolve_sweep(file: Path | None, flags: Mapping[str, Any]) -> SweepSpec:
    """Return the spec of a file and options.

    Args:
        file: experiment in YAML, or None.
        flags: given options by field of `SweepSpec`; `alphas`, `noises` and `snr` define arms.

    Raises:
        UsageError: all problems.
    """
    written = _read_yaml(file)
    values = {**written, **{name: value for name, value in flags.items() if name not in ARM_FLAGS}}
    for section in ("train", "evaluation"):
        values[section] = {**fields_in(written, section), **flags.get(section, {})}
    values["seeds"] = _seeds(values.get("seeds"))
    values["arms"] = arms_of(written, flags)
    values.pop("grid", None)
    lora = bool(values["train"].get("lora_rank"))
    values["train"] = {**default_recipe(str(values.get("model", "tiny")), lora=lora), **values["train"]}
    try:
        spec = SweepSpec.model_validate(values)
    except ValidationError as error:
        raise UsageError(*(_problem(details, file) for details in _independent(error))) from None
    _check_arms(spec, file)
    return spec


def load_spec(text: str) -> SweepSpec:
    """Return the spec of a text that `dump_spec` wrote.

    Raises:
        ValueError: the text is not such a spec.

    """
    values = _fields(text)
    return SweepSpec.model_validate({name: value for name, value in values.items() if name != _VERSION})


def written_version(text: str) -> Any:
    """Return the schema version in a text that `dump_spec` wrote, None if it has none."""
    return _fields(text).get(_VERSION)


def dump_spec(spec: SweepSpec, *, schema_version: int) -> str:
    """Return a spec as YAML, which `neftune sweep FILE` can run."""
    values = {_VERSION: schema_version, **spec.model_dump(mode="json", by_alias=True)}
    return yaml.dump(values, Dumper=NumberDumper, sort_keys=False)


def _fields(text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if not isinstance(values, dict):
        raise ValueError("it has no fields")
    return values


def _read_yaml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise UsageError(Problem(f"Cannot read {file}: {error.strerror}.", "Name an experiment file.")) from None
    except _RepeatedKeyError as error:
        key, first, second = error.args
        where = f"twice on line {first}" if first == second else f"on line {first} and on line {second}"
        raise UsageError(Problem(f"{file}: the field {key!r} appears {where}.", "Remove one of the two.")) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        raise UsageError(Problem(f"{file}{where} is not valid YAML.", _EXAMPLE)) from None
    if not isinstance(values, dict):
        raise UsageError(Problem(f"{file} has no fields.", _EXAMPLE))
    return {name: value for name, value in values.items() if name != _VERSION}


class _UniqueKeyLoader(NumberLoader):
    """Safe loader that refuses a mapping with a repeated key, where PyYAML would keep the last value.

    The check precedes the expansion of merge keys (`<<`), so that a mapping can override the fields of its anchor.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _RepeatedKeyError(key.value, lines[key.value], line)
            lines[key.value] = line
        return node


class _RepeatedKeyError(Exception):
    """A mapping has a key twice. The arguments are the key and its two lines, counted from 1."""


def _seeds(seeds: Any) -> Any:
    """Return a list of seeds for a number of seeds; other values are checked with the rest of the spec."""
    if seeds is None:
        return DEFAULT_SEEDS
    return range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0 else seeds


def _check_arms(spec: SweepSpec, file: Path | None) -> None:
    """Resolve each arm once, so that an invalid override is reported before training."""
    problems = []
    for arm in spec.arms:
        try:
            spec.recipe_of(arm)
        except ValidationError as error:
            problems += [
                _problem({**details, "loc": (f"arm {arm.name!r}: train", *details["loc"])}, file)
                for details in error.errors()
            ]
    if problems:
        raise UsageError(*problems)


def _independent(error: ValidationError) -> list[dict[str, Any]]:
    """Return the errors of a validation, except that a list is too short because its items are not valid."""
    details: list[dict[str, Any]] = [dict(one) for one in error.errors()]
    parents = {one["loc"][:length] for one in details for length in range(len(one["loc"]))}
    return [one for one in details if not (one["type"] == "too_short" and one["loc"] in parents)]


def _problem(details: dict[str, Any], file: Path | None) -> Problem:
    """Return a pydantic error as a problem with its fix."""
    location = details["loc"]
    if details["type"] == "extra_forbidden":
        what = f"{f'{file}: ' if file else ''}there is no field {'.'.join(map(str, location))!r}."
        return Problem(what, _closest_field(str(location[-1]), location))
    if location == ("seeds",) and details["type"] in ("tuple_type", "too_short"):
        expected = "neither a number of seeds, 1 or more, nor a list of at least one seed"
        what = f"{_where(location, file)}{details['input']!r} is {expected}."
        return Problem(what, "Write seeds: 3, or seeds: [0, 1, 7].")
    message = _lower_first(details["msg"].removeprefix("Value error, "))
    given = "" if isinstance(details["input"], dict | list | tuple) else f", not {details['input']!r}"
    return Problem(f"{_where(location, file)}{message}{given}.", "Give another value.")


def _where(location: tuple[Any, ...], file: Path | None) -> str:
    """Return the place of a value as the user wrote it: an option, or a field of a file."""
    path = [str(part) for part in location if part != "sft"]
    if file is not None:
        return f"{file}: {'.'.join(path)}: " if path else f"{file}: "
    names = [part for part in path if part not in ("train", "evaluation")]
    return f"--{names[0].replace('_', '-')}: " if names else ""


def _closest_field(name: str, location: tuple[Any, ...]) -> str:
    known = _FIELDS_OF.get(str(location[0]), _FIELDS) if len(location) > 1 else _FIELDS
    if len(location) == 1 and name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"The fields are {', '.join(known)}."


_TRAINING_FIELDS = [name for name in TrainSpec.model_fields if name != "sft"]
_OTHER_NAMES = {
    "alphas": "Write arms: [{alpha: 0}, {alpha: 5}], or grid: {alpha: [0, 5]}.",
    "alpha": "Write arms: [{alpha: 0}, {alpha: 5}], or grid: {alpha: [0, 5]}.",
    "noises": "Write grid: {alpha: [0, 5], noise: [uniform, gaussian]}.",
    "seed": "Write seeds: [0], or a number of seeds: seeds: 3.",
    "model_name": "Did you mean 'model'?",
    "data": "Did you mean 'dataset'?",
    "layout": "Did you mean 'format'?",
    **{name: f"Write it under evaluation: {{{name}: ...}}." for name in EvaluationSpec.model_fields},
    **{name: f"Write it under train: {{{name}: ...}}." for name in _TRAINING_FIELDS},
    **{name: f"Write it under train: {{{field}: ...}}." for name, field in TRAIN_FIELD_SYNONYMS.items()},
}
"""Advice for fields that do not exist at the top level of an experiment."""
_EXAMPLE = "experiments/ablation.yaml is an example."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
