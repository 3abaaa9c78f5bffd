"""Verdicts on the differences of several arms from one baseline, from adjusted tests, or why one is missing."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from neftune_cli.analysis.multiplicity import hommel_by_key
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import Assessment, Estimate, Interval, Verdict
from neftune_cli.analysis.sequential import FIXED, SequentialTest
from neftune_cli.metrics import Metric

NO_VARIATION = "the differences do not vary, so their standard error is unknown"
DOMINATING_CLUSTER = "one cluster of items has nearly all of the weight, so the standard error is unknown"
VALUE_NOT_FINITE = "a value is not finite"
BEFORE_FIRST_LOOK = "the first planned look has not been taken"

ComparisonsByLook = Sequence[PairedComparison | None]
"""Comparisons of one arm at the first looks, each with all seeds up to then; None for a look without new seeds."""


def assess(
    comparisons: Mapping[str, PairedComparison | ComparisonsByLook],
    metric: Metric,
    margin: float,
    *,
    test: SequentialTest = FIXED,
    gates: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Assessment]:
    """Return the assessment of each arm on one metric.

    P-values are adjusted over the arms (Hommel). Tests for difference and tests for equivalence are two families,
    adjusted separately, each at the level 1 - confidence. A difference that is shown to be within the margin is
    equivalent, even if it is also shown to be other than zero.

    Args:
        comparisons: arm to its comparison with the baseline, or to one comparison for each look of `test`.
        metric: determines the direction of improvement.
        margin: equivalence margin in the metric's unit.
        test: the planned looks.
        gates: arm to the p-value of the test whether any arm differs, for the arms and contrasts that are part of that
            test. It is a lower bound of their p-values for difference.
    """
    by_look = {arm: (one,) if isinstance(one, PairedComparison) else tuple(one) for arm, one in comparisons.items()}
    tested = {arm: one for arm, one in by_look.items() if any(map(is_testable, one))}
    p_values = hommel_by_key({arm: _p_different(one, test) for arm, one in tested.items()})
    p_adjusted = {arm: max(gates.get(arm, 0.0), p_value) for arm, p_value in p_values.items()}
    p_equivalent = hommel_by_key({arm: _p_equivalent(one, margin, test) for arm, one in tested.items()})
    return {
        arm: _assessment(
            one, metric, margin, test, len(tested), p_adjusted.get(arm, math.nan), p_equivalent.get(arm, math.nan)
        )
        for arm, one in by_look.items()
        if any(one)
    }


def is_testable(comparison: PairedComparison | None) -> bool:
    """Return whether a comparison is about the method and has a p-value."""
    return comparison is not None and comparison.has_enough_seeds and math.isfinite(comparison.p_value)


def equivalence_p_value(comparison: PairedComparison, margin: float) -> float:
    """Return the p-value of two one-sided tests for equivalence within the margin (Schuirmann 1987)."""
    return max(comparison.crossed.p_above(-margin), comparison.crossed.p_below(margin))


def simultaneous_interval(
    comparison: PairedComparison, significance: float, *, tests: int, test: SequentialTest, look: int
) -> Interval:
    """Return the interval of one of several differences at one of several looks (Bonferroni over the differences).

    With the probability 1 - significance all intervals, at all looks, contain their true differences.
    """
    level = test.level(significance / max(1, tests), look)
    return Interval(*comparison.crossed.interval(1 - level))


def _p_different(by_look: ComparisonsByLook, test: SequentialTest) -> float:
    return test.p_value(_at_each_look(by_look, lambda one: one.p_value))


def _tested_difference(by_look: ComparisonsByLook, test: SequentialTest) -> float:
    """Return the difference at the look that determines the sequential p-value, which may not be the last one."""
    decisive = by_look[test.decisive_look(_at_each_look(by_look, lambda one: one.p_value))]
    return decisive.difference if decisive else math.nan


def _p_equivalent(by_look: ComparisonsByLook, margin: float, test: SequentialTest) -> float:
    return test.p_one_sided(_at_each_look(by_look, lambda one: equivalence_p_value(one, margin)))


def _at_each_look(by_look: ComparisonsByLook, p_value: Callable[[PairedComparison], float]) -> list[float]:
    """Return the unadjusted p-value at each look; NaN where nothing was tested."""
    return [p_value(one) if one and is_testable(one) else math.nan for one in by_look]


def _assessment(
    by_look: ComparisonsByLook,
    metric: Metric,
    margin: float,
    test: SequentialTest,
    tests: int,
    p_adjusted: float,
    p_equivalent: float,
) -> Assessment:
    last = max(index for index, one in enumerate(by_look) if one)
    comparison = by_look[last]
    assert comparison is not None
    significance = 1 - comparison.confidence
    difference = _tested_difference(by_look, test)
    verdict = (
        _verdict(difference, metric, different=p_adjusted <= significance, equivalent=p_equivalent <= significance)
        if is_testable(comparison)
        else None
    )
    of_difference = simultaneous_interval(comparison, significance, tests=tests, test=test, look=last)
    of_equivalence = simultaneous_interval(comparison, 2 * significance, tests=tests, test=test, look=last)
    return Assessment(
        paired=comparison,
        p_adjusted=p_adjusted,
        p_equivalent=p_equivalent,
        margin=margin,
        verdict=verdict,
        interval=_agreeing(of_difference, difference, is_different=p_adjusted <= significance),
        equivalence_interval=of_equivalence.clipped(-margin, margin)
        if p_equivalent <= significance
        else of_equivalence,
        looks_taken=last + 1,
    )


def _agreeing(interval: Interval, difference: float, *, is_different: bool) -> Interval:
    """Return the interval, with zero as its end if it disagrees with the test about zero or about the direction.

    Args:
        interval: at the last look.
        difference: at the look that determines the p-value, which may have another sign than that at the last look.
        is_different: whether a difference is shown.
    """
    if not math.isfinite(interval.low):
        return interval
    if is_different:
        return interval.clipped(0.0, math.inf) if difference > 0 else interval.clipped(-math.inf, 0.0)
    return Interval(min(0.0, interval.low), max(0.0, interval.high))


def _verdict(difference: float, metric: Metric, *, different: bool, equivalent: bool) -> Verdict:
    if equivalent:
        return "equivalent"
    if not different:
        return "inconclusive"
    direction: Verdict = "lower" if difference < 0 else "higher"
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
    if not assessment.looks_taken:
        return BEFORE_FIRST_LOOK
    return (
        unknown_error_reason(assessment.paired)
        if assessment.paired.has_enough_seeds
        else "fewer than three paired seeds"
    )


def unknown_error_reason(comparison: PairedComparison) -> str:
    """Return the reason why the standard error of a difference of several items or seeds is unknown."""
    return DOMINATING_CLUSTER if comparison.crossed.has_dominating_cluster else NO_VARIATION
