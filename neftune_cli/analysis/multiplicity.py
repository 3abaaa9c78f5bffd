"""P-values of several tests, adjusted such that the family-wise error rate is controlled (Hommel 1988)."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")


def hommel(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values of Hommel (1988) in the given order.

    This is the closed test with Simes' test of each intersection: a hypothesis is rejected if every set of hypotheses
    that contains it is rejected. Of all sets of one size, the set with the largest other p-values is the last one to be
    rejected. Adjusted p-values are never larger than those of Holm (1979). Simes' test needs tests that are independent
    or positively dependent, as those of arms with a common baseline usually are (docs/statistics.md has simulations).

    >>> hommel([0.01, 0.02, 0.04])
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    ascending = np.asarray(p_values, dtype=np.float64)[order]
    adjusted = ascending.copy()
    for size in range(2, len(ascending) + 1):  # sets of a hypothesis and the `size - 1` largest others
        largest = ascending[-size:]
        of_others = float((size * largest[1:] / np.arange(2, size + 1)).min())
        of_sets = np.minimum(size * ascending, of_others)
        of_sets[-size:] = of_sets[-size]
        np.maximum(adjusted, of_sets, out=adjusted)
    in_given_order = np.empty_like(adjusted)
    in_given_order[order] = adjusted
    return [float(one) for one in in_given_order]


def hommel_by_key(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return Hommel-adjusted p-values by key."""
    return dict(zip(p_values, hommel(list(p_values.values())), strict=True))


def simes(p_values: Sequence[float], tests: int | None = None) -> float:
    """Return the p-value of Simes (1986) for the null hypothesis that all hypotheses are true.

    Args:
        p_values: at least one.
        tests: number of tests, those without a p-value included; their number by default.
    """
    number = len(p_values) if tests is None else tests
    return min(number * p / rank for rank, p in enumerate(sorted(p_values), start=1))
