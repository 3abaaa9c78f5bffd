"""Resolution of a spec: a YAML file overrides the defaults, and options override the file. Reports all problems.

The default recipe of the model, the seeds of planned looks and the primary arm depend on several fields, so they are
resolved here as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from neftune_cli.config.arm_names import arms_named
from neftune_cli.config.arms import ARM_OPTIONS, Prefix, arms_of, section_of
from neftune_cli.config.experiment_file import VERSION_FIELD, NumberDumper, read_experiment
from neftune_cli.config.field_problems import TRAINING_FIELDS, Details, Origin, independent, place_of
from neftune_cli.config.spec import BUNDLED_MODEL, DEFAULT_LOOKS, DEFAULT_MODEL, DEFAULT_SEEDS, MIN_SEEDS, SweepSpec
from neftune_cli.config.values import MOST_SEEDS, are_increasing
from neftune_cli.errors import Location, Problem, Problems, alternatives
from neftune_cli.formatting import counted

LOOK_OPTIONS = ("until_decided", "looks", "max_seeds")
"""Options that define the planned looks."""
_LOOKS_FIX = "Use for example --looks 5,8,12,20."

_TINY_RECIPE: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 1e-3,
    "batch_size": 16,
    "max_length": 256,
    "precision": "float32",
}
_RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 2e-5, "batch_size": 8, "max_length": 512}
_LORA_LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class Resolved:
    """A spec, and the origin of its values."""

    spec: SweepSpec
    origin: Origin
    looks_are_known: bool
    """Whether the planned looks of the spec, which may be none, are those that were asked for; False if their text or
    values have a problem."""


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
        options: given options, as for `resolve_sweep`. `looks` is None if its text cannot be read.
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
        in_file = problems.attempt(partial(section_of, written.fields, section, written.prefix(section)))
        values[section] = {**(in_file or {}), **options.get(section, {})}
    values["arms"] = arms_of(written.fields, options, problems, written.prefix)
    problems.add(_misplaced_fields(values, written.prefix))
    problems.add(_bad_share_without_skipping(options, values))
    problems.add(_replaced_options(options))
    values.pop("grid", None)
    looks = _set_looks(values, options, problems)
    if wanted := values["analysis"].get("primary_arm"):
        values["analysis"]["primary_arm"] = _primary_arm(str(wanted), values["arms"], problems)
    origin = Origin(written, options, values["arms"], _recipe(values))
    spec = _spec_of_valid_fields(values, origin, problems)
    if spec is None:
        return None
    return Resolved(spec, origin, looks_are_known=list(spec.analysis.looks) == looks)


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


def default_recipe(model: str, *, lora: bool) -> dict[str, Any]:
    """Return the default training recipe of a model.

    The recipe of `tiny` was tuned without noise. It computes in float32, so that its numbers are the same on all
    processors, apart from rounding. Other models get TRL's learning rate for full fine-tuning (2e-5), and
    ten times that for LoRA, as TRL's documentation recommends.
    """
    if model == BUNDLED_MODEL:
        return dict(_TINY_RECIPE)
    return {**_RECIPE, "learning_rate": _LORA_LEARNING_RATE} if lora else dict(_RECIPE)


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


def _misplaced_fields(values: Mapping[str, Any], prefix: Prefix) -> Iterator[Problem]:
    """Yield a problem for each field under `sft` that is also given in `train` itself, or belongs there."""
    recipes: list[tuple[Location, Mapping[str, Any]]] = [(("train",), values["train"])]
    recipes += [(("arms", index, "train"), arm["train"]) for index, arm in enumerate(values["arms"])]
    for location, train in recipes:
        written = train.get("sft")
        sft = written if isinstance(written, Mapping) else {}
        for name in sft:
            if name in TRAINING_FIELDS:
                what = f"{prefix(*location, 'sft', name)}train.sft: {name} is not one of the other SFTConfig fields."
                yield Problem(what, f"Use train: {{{name}: {sft[name]}}}, without sft.")
            elif name in train:
                what = f"{prefix(*location, 'sft', name)}{name} is given both in train and in train.sft."
                yield Problem(what, "Remove one of the two.")


def _set_looks(values: dict[str, Any], options: Mapping[str, Any], problems: Problems) -> list[int] | None:
    """Put the planned looks and the seeds for them into the values of a sweep.

    Returns:
        the looks, which may be none; None if the options for them have a problem.
    """
    of_looks = Problems()
    looks = _planned_looks(options, values["analysis"].get("looks"), of_looks)
    problems.add(of_looks.found)
    is_readable = "looks" not in options or options["looks"] is not None
    are_valid = is_readable and not of_looks.found
    if looks or options.get("until_decided") is False:
        values["analysis"]["looks"] = looks
    if looks:
        seeds_problems = problems if are_valid else Problems()  # seeds may fit the looks that were meant
        values["seeds"] = _seeds_of_looks(looks, values.get("seeds"), options, seeds_problems)
    return looks if are_valid else None


def _planned_looks(options: Mapping[str, Any], written: Any, problems: Problems) -> list[int]:
    """Return the numbers of seeds at the planned looks; none if the number of seeds is fixed.

    Args:
        options: given options; those of `LOOK_OPTIONS` are read.
        written: `analysis.looks` of the experiment.
        problems: receives the problems of the options.
    """
    given, largest = options.get("looks"), options.get("max_seeds")
    wanted, in_file = options.get("until_decided"), list(written) if isinstance(written, list | tuple) else []
    if wanted is False or not (wanted or in_file):
        problems.add(_looks_without_option(options))
        return []
    if not given and not _are_looks(in_file):
        return in_file  # the spec reports the problem, with its line
    looks = list(given or in_file or DEFAULT_LOOKS)
    if found := list(_look_problems(looks, largest, is_default=not given)):
        problems.add(found)
        return list(DEFAULT_LOOKS)
    if largest is None:
        return looks
    return [*(seeds for seeds in looks if seeds < largest), largest]


def _seeds_of_looks(looks: Sequence[int], seeds: Any, options: Mapping[str, Any], problems: Problems) -> Any:
    """Return the seeds for the planned looks: the given list if it has one for each seed of the last look.

    Args:
        looks: numbers of seeds at the looks.
        seeds: given by an option or by the experiment, or None.
        options: given options. Seeds of an option that do not fit are a problem. So are those of an experiment beside
            its own looks; options that plan looks replace them.
        problems: receives the problem of an option.
    """
    of_experiment = seeds is not None and "seeds" not in options and not any(options.get(name) for name in LOOK_OPTIONS)
    if not _are_looks(looks) or of_experiment:
        return seeds  # the spec reports the problem
    if isinstance(seeds, Sequence) and len(seeds) == looks[-1]:
        return seeds
    if "seeds" in options:
        count = len(options["seeds"])
        what = f"--seeds gives {counted(count, 'seed')}, but the planned looks need {looks[-1]}."
        problems.add([Problem(what, _fix_of_seeds(count, options))])
    return list(range(looks[-1]))


def _fix_of_seeds(count: int, options: Mapping[str, Any]) -> str:
    """Return the fix for a number of seeds that is not that of the last look."""
    if options.get("looks"):
        return "Remove --seeds: the last look sets the number of seeds."
    without = "remove --seeds" if options.get("max_seeds") else "--fixed-seeds for a fixed number of seeds"
    if count < MIN_SEEDS:
        return f"Use --max-seeds {MIN_SEEDS} or more instead of --seeds, or {without}."
    return f"Use --max-seeds {count} instead of --seeds, or {without}."


def _primary_arm(wanted: str, arms: Sequence[Mapping[str, Any]], problems: Problems) -> str | None:
    """Return the name of the arm with this name or alpha, None if there is not exactly one.

    Args:
        wanted: name or alpha.
        arms: arms with their names, the baseline first.
        problems: receives the problem.
    """
    alphas = {arm["name"]: arm.get("alpha") for arm in arms[1:] if not arm.get("control")}
    matches = arms_named(wanted, alphas)
    if len(matches) == 1:
        return matches[0]
    names = matches or list(alphas)
    found = f"{len(matches)} arms have this alpha" if matches else "there is no such arm besides the baseline"
    fix = f"Use {alternatives(names)}." if names else "Add an arm with --alphas."
    problems.add([Problem(f"--primary-arm {wanted}: {found}.", fix)])
    return None


def _looks_without_option(options: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("looks", "max_seeds"):
        if name in options:
            option = f"--{name.replace('_', '-')}"
            what = f"{option} has no effect without --until-decided."
            yield Problem(what, f"Add --until-decided, or remove {option}.")


def _replaced_options(options: Mapping[str, Any]) -> Iterator[Problem]:
    given = {*options, *options.get("train", {})}
    for option, other in (("epochs", "max_steps"), ("noise", "noises")):
        if {option, other} <= given:
            replaced, by = (f"--{name.replace('_', '-')}" for name in (option, other))
            yield Problem(f"{replaced} has no effect with {by}, which replaces it.", f"Remove {replaced} or {by}.")


def _bad_share_without_skipping(options: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Problem]:
    if "max_bad_share" in options and not values.get("skip_bad_rows"):
        what = "--max-bad-share has no effect without --skip-bad-rows."
        yield Problem(what, "Add --skip-bad-rows, or remove --max-bad-share.")


def _are_looks(values: Sequence[Any]) -> bool:
    are_numbers = all(isinstance(one, int) and MIN_SEEDS <= one <= MOST_SEEDS for one in values)
    return are_numbers and are_increasing(values)


def _look_problems(looks: Sequence[int], largest: int | None, *, is_default: bool) -> Iterator[Problem]:
    shown = ",".join(map(str, looks))
    if not are_increasing(looks):
        yield Problem(f"--looks: the numbers of seeds must increase; {shown} was given.", _LOOKS_FIX)
    if few := [seeds for seeds in looks if seeds < MIN_SEEDS]:
        what = f"--looks: a look needs at least {MIN_SEEDS} seeds; {few[0]} was given."
        yield Problem(what, _LOOKS_FIX)
    if many := [seeds for seeds in looks if seeds > MOST_SEEDS]:
        yield Problem(f"--looks: a look has at most {MOST_SEEDS:,} seeds; {many[0]} was given.", _LOOKS_FIX)
    if largest is None:
        return
    if largest < MIN_SEEDS:
        what = f"--max-seeds must be {MIN_SEEDS} or larger; {largest} was given."
        yield Problem(what, "Use for example --max-seeds 20.")
    elif largest > MOST_SEEDS:
        what = f"--max-seeds must be {MOST_SEEDS:,} or less; {largest} was given."
        yield Problem(what, "Use for example --max-seeds 20.")
    elif not is_default and (beyond := [seeds for seeds in looks if seeds > largest]):
        what = f"--looks: {beyond[0]} seeds are more than --max-seeds {largest}."
        yield Problem(what, f"Use looks up to {largest}, or a larger --max-seeds.")


def _spec_of_valid_fields(values: Mapping[str, Any], origin: Origin, problems: Problems) -> SweepSpec | None:
    """Return the spec of some values without those that have a problem; None if a problem has no such value."""
    spec, errors = _validated(values)
    problems.add(map(origin.problem, errors))
    while errors:
        smaller = reduce(_without, map(place_of, errors), values)
        if smaller == values:
            return None
        values = smaller
        spec, errors = _validated(values)
        problems.add(origin.problem(details) for details in errors if details["loc"])
    return spec


def _validated(values: Mapping[str, Any]) -> tuple[SweepSpec | None, list[Details]]:
    """Return the spec of some values with the defaults of the others, and the errors of the values and of each arm."""
    train, recipe = values.get("train", {}), _recipe(values)
    try:
        spec = SweepSpec.model_validate(
            {**values, "seeds": _seeds(values.get("seeds")), "train": {**recipe, **train}},
        )
    except ValidationError as error:
        return None, independent(error)
    return spec, list(_recipe_errors(spec))


def _recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default recipe of the model in some values of a sweep."""
    lora = bool(values.get("train", {}).get("lora_rank"))
    return default_recipe(str(values.get("model", DEFAULT_MODEL)), lora=lora)


def _without(values: Any, location: Sequence[str | int]) -> Any:
    """Return values without the innermost mapping entry on the way to a location; the same values if there is none."""
    if not location:
        return values
    first, *rest = location
    if first == "sft" and isinstance(values, Mapping) and rest and rest[0] in values:
        return _without(values, rest)  # the error is placed under `sft`, the field was given beside it
    if isinstance(values, Mapping) and first in values:
        smaller = _without(values[first], rest)
        others = {name: value for name, value in values.items() if name != first}
        is_same = smaller is values[first] or smaller == values[first]  # NaN equals nothing
        return others if is_same else {**values, first: smaller}
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
