"""Identity: canonical JSON of everything that can change a trial's numbers, and the id hashed from it."""

import hashlib
import json
import math
from typing import Any

from neftune_cli.config.spec import TrialSpec

ID_DIGITS = 12

METHOD_VERSION = 3
"""Raised when a change to this package changes the numbers of a trial, so that old records aren't taken for new."""


def trial_identity(
    spec: TrialSpec, *, model_fingerprint: str, data_fingerprint: str, environment: dict[str, str]
) -> dict[str, Any]:
    """Return everything that can change the numbers of one trial, and nothing else.

    Names of models, files and arms aren't in it: their content is. Without noise its shape doesn't matter.
    """
    return {
        **_shared_identity(spec, model_fingerprint, data_fingerprint, environment),
        "noise": spec.noise.model_dump() if spec.noise.alpha > 0 else None,
        "train": spec.train.model_dump(),
        "seed": spec.seed,
    }


def base_identity(
    spec: TrialSpec, *, model_fingerprint: str, data_fingerprint: str, environment: dict[str, str]
) -> dict[str, Any]:
    """Return the same for the model before fine-tuning, which knows no noise, recipe or seed."""
    shared = _shared_identity(spec, model_fingerprint, data_fingerprint, environment)
    return {**shared, "base": True}


def _shared_identity(spec: TrialSpec, model: str, data: str, environment: dict[str, str]) -> dict[str, Any]:
    return {
        "method_version": METHOD_VERSION,
        "model": model,
        "data": data,
        "evaluation": spec.evaluation.model_dump(),
        "environment": environment,
    }


def trial_id(identity: dict[str, Any]) -> str:
    """Return the id: 12 hex digits of the SHA-256 of the canonical JSON.

    Raises:
        TypeError: a value has no stable identity in JSON.
        ValueError: a number is NaN or infinite.
    """
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:ID_DIGITS]


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, whole floats as integers."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _canonical(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} has no stable identity: {value!r}")
