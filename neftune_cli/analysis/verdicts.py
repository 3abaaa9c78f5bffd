"""From paired comparisons of several arms with one baseline to verdicts that hold for all of them together."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.power import detectable_difference, seeds_to_settle
from neftune_cli.analysis.results import Assessment, Verdict
from neftune_cli.metrics import Metric


def assess(
    comparisons: Mapping[str, PairedComparison], metric: Metric, margin: float | Mapping[str, float]
) -> dict[str, Assessment]:
    """Return the verdict on each arm of one metric; arms share a baseline, so p-values are corrected for their number.

    A difference that is surely smaller than the margin is equivalent, even where it is surely not zero. Tests are made
    at 1 - confidence; differences and equivalences are two families, each corrected for itself.

    Args:
        comparisons: of each arm with the baseline.
        metric: says which way is good.
        margin: differences up to it are taken for none, in the metric's unit; one for all arms, or one for each.
    """
    margins = margin if isinstance(margin, Mapping) else dict.fromkeys(comparisons, margin)
    p_adjusted = holm_by_key({arm: one.p_value for arm, one in comparisons.items() if _can_be_judged(one)})
    p_equivalent = holm_by_key({arm: equivalence_p_value(comparisons[arm], margins[arm]) for arm in p_adjusted})
    tested = max(1, len(p_adjusted))
    return {
        arm: _assessment(
            one, metric, margins[arm], p_adjusted.get(arm, math.nan), p_equivalent.get(arm, math.nan), tested
        )
        for arm, one in comparisons.items()
    }


def _can_be_judged(comparison: PairedComparison) -> bool:
    return comparison.about == "method" and math.isfinite(comparison.p_value)


def equivalence_p_value(comparison: PairedComparison, margin: float) -> float:
    """Return the p-value of a difference beyond the margin, from two one-sided tests (Schuirmann 1987)."""
    return max(comparison.mean.p_above(-margin), comparison.mean.p_below(margin))


def _assessment(
    comparison: PairedComparison, metric: Metric, margin: float, p_adjusted: float, p_equivalent: float, arms: int
) -> Assessment:
    level = 1 - comparison.confidence
    word = _word(comparison, metric, different=p_adjusted <= level, equivalent=p_equivalent <= level)
    known = math.isfinite(comparison.p_value)
    open_ = word == "inconclusive"
    return Assessment(
        comparison=comparison,
        p_adjusted=p_adjusted,
        p_equivalent=p_equivalent,
        margin=margin,
        verdict=word,
        detectable=detectable_difference(comparison.mean, level=level / arms) if known else math.nan,
        seeds_needed=seeds_to_settle(comparison.mean, margin=margin, level=level / arms) if open_ else None,
    )


def _word(comparison: PairedComparison, metric: Metric, *, different: bool, equivalent: bool) -> Verdict | None:
    if not _can_be_judged(comparison):
        return None
    if equivalent:
        return "equivalent"
    if not different:
        return "inconclusive"
    direction: Verdict = "lower" if comparison.difference < 0 else "higher"
    if metric.goal is None:
        return direction
    return "better" if direction == metric.goal else "worse"


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
