"""Arms from what a user wrote: a list of overrides, a grid of noise fields, or alphas and shapes as options."""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import product
from typing import Any

from neftune_cli.config.defaults import DEFAULT_ALPHAS
from neftune_cli.config.spec import NOISE_DETAILS
from neftune_cli.errors import Problem, UsageError

ARM_FLAGS = ("alphas", "noises", "snr")
"""Options that make arms of their own."""

_GRID_FIELDS = ("alpha", "snr", *NOISE_DETAILS)
_ARMS_FIX = "Write arms: [{alpha: 0}, {alpha: 5}]."
_GRID_FIX = "Write grid: {alpha: [0, 5, 10], noise: [uniform, gaussian]}."

Arm = dict[str, Any]


def arms_of(written: Mapping[str, Any], flags: Mapping[str, Any]) -> list[Arm]:
    """Return the arms, each with its name, from an experiment's fields and the options that make arms.

    Options win: alphas and signal-to-noise ratios take the place of the experiment's arms, while shapes alone
    (`--noises`) are tried on each alpha that the experiment has.

    Raises:
        UsageError: `arms` or `grid` isn't what it should be.

    """
    if any(flags.get(name) for name in ARM_FLAGS):
        arms = _added([], _from_flags(written, flags))
    else:
        arms = _added(_listed(written), _expanded(written.get("grid") or {}, written))
    return [_named(arm) for arm in arms or _alphas(DEFAULT_ALPHAS)]


def arm_name(arm: Mapping[str, Any]) -> str:
    """Return the name an arm has when it gives none: what it overrides, alpha first.

    >>> arm_name({"alpha": 5.0, "noise": "gaussian"})
    'alpha=5,noise=gaussian'
    """
    size = f"snr={arm['snr']:g}" if arm.get("snr") else f"alpha={arm.get('alpha') or 0:g}"
    details = [f"{field}={arm[field]}" for field in NOISE_DETAILS if arm.get(field)]
    recipe = [f"{field}={value}" for field, value in sorted((arm.get("train") or {}).items())]
    return ",".join([size, *details, *recipe])


def _alphas(alphas: Any) -> list[Arm]:
    return [{"alpha": alpha} for alpha in sorted(alphas)]


def _from_flags(written: Mapping[str, Any], flags: Mapping[str, Any]) -> Iterator[Arm]:
    ratios = flags.get("snr")
    alphas = flags.get("alphas") or ([] if ratios else _alphas_of(written))
    shapes = {"noise": flags["noises"]} if flags.get("noises") else {}
    defaults = {**written, **flags}
    yield from _expanded({"alpha": sorted(alphas), **shapes}, defaults)
    yield from _expanded({"snr": sorted(ratios or [], reverse=True), **shapes}, defaults)


def _alphas_of(written: Mapping[str, Any]) -> list[float]:
    """Return the sizes of noise that an experiment tries."""
    grid = _as_grid(written.get("grid") or {})
    found = [_alpha(arm) for arm in _listed(written) if not arm.get("snr")] + grid.get("alpha", [])
    return list(dict.fromkeys(found)) or list(DEFAULT_ALPHAS)


def _listed(written: Mapping[str, Any]) -> list[Arm]:
    arms = written.get("arms") or []
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise UsageError(Problem("arms is not a list of overrides.", _ARMS_FIX))
    return arms


def _expanded(grid: Any, defaults: Mapping[str, Any]) -> Iterator[Arm]:
    """Yield an arm for each combination; what is the sweep's default anyway isn't named, and alpha 0 has no shape."""
    if not grid:
        return
    values = _as_grid(grid)
    for combination in product(*values.values()):
        arm = dict(zip(values, combination, strict=True))
        if arm.get("alpha") == 0:
            arm = {"alpha": 0.0}
        yield {field: value for field, value in arm.items() if value != _default(field, defaults)}


def _default(field: str, defaults: Mapping[str, Any]) -> Any:
    own = {"noise": "uniform", "noise_scale": "paper", "noise_schedule": "constant", "noise_target": "all"}
    return defaults.get(field, own[field]) if field in own else None


def _as_grid(grid: Any) -> dict[str, list[Any]]:
    """Return a grid with a list for each field."""
    if not isinstance(grid, dict):
        raise UsageError(Problem(f"grid: {grid!r} is not a set of fields with values.", _GRID_FIX))
    unknown = [field for field in grid if field not in _GRID_FIELDS]
    if unknown:
        what = f"grid: {', '.join(map(repr, unknown))} can't be varied in a grid."
        raise UsageError(Problem(what, f"Its fields are {', '.join(_GRID_FIELDS)}; anything else goes into arms."))
    return {field: value if isinstance(value, list) else [value] for field, value in grid.items()}


def _named(arm: Arm) -> Arm:
    """Return an arm with its name; one that is no set of overrides is refused before it is named after them."""
    _alpha(arm)
    if not isinstance(arm.get("train") or {}, dict):
        raise UsageError(Problem(f"train: {arm['train']!r} is not a set of fields.", "Write train: {epochs: 3}."))
    whole = {**arm, "train": arm.get("train") or {}}
    return {**whole, "name": arm.get("name") or arm_name(whole)}


def _alpha(arm: Arm) -> float:
    for field in ("alpha", "snr"):
        value = arm.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UsageError(Problem(f"arms: {field} {value!r} is not a number.", _ARMS_FIX))
    return arm.get("alpha") or 0.0


def _added(arms: list[Arm], more: Iterable[Arm]) -> list[Arm]:
    """Return the arms with those of a grid that aren't among them."""
    return reduce(lambda whole, arm: whole if arm in whole else [*whole, arm], more, arms)
