"""Correction of p-values for the number of arms that are compared with one baseline."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values in the given order (Holm 1979).

    The chance of any false claim among them is at most the level, however the comparisons depend on each other; arms
    that share a baseline do.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def holm_by_key(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return the same by key."""
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))
