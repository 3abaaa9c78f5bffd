"""Resolution of a spec: a YAML file overrides the defaults, and options override the file. Reports all problems."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from neftune_cli.config.arms import ARM_FLAGS, arms_of, fields_in
from neftune_cli.config.experiment_file import VERSION_FIELD, read_experiment
from neftune_cli.config.field_problems import Origin, independent
from neftune_cli.config.spec import DEFAULT_MODEL, DEFAULT_SEEDS, SweepSpec, default_recipe
from neftune_cli.config.values import NumberDumper
from neftune_cli.errors import UsageError


def resolve_sweep(file: Path | None, flags: Mapping[str, Any]) -> SweepSpec:
    """Return the spec of a file and options.

    Args:
        file: experiment in YAML, or None.
        flags: given options by field of `SweepSpec`; `alphas`, `noises` and `snr` define arms.

    Raises:
        UsageError: all problems.
    """
    written = read_experiment(file)
    values = {**written.fields, **{name: value for name, value in flags.items() if name not in ARM_FLAGS}}
    for section in ("train", "evaluation"):
        values[section] = {**fields_in(written.fields, section, written.place(section)), **flags.get(section, {})}
    values["seeds"] = _seeds(values.get("seeds"))
    values["arms"] = arms_of(written.fields, flags, written.place)
    values.pop("grid", None)
    lora = bool(values["train"].get("lora_rank"))
    values["train"] = {**default_recipe(str(values.get("model", DEFAULT_MODEL)), lora=lora), **values["train"]}
    origin = Origin(written, flags, values["arms"])
    try:
        spec = SweepSpec.model_validate(values)
    except ValidationError as error:
        raise UsageError(*map(origin.problem, independent(error))) from None
    _check_arms(spec, origin)
    return spec


def load_spec(text: str) -> SweepSpec:
    """Return the spec of a text that `dump_spec` wrote.

    Raises:
        ValueError: the text is not such a spec.

    """
    values = _fields(text)
    return SweepSpec.model_validate({name: value for name, value in values.items() if name != VERSION_FIELD})


def written_version(text: str) -> Any:
    """Return the schema version in a text that `dump_spec` wrote, None if it has none."""
    return _fields(text).get(VERSION_FIELD)


def dump_spec(spec: SweepSpec, *, schema_version: int) -> str:
    """Return a spec as YAML, which `neftune sweep FILE` can run."""
    values = {VERSION_FIELD: schema_version, **spec.model_dump(mode="json", by_alias=True)}
    return yaml.dump(values, Dumper=NumberDumper, sort_keys=False)


@lru_cache(maxsize=4)
def _fields(text: str) -> dict[str, Any]:
    """Return the fields in a text. They are kept, because a sweep reads its own file many times."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if not isinstance(values, dict):
        raise ValueError("it has no fields")
    return values


def _seeds(seeds: Any) -> Any:
    """Return a list of seeds for a number of seeds; other values are checked with the rest of the spec."""
    if seeds is None:
        return DEFAULT_SEEDS
    return range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0 else seeds


def _check_arms(spec: SweepSpec, origin: Origin) -> None:
    """Resolve each arm once, so that an invalid override is reported before training."""
    problems = []
    for index, arm in enumerate(spec.arms):
        try:
            spec.recipe_of(arm)
        except ValidationError as error:
            problems += [
                origin.problem({**details, "loc": ("arms", index, "train", *details["loc"])})
                for details in independent(error)
            ]
    if problems:
        raise UsageError(*problems)
