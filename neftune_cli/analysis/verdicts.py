"""Verdicts on the differences of several arms to one baseline, from Holm-adjusted tests, or why one is missing."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.power import minimum_detectable_effect, required_seeds
from neftune_cli.analysis.results import Assessment, Estimate, Verdict
from neftune_cli.metrics import Metric

NO_VARIATION = "the differences do not vary, so their standard error is unknown"
VALUE_NOT_FINITE = "a value is not finite"


def assess(
    comparisons: Mapping[str, PairedComparison], metric: Metric, margin: float | Mapping[str, float]
) -> dict[str, Assessment]:
    """Return the assessment of each arm on one metric.

    P-values are Holm-adjusted over the arms. Tests for difference and tests for equivalence are two families, adjusted
    separately, each at the level 1 - confidence. A difference that is shown to be within the margin is equivalent, even
    if it is also shown to be other than zero.

    Args:
        comparisons: arm to its comparison with the baseline.
        metric: determines the direction of improvement.
        margin: equivalence margin in the metric's unit, for all arms or by arm.
    """
    margins = margin if isinstance(margin, Mapping) else dict.fromkeys(comparisons, margin)
    p_adjusted = holm_by_key({arm: one.p_value for arm, one in comparisons.items() if _is_testable(one)})
    p_equivalent = holm_by_key({arm: equivalence_p_value(comparisons[arm], margins[arm]) for arm in p_adjusted})
    tested = max(1, len(p_adjusted))
    return {
        arm: _assessment(
            one, metric, margins[arm], p_adjusted.get(arm, math.nan), p_equivalent.get(arm, math.nan), tested
        )
        for arm, one in comparisons.items()
    }


def _is_testable(comparison: PairedComparison) -> bool:
    return comparison.about == "method" and math.isfinite(comparison.p_value)


def equivalence_p_value(comparison: PairedComparison, margin: float) -> float:
    """Return the p-value of two one-sided tests for equivalence within the margin (Schuirmann 1987)."""
    return max(comparison.mean.p_above(-margin), comparison.mean.p_below(margin))


def _assessment(
    comparison: PairedComparison, metric: Metric, margin: float, p_adjusted: float, p_equivalent: float, arms: int
) -> Assessment:
    level = 1 - comparison.confidence
    verdict = _verdict(comparison, metric, different=p_adjusted <= level, equivalent=p_equivalent <= level)
    known = math.isfinite(comparison.p_value)
    undecided = verdict == "inconclusive"
    return Assessment(
        comparison=comparison,
        p_adjusted=p_adjusted,
        p_equivalent=p_equivalent,
        margin=margin,
        verdict=verdict,
        detectable=minimum_detectable_effect(comparison.mean, level=level / arms) if known else math.nan,
        seeds_needed=required_seeds(comparison.mean, margin=margin, level=level / arms) if undecided else None,
    )


def _verdict(comparison: PairedComparison, metric: Metric, *, different: bool, equivalent: bool) -> Verdict | None:
    if not _is_testable(comparison):
        return None
    if equivalent:
        return "equivalent"
    if not different:
        return "inconclusive"
    direction: Verdict = "lower" if comparison.difference < 0 else "higher"
    if metric.goal is None:
        return direction
    return "better" if direction == metric.goal else "worse"


def missing_verdict_reason(estimate: Estimate | None, baseline: str) -> str:
    """Return the reason why a treated arm has no verdict on a metric; empty if it has one.

    Args:
        estimate: of the treated arm, or None if the metric is not defined for it.
        baseline: name of the baseline for the text.
    """
    if estimate is None:
        return "the metric is not defined for the arm"
    if estimate.difference is None:
        return f"no seed is shared with {baseline}"
    if estimate.assessment is not None:
        return untested_reason(estimate.assessment)
    return f"no item is shared with {baseline}" if math.isfinite(estimate.difference.mean) else VALUE_NOT_FINITE


def untested_reason(assessment: Assessment) -> str:
    """Return the reason why an assessed difference has no verdict; empty if it has one."""
    if assessment.verdict is not None:
        return ""
    return "fewer than three paired seeds" if assessment.comparison.about == "checkpoints" else NO_VARIATION


Key = TypeVar("Key")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return step-down adjusted p-values (Holm 1979) in the given order.

    They control the family-wise error rate under any dependence between the tests. Arms that share a baseline are
    dependent.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_by_key(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return Holm-adjusted p-values by key."""
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))
