"""Resolution of a spec: defaults, overridden by a YAML file, overridden by options, with all problems at once."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from neftune_cli.config.arms import ARM_FLAGS, arms_of, fields_in
from neftune_cli.config.spec import DEFAULT_SEEDS, ArmSpec, EvaluationSpec, SweepSpec, TrainSpec, default_recipe
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
        raise UsageError(*(_problem(dict(details), file) for details in error.errors())) from None
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
    return yaml.safe_dump(values, sort_keys=False)


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
        raise UsageError(Problem(str(error).format(file=file), "Remove one of the two.")) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        raise UsageError(Problem(f"{file}{where} is not valid YAML.", _EXAMPLE)) from None
    if not isinstance(values, dict):
        raise UsageError(Problem(f"{file} has no fields.", _EXAMPLE))
    return {name: value for name, value in values.items() if name != _VERSION}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe loader that refuses a mapping with a repeated key, where YAML would keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if key in lines:
                what = f"{{file}}: the field {key!r} appears on line {lines[key]} and on line {line}."
                raise _RepeatedKeyError(what)
            lines[key] = line
        return super().construct_mapping(node, deep=deep)


class _RepeatedKeyError(Exception):
    """A mapping has a key twice; the message has a placeholder for the file."""


def _seeds(seeds: Any) -> Any:
    if seeds is None:
        return DEFAULT_SEEDS
    return range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds


def _check_arms(spec: SweepSpec, file: Path | None) -> None:
    """Resolve each arm once, so that an invalid override is reported before training."""
    problems = []
    for arm in spec.arms:
        try:
            spec.recipe_of(arm)
        except ValidationError as error:
            problems += [
                _problem({**details, "loc": (f"arm {arm.name!r}", *details["loc"])}, file) for details in error.errors()
            ]
    if problems:
        raise UsageError(*problems)


def _problem(details: dict[str, Any], file: Path | None) -> Problem:
    """Return a pydantic error as a problem with its fix."""
    location = details["loc"]
    if details["type"] == "extra_forbidden":
        what = f"{f'{file}: ' if file else ''}there is no field {'.'.join(map(str, location))!r}."
        return Problem(what, _closest_field(str(location[-1]), location))
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
    **{name: f"Write it under train: {{{name}: ...}}." for name in _TRAINING_FIELDS},
    **{name: f"Write it under evaluation: {{{name}: ...}}." for name in EvaluationSpec.model_fields},
    "lr": "Write it under train: {learning_rate: ...}.",
    "max_length": "Write it under train: {max_length: ...}.",
}
"""Advice for fields that do not exist at the top level of an experiment."""
_EXAMPLE = "experiments/ablation.yaml is an example."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
