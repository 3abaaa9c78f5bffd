"""From defaults, a YAML file and flags (each overriding the one before) to one `SweepSpec`, or to every problem."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from neftune_cli.config.arms import ARM_FLAGS, arms_of, fields_in
from neftune_cli.config.spec import DEFAULT_SEEDS, ArmSpec, EvaluationSpec, SweepSpec, default_recipe
from neftune_cli.errors import Problem, UsageError

_VERSION = "schema_version"
_FIELDS = [*(field.alias or name for name, field in SweepSpec.model_fields.items()), "grid"]
_FIELDS_OF = {"arms": list(ArmSpec.model_fields), "evaluation": list(EvaluationSpec.model_fields)}


def resolve_sweep(file: Path | None, flags: Mapping[str, Any]) -> SweepSpec:
    """Return the spec a file and flags mean.

    Args:
        file: a YAML experiment, or None.
        flags: fields of `SweepSpec` the user gave, without those left alone; `alphas`, `noises` and `snr` are arms.

    Raises:
        UsageError: every problem found.
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
    """Return the spec that `dump_spec` wrote.

    Raises:
        ValueError: it wrote nothing like that.
    """
    values = _fields(text)
    return SweepSpec.model_validate({name: value for name, value in values.items() if name != _VERSION})


def written_version(text: str) -> Any:
    """Return the schema version that `dump_spec` put on top, None if there is none."""
    return _fields(text).get(_VERSION)


def dump_spec(spec: SweepSpec, *, schema_version: int) -> str:
    """Return a spec as YAML that `neftune sweep FILE` runs again."""
    values = {_VERSION: schema_version, **spec.model_dump(mode="json", by_alias=True)}
    return yaml.safe_dump(values, sort_keys=False)


def _fields(text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if not isinstance(values, dict):
        raise ValueError("it holds no fields")
    return values


def _read_yaml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(Problem(f"{file} can't be read: {error.strerror}.", "Name an experiment file.")) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = f" line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        raise UsageError(Problem(f"{file}{where} isn't YAML.", "experiments/ablation.yaml shows the form.")) from None
    if not isinstance(values, dict):
        raise UsageError(Problem(f"{file} holds no fields.", "experiments/ablation.yaml shows the form."))
    return {name: value for name, value in values.items() if name != _VERSION}


def _seeds(seeds: Any) -> Any:
    if seeds is None:
        return DEFAULT_SEEDS
    return range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds


def _check_arms(spec: SweepSpec, file: Path | None) -> None:
    """Resolve each arm once, so that a wrong override is found before anything is trained."""
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
    """Turn one of pydantic's complaints into words."""
    location = details["loc"]
    if details["type"] == "extra_forbidden":
        what = f"{f'{file}: ' if file else ''}there is no field {'.'.join(map(str, location))!r}."
        return Problem(what, _closest(str(location[-1]), location))
    message = _lower_first(details["msg"].removeprefix("Value error, "))
    given = "" if isinstance(details["input"], dict | list | tuple) else f", not {details['input']!r}"
    return Problem(f"{_where(location, file)}{message}{given}.", "Give another value.")


def _where(location: tuple[Any, ...], file: Path | None) -> str:
    """Return where a value stands, as the user wrote it: an option, or a field of a file."""
    path = [str(part) for part in location if part != "sft"]
    if file is not None:
        return f"{file}: {'.'.join(path)}: " if path else f"{file}: "
    names = [part for part in path if part not in ("train", "evaluation")]
    return f"--{names[0].replace('_', '-')}: " if names else ""


def _closest(name: str, location: tuple[Any, ...]) -> str:
    known = _FIELDS_OF.get(str(location[0]), _FIELDS) if len(location) > 1 else _FIELDS
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"The fields are {', '.join(known)}."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
