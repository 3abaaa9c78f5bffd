"""Parameters of a run: everything that identifies a trial, and the circumstances of its sweep, by dotted name."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Parameters = Mapping[str, str | int | float]


def trial_parameters(
    arm: str, alpha: float | None, seed: int | None, identity: Mapping[str, Any], manifest: Mapping[str, Any]
) -> Parameters:
    """Return the arm, the seed, everything that identifies the trial, and the circumstances of its sweep."""
    return {**dict(_flat({"arm": arm, "alpha": alpha, "seed": seed, **identity})), **circumstances(manifest)}


def circumstances(manifest: Mapping[str, Any]) -> Parameters:
    """Return model, data, versions, hardware and commit of a sweep."""
    kept = ("model", "data", "versions", "hardware", "git")
    return dict(_flat({name: manifest[name] for name in kept if name in manifest}))


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers."""
    return {name: value for name, value in values.items() if _is_number(value) and math.isfinite(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, int | float | str) else str(value)
