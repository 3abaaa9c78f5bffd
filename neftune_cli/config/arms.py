"""Arms of a sweep: from a list of overrides, a grid of noise fields, or the options for alphas and distributions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any

from neftune_cli.config.arm_names import arm_name
from neftune_cli.config.field_problems import arm_label, choices_of, given
from neftune_cli.config.spec import DEFAULT_ALPHAS, NOISE_DETAILS, SweepSpec
from neftune_cli.config.values import alpha_requirement, is_alpha, is_size
from neftune_cli.errors import Problem, Problems, UsageError, alternatives, did_you_mean

_NOISE_OPTIONS = ("alphas", "noises", "snr")
"""Options that replace the listed arms."""
ARM_OPTIONS = (*_NOISE_OPTIONS, "controls")
"""Options that define arms."""
AA_CONTROL, POSITIVE_CONTROL = "A/A control", "positive control"
CONTROL_ARMS: tuple[dict[str, Any], ...] = (
    {"name": AA_CONTROL, "alpha": 0.0, "repeat": 1, "control": True},
    {"name": POSITIVE_CONTROL, "snr": 1.0, "control": True},
)
"""Checks of the sweep: the baseline again with other random streams, which should not differ, and noise with the
norm of the embeddings, which should hurt."""

_SIZES = ("alpha", "snr")
_GRID_FIELDS = (*_SIZES, *NOISE_DETAILS)
_ARMS_FIX = "Use arms: [{alpha: 0}, {alpha: 5}]."
_GRID_FIX = "Use grid: {alpha: [0, 5, 10], noise: [uniform, gaussian]}."

Arm = dict[str, Any]
Size = tuple[str, float]
"""Noise size of an arm: the field `alpha` or `snr`, and the number."""
Prefix = Callable[..., str]
"""Returns the start of a message, which says where a field is, from the names and indices that lead to it."""


def arms_of(
    written: Mapping[str, Any], options: Mapping[str, Any], problems: Problems, prefix: Prefix = lambda *_location: ""
) -> list[Arm]:
    """Return the arms with their names, from the fields of an experiment and the options that define arms.

    Options override the experiment. `--alphas` and `--snr` replace its noise sizes. `--noises` combines each noise size
    with each distribution. Other fields that a grid varies keep their values. Listed arms are replaced, so those with a
    recipe of their own are a problem.

    Args:
        written: fields of the experiment.
        options: options that define arms.
        problems: receives the problems of `arms` and `grid`. The fields that have one are left out.
        prefix: returns the start of a message about a field of the experiment.
    """
    listed, grid = _listed(written, prefix, problems), _as_grid(written.get("grid"), prefix, problems)
    defaults = {**written, **options}
    if replacing := [f"--{name}" for name in _NOISE_OPTIONS if options.get(name)]:
        problems.add(_lost_recipes(listed, replacing[0], prefix))
        details = {**_details(grid), **({"noise": options["noises"]} if options.get("noises") else {})}
        sizes = _sizes_of_options(options) or _sizes_of_arms(listed) + _sizes(grid) or _default_sizes()
        if options.get("noises") and not any(size for _, size in sizes):
            what = "--noises has no effect, because no arm has noise."
            problems.add([Problem(what, "Add a noise size other than 0 to --alphas, or remove --noises.")])
        arms = _added([], _expanded(sizes, details, defaults))
    elif grid:
        arms = _added(listed, _expanded(_sizes(grid) or _default_sizes(), _details(grid), defaults))
    else:
        arms = listed or [dict([size]) for size in _default_sizes()]
    return [_named(arm) for arm in (_added(arms, CONTROL_ARMS) if options.get("controls") else arms)]


def section_of(values: Mapping[str, Any], name: str, prefix: str = "") -> dict[str, Any]:
    """Return a section of an experiment or of an arm; a missing section is empty.

    Args:
        values: fields of the experiment or of the arm.
        name: name of the section.
        prefix: start of a message, which says where the section is.

    Raises:
        UsageError: the section is not a mapping.
    """
    if (section := values.get(name)) is None:
        return {}
    if not isinstance(section, dict):
        example = {"train": "epochs: 3", "evaluation": "max_new_tokens: 96", "analysis": "looks: [5, 8, 12, 20]"}[name]
        what = f"{prefix}{name} must be a mapping of fields{given(section)}."
        raise UsageError(Problem(what, f"Use {name}: {{{example}}}."))
    return section


def _sizes_of_options(options: Mapping[str, Any]) -> list[Size]:
    alphas, ratios = options.get("alphas") or [], options.get("snr") or []
    return [*(("alpha", alpha) for alpha in sorted(alphas)), *(("snr", snr) for snr in sorted(ratios, reverse=True))]


def _sizes_of_arms(arms: Iterable[Arm]) -> list[Size]:
    sizes = (("snr", arm["snr"]) if arm.get("snr") else ("alpha", arm.get("alpha") or 0.0) for arm in arms)
    return list(dict.fromkeys(sizes))


def _sizes(grid: Mapping[str, list[Any]]) -> list[Size]:
    return [(field, float(value)) for field in _SIZES for value in grid.get(field, [])]


def _default_sizes() -> list[Size]:
    return [("alpha", alpha) for alpha in DEFAULT_ALPHAS]


def _details(grid: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {field: values for field, values in grid.items() if field not in _SIZES}


def _listed(written: Mapping[str, Any], prefix: Prefix, problems: Problems) -> list[Arm]:
    """Return the listed arms, after a check of the fields that their names contain."""
    if (arms := written.get("arms")) is None:
        return []
    if arms == []:
        problems.add([Problem(f"{prefix('arms')}arms has no arm.", f"{_ARMS_FIX.removesuffix('.')}, or remove it.")])
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        problems.add([Problem(f"{prefix('arms')}arms must be a list of mappings{given(arms)}.", _ARMS_FIX)])
        return []
    return [_checked(index, arm, prefix, problems) for index, arm in enumerate(arms)]


def _checked(index: int, arm: Arm, prefix: Prefix, problems: Problems) -> Arm:
    """Return a listed arm, without the fields that have a problem."""
    label, wrong = arm_label(index, arm), set()
    for field in _SIZES:
        value = arm.get(field)  # a resolved experiment writes null for fields that an arm does not override
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            what = f"{prefix('arms', index, field)}{label}: {field} must be a number{given(value)}."
            problems.add([Problem(what, f"Use {field}: {'5' if field == 'alpha' else '10'}.")])
            wrong.add(field)
    if isinstance(name := arm.get("name"), str) and not name.strip():
        what = f"{prefix('arms', index, 'name')}{label}: name is empty."
        fix = "Give the arm a name, or remove the field name: the arm is then named after its overrides."
        problems.add([Problem(what, fix)])
        wrong.add("name")
    if problems.attempt(partial(section_of, arm, "train", f"{prefix('arms', index, 'train')}{label}: ")) is None:
        wrong.add("train")
    if not wrong:
        return arm
    valid = {field: value for field, value in arm.items() if field not in wrong}
    return {**valid, "name": valid.get("name") or label}  # a name of the other fields could be that of another arm


def _lost_recipes(listed: Iterable[Arm], option: str, prefix: Prefix) -> Iterator[Problem]:
    """Yield a problem for each listed arm with a recipe of its own, which an option would replace by a noise size."""
    for index, arm in enumerate(listed):
        if arm.get("train"):
            subject = f"{prefix('arms', index, 'train')}{arm_label(index, arm)}"
            what = f"{subject} has train settings, which {option} removes."
            yield Problem(what, f"Change the arms in the experiment, and remove {option}.")


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


def _as_grid(grid: Any, prefix: Prefix, problems: Problems) -> dict[str, list[Any]]:
    """Return the grid with a list of values for each field, without the fields that have a problem."""
    if grid is None:
        return {}
    if not isinstance(grid, dict):
        problems.add([Problem(f"{prefix('grid')}grid must be a mapping from fields to values.", _GRID_FIX)])
        return {}
    valid = {}
    for field, written in grid.items():
        values = written if isinstance(written, list) else [written]
        if found := list(_grid_problems(field, values, prefix("grid", field))):
            problems.add(found)
        else:
            valid[field] = values
    return valid


def _grid_problems(field: str, values: list[Any], prefix: str) -> Iterator[Problem]:
    if field not in _GRID_FIELDS:
        fix = did_you_mean(str(field), _GRID_FIELDS) or f"Use {alternatives(_GRID_FIELDS)}, or arms for other fields."
        yield Problem(f"{prefix}a grid cannot vary {field!r}.", fix)
        return
    if not values:
        yield Problem(f"{prefix}grid: {field} has no values.", _GRID_FIX)
    for value in values:
        if field not in _SIZES:
            choices = choices_of(field)
            if choices and value not in choices:  # the spec checks a field without choices
                what = f"{prefix}grid: {field} must be {alternatives(choices)}{given(value)}."
                yield Problem(what, did_you_mean(str(value), choices) or f"Use {field}: [{', '.join(choices)}].")
        elif not (is_alpha(value) if field == "alpha" else is_size(value)):
            yield Problem(f"{prefix}grid: {field} {alpha_requirement(value)}{given(value)}.", _GRID_FIX)
    for value in {repr(value): value for value in values if values.count(value) > 1}.values():
        yield Problem(f"{prefix}grid: {field} {value!r} appears twice.", "Remove one of the two.")


def _named(arm: Arm) -> Arm:
    """Return an arm with its name."""
    whole = {**arm, "train": section_of(arm, "train")}
    return {**whole, "name": arm.get("name") or arm_name(whole)}


def _added(arms: list[Arm], more: Iterable[Arm]) -> list[Arm]:
    """Return the arms, and those of `more` that are not among them."""
    whole = list(arms)
    for arm in more:
        if arm not in whole:
            whole.append(arm)
    return whole
