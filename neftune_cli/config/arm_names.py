"""Names of arms and trials: in specs, in sentences, in displays and in paths."""

import re
from collections.abc import Mapping
from typing import Any

from neftune_cli.config.spec import NOISE_DETAILS


def arm_name(arm: Mapping[str, Any]) -> str:
    """Return the default name of an arm: its overrides, alpha first.

    >>> arm_name({"alpha": 5.0, "noise": "gaussian"})
    'alpha=5,noise=gaussian'
    """
    size = f"snr={arm['snr']:g}" if arm.get("snr") else f"alpha={arm.get('alpha') or 0:g}"
    details = [f"{field}={arm[field]}" for field in NOISE_DETAILS if arm.get(field) is not None]
    recipe = [f"{field}={value}" for field, value in sorted((arm.get("train") or {}).items())]
    repeat = [f"repeat={arm['repeat']}"] if arm.get("repeat") else []
    return ",".join([size, *details, *recipe, *repeat])


def spoken_name(arm: str) -> str:
    """Return the name of an arm for a sentence: `alpha=5` becomes `alpha 5`, any other name stays as it is.

    >>> spoken_name("alpha=5"), spoken_name("alpha=5,noise=gaussian")
    ('alpha 5', 'alpha=5,noise=gaussian')
    """
    return arm.replace("=", " ") if re.fullmatch(r"alpha=[\d.e+-]+", arm) else arm


def arms_named(wanted: str, alphas: Mapping[str, float | None]) -> list[str]:
    """Return the names of the arms that a name or an alpha means: one with this name, or those with this alpha.

    >>> arms_named("5.0", {"alpha=0": 0.0, "alpha=5": 5.0})
    ['alpha=5']
    """
    for name in (wanted, f"alpha={wanted}"):
        if name in alphas:
            return [name]
    try:
        alpha = float(wanted)
    except ValueError:
        return []
    return [name for name, one in alphas.items() if one == alpha]


def trial_label(arm: str, seed: int | None) -> str:
    """Return the name of a trial or run for displays and messages: its arm, and its seed unless it has none.

    >>> trial_label("alpha=5", 0), trial_label("base", None)
    ('alpha=5, seed 0', 'base')
    """
    return arm if seed is None else f"{arm}, seed {seed}"


def trial_key(arm: str, seed: int | None) -> str:
    """Return the name of a trial for programs: its arm, and its seed unless it has none.

    >>> trial_key("alpha=5", 0), trial_key("base", None)
    ('alpha=5,seed=0', 'base')
    """
    return arm if seed is None else f"{arm},seed={seed}"
