"""Canonical JSON: one text for equal values, from which the ids of trials and of remembered measurements are hashed.

If the text changes, the ids of all trials change, and finished trials are not recognized.
"""

import json
import math
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, integers for floats with integer values."""
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
