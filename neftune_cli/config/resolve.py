"""Resolution of a spec: a YAML file overrides the defaults, and options override the file. Reports all problems."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from neftune_cli.config.arms import ARM_OPTIONS, arms_of, fields_in
from neftune_cli.config.declared_analysis import LOOK_OPTIONS, planned_looks, primary_arm, seeds_of_looks
from neftune_cli.config.experiment_file import VERSION_FIELD, read_experiment
from neftune_cli.config.field_problems import Details, Origin, independent
from neftune_cli.config.recipes import default_recipe
from neftune_cli.config.spec import DEFAULT_MODEL, DEFAULT_SEEDS, SweepSpec
from neftune_cli.config.values import MOST_SEEDS, NumberDumper
from neftune_cli.errors import Problems


@dataclass(frozen=True)
class Resolved:
    """A spec, and the origin of its values."""

    spec: SweepSpec
    origin: Origin
    has_given_looks: bool
    """Whether the planned looks are the given ones, or none were given; False if they have a problem."""


def resolve_sweep(file: Path | None, options: Mapping[str, Any]) -> SweepSpec:
    """Return the spec of a file and options.

    Args:
        file: experiment in YAML, or None.
        options: given option values by field of `SweepSpec`, those of a section in a mapping of their own. Those in
            `ARM_OPTIONS` define arms, and those in `LOOK_OPTIONS` planned looks.

    Raises:
        UsageError: all problems.
    """
    problems = Problems()
    resolved = resolve_valid_fields(file, options, problems)
    problems.raise_any()
    assert resolved is not None
    return resolved.spec


def resolve_valid_fields(file: Path | None, options: Mapping[str, Any], problems: Problems) -> Resolved | None:
    """Return the spec of a file and options without the fields that have a problem, to check the others.

    Args:
        file: experiment in YAML, or None.
        options: given options, as for `resolve_sweep`.
        problems: receives the problems.

    Returns:
        None if the file cannot be read, or if a problem has no field that could be left out.
    """
    written = problems.attempt(lambda: read_experiment(file))
    if written is None:
        return None
    defining = {*ARM_OPTIONS, *LOOK_OPTIONS}
    values = {**written.fields, **{name: value for name, value in options.items() if name not in defining}}
    for section in ("train", "evaluation", "analysis"):
        in_file = problems.attempt(partial(fields_in, written.fields, section, written.prefix(section)))
        values[section] = {**(in_file or {}), **options.get(section, {})}
    values["arms"] = arms_of(written.fields, options, problems, written.prefix)
    values.pop("grid", None)
    of_looks = Problems()
    looks = planned_looks(options, values["analysis"].get("looks"), of_looks)
    problems.add(of_looks.found)
    if looks or options.get("until_decided") is False:
        values["analysis"]["looks"] = looks
    if looks:
        values["seeds"] = seeds_of_looks(looks, values.get("seeds"), options, problems)
    if wanted := values["analysis"].get("primary_arm"):
        values["analysis"]["primary_arm"] = primary_arm(str(wanted), values["arms"], problems)
    origin = Origin(written, options, values["arms"])
    spec, errors = _validated(values)
    problems.add(map(origin.problem, errors))
    while errors:
        smaller = reduce(_without, (details["loc"] for details in errors), values)
        if smaller == values:
            return None
        values = smaller
        spec, errors = _validated(values)
        problems.add(origin.problem(details) for details in errors if details["loc"])
    assert spec is not None
    return Resolved(spec, origin, has_given_looks=not of_looks.found and list(spec.analysis.looks) == looks)


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


def _validated(values: Mapping[str, Any]) -> tuple[SweepSpec | None, list[Details]]:
    """Return the spec of some values with the defaults of the others, and the errors of the values and of each arm."""
    train = values.get("train", {})
    recipe = default_recipe(str(values.get("model", DEFAULT_MODEL)), lora=bool(train.get("lora_rank")))
    try:
        spec = SweepSpec.model_validate(
            {**values, "seeds": _seeds(values.get("seeds")), "train": {**recipe, **train}},
        )
    except ValidationError as error:
        return None, independent(error)
    return spec, list(_recipe_errors(spec))


def _without(values: Any, location: Sequence[str | int]) -> Any:
    """Return values without the innermost mapping entry on the way to a location; the same values if there is none."""
    if not location:
        return values
    first, *rest = location
    if isinstance(values, Mapping) and first in values:
        smaller = _without(values[first], rest)
        others = {name: value for name, value in values.items() if name != first}
        return others if smaller == values[first] else {**values, first: smaller}
    if isinstance(values, list) and isinstance(first, int) and first < len(values):
        return [*values[:first], _without(values[first], rest), *values[first + 1 :]]
    return values


def _seeds(seeds: Any) -> Any:
    """Return a list of seeds for a number of seeds; other values are checked with the rest of the spec."""
    if seeds is None:
        return DEFAULT_SEEDS
    is_number = isinstance(seeds, int) and not isinstance(seeds, bool)
    return range(seeds) if is_number and 0 < seeds <= MOST_SEEDS else seeds


def _recipe_errors(spec: SweepSpec) -> Iterator[Details]:
    """Resolve each arm once, so that an invalid override is reported before training."""
    for index, arm in enumerate(spec.arms):
        try:
            spec.recipe_of(arm)
        except ValidationError as error:
            for details in independent(error):
                yield {**details, "loc": ("arms", index, "train", *details["loc"])}
