"""P-values of several tests, adjusted such that the family-wise error rate is controlled (Hommel 1988)."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

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
    return [_adjusted(p_values, index) for index in range(len(p_values))]


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


def _adjusted(p_values: Sequence[float], index: int) -> float:
    largest_others = sorted((*p_values[:index], *p_values[index + 1 :]), reverse=True)
    return max(simes([p_values[index], *largest_others[:size]]) for size in range(len(p_values)))
