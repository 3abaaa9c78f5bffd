"""The values of flags: lists of alphas and seeds, and `key=value` pairs, each problem with its fix."""

import math
from collections.abc import Iterator
from typing import Any

import yaml

from neftune_cli.errors import Problem, UsageError


def parse_alphas(text: str) -> list[float]:
    """Read `0,5,10`.

    Raises:
        UsageError: an alpha is not a number, negative, not finite or repeated; every problem is named.
    """
    parts = [part.strip() for part in text.split(",")]
    problems = list(_alpha_problems(parts))
    if problems:
        raise UsageError(*problems)
    return [float(part) for part in parts]


def _alpha_problems(parts: list[str]) -> Iterator[Problem]:
    seen: set[float] = set()
    for part in parts:
        try:
            alpha = float(part)
        except ValueError:
            yield Problem(f"--alphas: {part!r} is not a number.", "Give numbers with commas between, like 0,5,10,15.")
            continue
        if not math.isfinite(alpha) or alpha < 0:
            yield Problem(f"--alphas: {part} is not a size of noise.", "An alpha is 0 (no noise) or more, and finite.")
        elif alpha in seen:
            yield Problem(f"--alphas: {part} is there twice.", "Give each alpha once; repeat trainings with --seeds.")
        seen.add(alpha)


def parse_seeds(text: str) -> list[int]:
    """Read `3` as the first three seeds, `0,1,7` (or `7,`) as those seeds.

    Raises:
        UsageError: it is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts[:1] + [part for part in parts[1:] if part]):
        raise UsageError(Problem(f"--seeds: {text!r} is not understood.", _SEEDS_FIX))
    if len(parts) == 1:
        if int(text) == 0:
            raise UsageError(Problem("--seeds: 0 seeds train nothing.", _SEEDS_FIX))
        return list(range(int(text)))
    seeds = [int(part) for part in parts if part]
    if len(set(seeds)) < len(seeds):
        raise UsageError(Problem(f"--seeds: {text} names a seed twice.", "Give each seed once."))
    return seeds


_SEEDS_FIX = "Say how many, like 3, or which, like 0,1,7 (a single one with a comma behind it: 7,)."


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Read `key=value` pairs; a value is read as YAML, so that `true`, `0.1` and `[a, b]` mean what they seem.

    Raises:
        UsageError: a pair has no `=`, or its value isn't YAML; every problem is named.
    """
    settings: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            problems.append(Problem(f"--set {pair}: there is no value.", "Write --set key=value."))
            continue
        try:
            settings[key.strip()] = _number_or(yaml.safe_load(value))
        except yaml.YAMLError:
            problems.append(Problem(f"--set {pair}: the value can't be read.", "Put quotes round it."))
    if problems:
        raise UsageError(*problems)
    return settings


def _number_or(value: Any) -> Any:
    """Read `1e-4`, which YAML takes for a text, as the number it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
