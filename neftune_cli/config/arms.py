"""Arms from what a user wrote: a list of overrides, a grid of noise fields, or alphas and shapes as options."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import product
from typing import Any, get_args

from neftune_cli.config.spec import DEFAULT_ALPHAS, NOISE_DETAILS, SweepSpec
from neftune_cli.errors import Problem, UsageError

ARM_FLAGS = ("alphas", "noises", "snr")
"""Options that make arms of their own."""

_SIZES = ("alpha", "snr")
_GRID_FIELDS = (*_SIZES, *NOISE_DETAILS)
_ARMS_FIX = "Write arms: [{alpha: 0}, {alpha: 5}]."
_GRID_FIX = "Write grid: {alpha: [0, 5, 10], noise: [uniform, gaussian]}."

Arm = dict[str, Any]
Size = tuple[str, float]
"""How large the noise of an arm is: `alpha` or `snr`, and the number."""


def arms_of(written: Mapping[str, Any], flags: Mapping[str, Any]) -> list[Arm]:
    """Return the arms, each with its name, from an experiment's fields and the options that make arms.

    Options win. Alphas and signal-to-noise ratios take the place of the experiment's, and shapes (`--noises`) are tried
    on each of them, or of the experiment's if only shapes are given; what else a grid varies stays.

    Raises:
        UsageError: `arms` or `grid` isn't what it should be.

    """
    listed, grid = _listed(written), _as_grid(written.get("grid") or {})
    defaults = {**written, **flags}
    if any(flags.get(name) for name in ARM_FLAGS):
        details = {**_details(grid), **({"noise": flags["noises"]} if flags.get("noises") else {})}
        sizes = _asked_sizes(flags) or _sizes_of_arms(listed) + _sizes(grid) or _default_sizes()
        arms = _added([], _expanded(sizes, details, defaults))
    elif grid:
        arms = _added(listed, _expanded(_sizes(grid) or _default_sizes(), _details(grid), defaults))
    else:
        arms = listed or [dict([size]) for size in _default_sizes()]
    return [_named(arm) for arm in arms]


def arm_name(arm: Mapping[str, Any]) -> str:
    """Return the name an arm has when it gives none: what it overrides, alpha first.

    >>> arm_name({"alpha": 5.0, "noise": "gaussian"})
    'alpha=5,noise=gaussian'
    """
    size = f"snr={arm['snr']:g}" if arm.get("snr") else f"alpha={arm.get('alpha') or 0:g}"
    details = [f"{field}={arm[field]}" for field in NOISE_DETAILS if arm.get(field)]
    recipe = [f"{field}={value}" for field, value in sorted((arm.get("train") or {}).items())]
    return ",".join([size, *details, *recipe])


def fields_in(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of an experiment or of an arm, empty if it is missing.

    Raises:
        UsageError: it is there and is no set of fields.
    """
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise UsageError(Problem(f"{name}: {section!r} is not a set of fields.", f"Write {name}: {{epochs: 3}}."))
    return section


def _asked_sizes(flags: Mapping[str, Any]) -> list[Size]:
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
    """Yield an arm for each combination; what is the sweep's default anyway isn't named, and no noise has no shape."""
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
    """Return a grid with a list for each field."""
    if not isinstance(grid, dict):
        raise UsageError(Problem(f"grid: {grid!r} is not a set of fields with values.", _GRID_FIX))
    unknown = [field for field in grid if field not in _GRID_FIELDS]
    if unknown:
        what = f"grid: {', '.join(map(repr, unknown))} can't be varied in a grid."
        raise UsageError(Problem(what, f"Its fields are {', '.join(_GRID_FIELDS)}; anything else goes into arms."))
    values = {field: value if isinstance(value, list) else [value] for field, value in grid.items()}
    if problems := [problem for field, given in values.items() for problem in _grid_problems(field, given)]:
        raise UsageError(*problems)
    return values


def _grid_problems(field: str, values: list[Any]) -> Iterator[Problem]:
    if not values:
        yield Problem(f"grid: {field} has no values.", _GRID_FIX)
    for value in values:
        if field not in _SIZES:
            choices = get_args(SweepSpec.model_fields[field].annotation)
            if value not in choices:
                fix = f"Give some of {', '.join(choices)}."
                yield Problem(f"grid: {field} {value!r} is unknown.", fix)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            yield Problem(f"grid: {field} {value!r} is not a size of noise.", _GRID_FIX)
    for value in {repr(value): value for value in values if values.count(value) > 1}.values():
        yield Problem(f"grid: {field} {value!r} is there twice.", "Give each value once.")


def _named(arm: Arm) -> Arm:
    """Return an arm with its name; one that is no set of overrides is refused before it is named after them."""
    for field in _SIZES:
        _number(arm, field)
    whole = {**arm, "train": fields_in(arm, "train")}
    return {**whole, "name": arm.get("name") or arm_name(whole)}


def _number(arm: Mapping[str, Any], field: str) -> float:
    value = arm.get(field)
    if value is None:  # as a resolved experiment writes what an arm leaves open
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(Problem(f"arms: {field} {value!r} is not a number.", _ARMS_FIX))
    return value


def _added(arms: list[Arm], more: Iterable[Arm]) -> list[Arm]:
    """Return the arms with those of a grid that aren't among them."""
    return reduce(lambda whole, arm: whole if arm in whole else [*whole, arm], more, arms)
