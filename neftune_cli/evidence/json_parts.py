"""Parts of JSON files that other tools write: checked for their kind, and written in one form to be compared."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from neftune_cli.formatting import listed_at_most

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
_MOST_FAULTS = 3
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""Addresses of functions, which differ in each process."""
_MOST_CHARACTERS = 80


def check_kinds(values: Any, kinds: Mapping[str, type]) -> None:
    """Check the kinds of the parts of a file. A part may be missing or null.

    Args:
        values: content of the file.
        kinds: path of keys to the kind of the part, for example `results.scores`. `*` is any key or place in a list.
            A part comes after the part that contains it.

    Raises:
        ValueError: parts are of another kind.
    """
    faults: dict[str, str] = {}
    for path, kind in kinds.items():
        for where, part in _parts(values, path.split(".")):
            is_fault = part is not None and not isinstance(part, kind)
            if is_fault and not any(where.startswith(f"{outer}.") for outer in faults):
                faults[where] = f"{where} is not {_KINDS[kind]}"
    if faults:
        raise ValueError(listed_at_most(list(faults.values()), _MOST_FAULTS))


def _parts(values: Any, path: list[str], where: str = "") -> Iterator[tuple[str, Any]]:
    if not path:
        yield where, values
        return
    entries = values if isinstance(values, dict) else dict(enumerate(values)) if isinstance(values, list) else {}
    for key in entries if path[0] == "*" else [key for key in path[:1] if key in entries]:
        yield from _parts(entries[key], path[1:], f"{where}.{key}" if where else str(key))


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, empty if the part is missing or of another kind."""
    return value if isinstance(value, dict) else {}


def mappings(values: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list, empty if the part is missing or of another kind."""
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def number(value: Any) -> float | None:
    """Return a number or a truth value as a number; None for other values. Integers can exceed the range of floats."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def canonical(value: Any) -> str:
    """Return a value as text that is the same for the same content."""
    return _ADDRESS.sub("", json.dumps(value, sort_keys=True))


def digest(value: Any) -> str:
    """Return a hash of a value."""
    return sha256(canonical(value).encode()).hexdigest()


def comparable(value: Any) -> Any:
    """Return a setting for comparisons and messages: lists and objects as text, and a hash of a long value."""
    shown = canonical(value) if isinstance(value, list | dict) else value
    return digest(value) if len(str(shown)) > _MOST_CHARACTERS else shown
