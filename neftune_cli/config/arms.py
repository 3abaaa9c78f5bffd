"""Arms of a sweep: from a list of overrides, a grid of noise fields, or the options for alphas and distributions."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import product
from typing import Any

from neftune_cli.config.spec import DEFAULT_ALPHAS, NOISE_DETAILS, SweepSpec, choices_of
from neftune_cli.errors import Problem, UsageError

ARM_FLAGS = ("alphas", "noises", "snr")
"""Options that define arms."""

_SIZES = ("alpha", "snr")
_GRID_FIELDS = (*_SIZES, *NOISE_DETAILS)
_ARMS_FIX = "Write arms: [{alpha: 0}, {alpha: 5}]."
_GRID_FIX = "Write grid: {alpha: [0, 5, 10], noise: [uniform, gaussian]}."

Arm = dict[str, Any]
Size = tuple[str, float]
"""Noise size of an arm: the field `alpha` or `snr`, and the number."""


def arms_of(written: Mapping[str, Any], flags: Mapping[str, Any]) -> list[Arm]:
    """Return the arms with their names, from the fields of an experiment and the options that define arms.

    Options override the experiment. `--alphas` and `--snr` replace its noise sizes. `--noises` combines each noise size
    with each distribution. Other fields that a grid varies keep their values.

    Raises:
        UsageError: `arms` or `grid` has the wrong form.

    """
    listed, grid = _listed(written), _as_grid(written.get("grid") or {})
    defaults = {**written, **flags}
    if any(flags.get(name) for name in ARM_FLAGS):
        details = {**_details(grid), **({"noise": flags["noises"]} if flags.get("noises") else {})}
        sizes = _sizes_of_options(flags) or _sizes_of_arms(listed) + _sizes(grid) or _default_sizes()
        arms = _added([], _expanded(sizes, details, defaults))
    elif grid:
        arms = _added(listed, _expanded(_sizes(grid) or _default_sizes(), _details(grid), defaults))
    else:
        arms = listed or [dict([size]) for size in _default_sizes()]
    return [_named(arm) for arm in arms]


def arm_name(arm: Mapping[str, Any]) -> str:
    """Return the default name of an arm: its overrides, alpha first.

    >>> arm_name({"alpha": 5.0, "noise": "gaussian"})
    'alpha=5,noise=gaussian'
    """
    size = f"snr={arm['snr']:g}" if arm.get("snr") else f"alpha={arm.get('alpha') or 0:g}"
    details = [f"{field}={arm[field]}" for field in NOISE_DETAILS if arm.get(field)]
    recipe = [f"{field}={value}" for field, value in sorted((arm.get("train") or {}).items())]
    repeat = [f"repeat={arm['repeat']}"] if arm.get("repeat") else []
    return ",".join([size, *details, *recipe, *repeat])


def fields_in(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of an experiment or of an arm; a missing section is empty.

    Raises:
        UsageError: the section is not a mapping.

    """
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise UsageError(Problem(f"{name}: {section!r} is not a mapping of fields.", f"Write {name}: {{epochs: 3}}."))
    return section


def _sizes_of_options(flags: Mapping[str, Any]) -> list[Size]:
    alphas, ratios = flags.get("alphas") or [], flags.get("snr") or []
    return [*(("alpha", alpha) for alpha in sorted(alphas)), *(("snr", snr) for snr in sorted(ratios, reverse=True))]


def _sizes_of_arms(arms: Iterable[Arm]) -> list[Size]:
    sizes = (("snr", _number(arm, "snr")) if arm.get("snr") else ("alpha", _number(arm, "alpha")) for arm in arms)
    return list(dict.fromkeys(sizes))


def _sizes(grid: Mapping[str, list[Any]]) -> list[Size]:
    return [(field, float(value)) for field in _SIZES for value in grid.get(field, [])]


def _default_sizes() -> list[Size]:
    return [("alpha", alpha) for alpha in DEFAULT_ALPHAS]


def _details(grid: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {field: values for field, values in grid.items() if field not in _SIZES}


def _listed(written: Mapping[str, Any]) -> list[Arm]:
    arms = written.get("arms") or []
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise UsageError(Problem("arms is not a list of overrides.", _ARMS_FIX))
    return arms


def _expanded(sizes: Iterable[Size], details: Mapping[str, list[Any]], defaults: Mapping[str, Any]) -> Iterator[Arm]:
    """Yield an arm for each combination. Defaults of the sweep are not named, and alpha 0 has no other noise fields."""
    for size in sizes:
        if size == ("alpha", 0.0):
            yield {"alpha": 0.0}
            continue
        for values in product(*details.values()):
            arm = dict(zip(details, values, strict=True))
            yield dict([size]) | {field: value for field, value in arm.items() if value != _default(field, defaults)}


def _default(field: str, defaults: Mapping[str, Any]) -> Any:
    return defaults.get(field, SweepSpec.model_fields[field].default)


def _as_grid(grid: Any) -> dict[str, list[Any]]:
    """Return the grid with a list of values for each field."""
    if not isinstance(grid, dict):
        raise UsageError(Problem(f"grid: {grid!r} is not a mapping from fields to values.", _GRID_FIX))
    unknown = [field for field in grid if field not in _GRID_FIELDS]
    if unknown:
        what = f"grid: {', '.join(map(repr, unknown))} cannot be varied in a grid."
        raise UsageError(Problem(what, f"A grid can vary {', '.join(_GRID_FIELDS)}. Use arms for other fields."))
    values = {field: value if isinstance(value, list) else [value] for field, value in grid.items()}
    if problems := [problem for field, given in values.items() for problem in _grid_problems(field, given)]:
        raise UsageError(*problems)
    return values


def _grid_problems(field: str, values: list[Any]) -> Iterator[Problem]:
    if not values:
        yield Problem(f"grid: {field} has no values.", _GRID_FIX)
    for value in values:
        if field not in _SIZES:
            choices = choices_of(field)
            if value not in choices:
                yield Problem(f"grid: {field} {value!r} is unknown.", f"Use values from {', '.join(choices)}.")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            yield Problem(f"grid: {field} must be a finite number, 0 or larger, not {value!r}.", _GRID_FIX)
    for value in {repr(value): value for value in values if values.count(value) > 1}.values():
        yield Problem(f"grid: {field} {value!r} appears twice.", "Give each value once.")


def _named(arm: Arm) -> Arm:
    """Return an arm with its name, after a check of the fields that the name contains."""
    for field in _SIZES:
        _number(arm, field)
    whole = {**arm, "train": fields_in(arm, "train")}
    return {**whole, "name": arm.get("name") or arm_name(whole)}


def _number(arm: Mapping[str, Any], field: str) -> float:
    value = arm.get(field)
    if value is None:  # a resolved experiment writes null for fields that an arm does not override
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(Problem(f"arms: {field} {value!r} is not a number.", _ARMS_FIX))
    return value


def _added(arms: list[Arm], more: Iterable[Arm]) -> list[Arm]:
    """Return the arms and those of the grid that are not among them."""
    return reduce(lambda whole, arm: whole if arm in whole else [*whole, arm], more, arms)
