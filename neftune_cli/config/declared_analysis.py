"""Declared analysis of a sweep: its planned looks and its primary arm, from options and an experiment."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neftune_cli.config.arms import arms_named
from neftune_cli.config.spec import DEFAULT_LOOKS, MIN_SEEDS
from neftune_cli.config.values import MOST_SEEDS, are_increasing
from neftune_cli.errors import Problem, Problems, alternatives
from neftune_cli.formatting import counted

LOOK_OPTIONS = ("until_decided", "looks", "max_seeds")
"""Options that define the planned looks."""
_FIX = "Use for example --looks 5,8,12,20."


def planned_looks(options: Mapping[str, Any], written: Any, problems: Problems) -> list[int]:
    """Return the numbers of seeds at the planned looks; none if the number of seeds is fixed.

    Args:
        options: given options; those of `LOOK_OPTIONS` are read.
        written: `analysis.looks` of the experiment.
        problems: receives the problems of the options.

    """
    given, largest = options.get("looks"), options.get("max_seeds")
    wanted, in_file = options.get("until_decided"), list(written) if isinstance(written, list | tuple) else []
    if wanted is False or not (wanted or in_file):
        problems.add(_without_option(given, largest))
        return []
    if not given and not _are_looks(in_file):
        return in_file  # the spec reports the problem, with its line
    looks = list(given or in_file or DEFAULT_LOOKS)
    if found := list(_problems(looks, largest, is_default=not given)):
        problems.add(found)
        return list(DEFAULT_LOOKS)
    if largest is None:
        return looks
    return [*(seeds for seeds in looks if seeds < largest), largest]


def seeds_of_looks(looks: Sequence[int], seeds: Any, options: Mapping[str, Any], problems: Problems) -> Any:
    """Return the seeds for the planned looks: the given list if it has one for each seed of the last look.

    Args:
        looks: numbers of seeds at the looks.
        seeds: given by an option or by the experiment, or None.
        options: given options. Seeds of an option that do not fit are a problem; those of an experiment are replaced.
        problems: receives the problem.

    """
    if not _are_looks(looks):
        return seeds  # the spec reports the problem of the looks
    if isinstance(seeds, Sequence) and len(seeds) == looks[-1]:
        return seeds
    if "seeds" in options:
        count = len(options["seeds"])
        what = f"--seeds gives {counted(count, 'seed')}, but the planned looks need {looks[-1]}."
        problems.add([Problem(what, f"Use --max-seeds {count}, or --fixed-seeds for a fixed number of seeds.")])
    return list(range(looks[-1]))


def primary_arm(wanted: str, arms: Sequence[Mapping[str, Any]], problems: Problems) -> str | None:
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
    found = f"{len(matches)} arms have this alpha" if matches else "there is no such arm beside the baseline"
    fix = f"Use {alternatives(names)}." if names else "Add an arm with --alphas."
    problems.add([Problem(f"--primary-arm {wanted}: {found}.", fix)])
    return None


def _without_option(given: Sequence[int] | None, largest: int | None) -> Iterator[Problem]:
    for name, value in (("--looks", given), ("--max-seeds", largest)):
        if value is not None:
            yield Problem(f"{name} has no effect without --until-decided.", f"Add --until-decided, or remove {name}.")


def _are_looks(values: Sequence[Any]) -> bool:
    are_numbers = all(isinstance(one, int) and MIN_SEEDS <= one <= MOST_SEEDS for one in values)
    return are_numbers and are_increasing(values)


def _problems(looks: Sequence[int], largest: int | None, *, is_default: bool) -> Iterator[Problem]:
    shown = ",".join(map(str, looks))
    if not are_increasing(looks):
        yield Problem(f"--looks: the numbers of seeds must increase; {shown} was given.", _FIX)
    if few := [seeds for seeds in looks if seeds < MIN_SEEDS]:
        what = f"--looks: a look needs at least {MIN_SEEDS} seeds; {few[0]} was given."
        yield Problem(what, _FIX)
    if many := [seeds for seeds in looks if seeds > MOST_SEEDS]:
        yield Problem(f"--looks: a look has at most {MOST_SEEDS:,} seeds; {many[0]} was given.", _FIX)
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
