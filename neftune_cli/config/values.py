"""The values of flags: lists of alphas, ratios, shapes and seeds, and `key=value` pairs, each problem with its fix."""

import math
from collections.abc import Iterator
from typing import Any, get_args

import yaml

from neftune_cli.config.spec import NoiseShape
from neftune_cli.errors import Problem, UsageError


def parse_size(alpha: str | None, snr: str | None) -> tuple[str, float]:
    """Return the noise of a single training as `alphas` or `snr`, and the number; alpha 5 if neither is given.

    Raises:
        UsageError: both are given, or one is no size of noise, or several.
    """
    if alpha is not None and snr is not None:
        raise UsageError(Problem("--alpha and --snr both say how large the noise is.", "Give one of them."))
    sizes = parse_alphas(alpha or "5", "--alpha") if snr is None else parse_snr(snr)
    if len(sizes) > 1:
        what = f"{'--alpha' if snr is None else '--snr'}: a training has one noise, not {len(sizes)}."
        raise UsageError(Problem(what, "Try several with `neftune sweep`."))
    return "alphas" if snr is None else "snr", sizes[0]


def parse_alphas(text: str, option: str = "--alphas") -> list[float]:
    """Read `0,5,10`; the option is named in what is wrong.

    Raises:
        UsageError: an alpha is not a number, negative, not finite or repeated; every problem is named.
    """
    parts = [part.strip() for part in text.split(",")]
    problems = list(_alpha_problems(parts, option))
    if problems:
        raise UsageError(*problems)
    return [float(part) for part in parts]


def _alpha_problems(parts: list[str], option: str) -> Iterator[Problem]:
    seen: set[float] = set()
    for part in parts:
        alpha = _float_or_none(part)
        if alpha is None:
            yield Problem(f"{option}: {part!r} is not a number.", "Give numbers with commas between, like 0,5,10,15.")
            continue
        if not math.isfinite(alpha) or alpha < 0:
            yield Problem(f"{option}: {part} is not a size of noise.", "An alpha is 0 (no noise) or more, and finite.")
        elif alpha in seen:
            yield Problem(f"{option}: {part} is there twice.", "Give each alpha once; repeat trainings with --seeds.")
        seen.add(alpha)


def parse_noises(text: str) -> list[str]:
    """Read `uniform,gaussian`.

    Raises:
        UsageError: a shape is unknown or repeated; every problem is named.
    """
    names = [part.strip() for part in text.split(",")]
    known = get_args(NoiseShape)
    problems = [
        Problem(f"--noises: {name!r} is no shape of noise.", f"Give some of {', '.join(known)}, with commas between.")
        for name in names
        if name not in known
    ]
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems += [Problem(f"--noises: {name} is there twice.", "Give each shape once.") for name in repeated]
    if problems:
        raise UsageError(*problems)
    return names


def parse_snr(text: str) -> list[float]:
    """Read `20,10`.

    Raises:
        UsageError: a ratio is not a number, below 1, not finite or repeated; every problem is named.
    """
    ratios: list[float] = []
    problems = []
    for part in (part.strip() for part in text.split(",")):
        ratio = _float_or_none(part)
        if ratio is None or not math.isfinite(ratio) or ratio <= 0:
            problems.append(Problem(f"--snr: {part!r} is not a ratio.", _SNR_FIX))
        elif ratio < 1:
            what = f"--snr: {part} makes the noise {1 / ratio:.3g} times as large as the embeddings."
            problems.append(Problem(what, f"For noise of {ratio:.3g} times their norm give {1 / ratio:.3g}."))
        elif ratio in ratios:
            problems.append(Problem(f"--snr: {part} is there twice.", "Give each ratio once."))
        else:
            ratios.append(ratio)
    if problems:
        raise UsageError(*problems)
    return ratios


_SNR_FIX = "Give the norm of the embeddings over that of the noise: 10 makes the noise a tenth of them."


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
    number = _float_or_none(value)
    return value if number is None else number


def _float_or_none(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
