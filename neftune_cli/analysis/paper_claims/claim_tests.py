"""Tests of claims about one effect, and the sentences on effects and intervals."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.paper_claims.noise_effects import NoiseEffect
from neftune_cli.analysis.results import Status
from neftune_cli.analysis.verdicts import unknown_error_reason
from neftune_cli.formatting import counted, listed, percent
from neftune_cli.metrics import Metric

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class ClaimOutcome:
    """Outcome of the test of a claim."""

    status: Status
    here: str
    """Result of these trials, as sentences."""
    paired: PairedComparison | None = None


_StatusAndReason = tuple[Status, str]


def changes(effect: NoiseEffect, direction: Direction) -> ClaimOutcome:
    """Test the claim that a metric changes in a direction.

    Supported if the whole interval is on the claimed side of zero and the effect is not equivalent to zero. Refuted if
    the interval is on the other side, or if the effect is equivalent to zero.
    """
    return _outcome(effect, _untestable(effect) or _changes(effect, direction))


def stays_equivalent(effect: NoiseEffect) -> ClaimOutcome:
    """Test the claim that a metric does not change, with two one-sided tests at the margin.

    Refuted if the interval excludes zero and the effect is not equivalent to zero.
    """
    return _outcome(effect, _untestable(effect) or _stays_equivalent(effect))


def does_not_rise(effect: NoiseEffect) -> ClaimOutcome:
    """Test the claim that a metric does not rise by more than the margin (non-inferiority).

    Supported if a one-sided test excludes a rise by the margin, at the level of the tests for no change. Refuted if it
    does not, and the whole interval is above the margin.
    """
    return _outcome(effect, _untestable(effect) or _does_not_rise(effect))


def change_text(comparison: PairedComparison, metric: Metric) -> str:
    """Return a difference with its interval, like `+0.0120 nats [+0.0020, +0.0220]`."""
    change = metric.signed(comparison.difference) + metric.unit_suffix
    if not math.isfinite(comparison.ci_low):
        return change
    return f"{change} [{metric.signed(comparison.ci_low)}, {metric.signed(comparison.ci_high)}]"


def sample_text(comparison: PairedComparison, metric: Metric) -> str:
    """Return interval, seeds and items of a comparison, like `95% interval, 5 seeds, 200 held-out examples`."""
    known = math.isfinite(comparison.ci_low)
    parts = [
        f"{percent(comparison.confidence)} interval" if known else "no interval",
        counted(comparison.seeds, "seed"),
    ]
    if comparison.items > 1:
        parts.append(counted(comparison.items, metric.item))
    return ", ".join(parts)


def untestable_sentences(comparisons: Mapping[str, PairedComparison]) -> str:
    """Return sentences on the comparisons, by name, that cannot be tested, with reasons. Empty if all can be tested."""
    reasons: dict[str, list[str]] = {}
    for name, comparison in comparisons.items():
        if reason := _untestable_reason(comparison):
            reasons.setdefault(reason, []).append(name)
    return " ".join(
        f"Inconclusive{'' if len(names) == len(comparisons) else f' for {listed(names)}'}: {reason}."
        for reason, names in reasons.items()
    )


def _outcome(effect: NoiseEffect, decided: _StatusAndReason) -> ClaimOutcome:
    status, reason = decided
    comparison, metric = effect.paired, effect.metric
    change = f"{change_text(comparison, metric)} ({effect.reference}; {sample_text(comparison, metric)})"
    details = f"; {effect.details}" if effect.details else ""
    here = f"{metric.name}, {effect.description}: {change}{details}. {reason}{effect.exclusions}"
    return ClaimOutcome(status, here, comparison)


def _untestable(effect: NoiseEffect) -> _StatusAndReason | None:
    reason = untestable_sentences({effect.description: effect.paired})
    return ("inconclusive", reason) if reason else None


def _untestable_reason(comparison: PairedComparison) -> str:
    if not comparison.has_enough_seeds:
        seeds = counted(comparison.seeds, "seed")
        return f"{seeds}; with fewer than three seeds the numbers describe these trained models, not the method"
    if not math.isfinite(comparison.p_value):
        return unknown_error_reason(comparison)
    return ""


def _changes(effect: NoiseEffect, claimed: Direction) -> _StatusAndReason:
    if effect.is_equivalent:
        return "refuted", _equivalent(effect)
    if direction := _significant_direction(effect.paired):
        return "supported" if direction == claimed else "refuted", _significant(effect, direction)
    return "inconclusive", _inconclusive(effect)


def _stays_equivalent(effect: NoiseEffect) -> _StatusAndReason:
    if effect.is_equivalent:
        return "supported", _equivalent(effect)
    if direction := _significant_direction(effect.paired):
        return "refuted", _significant(effect, direction)
    return "inconclusive", _inconclusive(effect)


def _does_not_rise(effect: NoiseEffect) -> _StatusAndReason:
    direction = _significant_direction(effect.paired)
    margin = effect.metric.amount(effect.margin)
    if effect.is_noninferior:
        if direction == "higher":
            reason = f"Significantly higher, but by less than the margin of {margin} (one-sided test)."
            return "supported", reason
        excluded = f"A rise by the margin of {margin} is excluded (one-sided test)."
        return "supported", "Significantly lower." if direction else excluded
    if effect.paired.ci_low > effect.margin:
        return "refuted", _significant(effect, "higher")
    reason = f"Inconclusive: a rise beyond the margin of {margin} is not excluded."
    return "inconclusive", reason


def _significant_direction(comparison: PairedComparison) -> Direction | None:
    """Return the side of zero that contains the whole interval, or None if the interval contains zero."""
    return "higher" if comparison.ci_low > 0 else "lower" if comparison.ci_high < 0 else None


def _equivalent(effect: NoiseEffect) -> str:
    margin = f"the margin of {effect.metric.amount(effect.margin)} (two one-sided tests)"
    if direction := _significant_direction(effect.paired):
        return f"Significantly {direction}, but by less than {margin}."
    return f"Equivalent within {margin}."


def _significant(effect: NoiseEffect, direction: Direction) -> str:
    margin = effect.metric.amount(effect.margin)
    nearest = min(abs(effect.paired.ci_low), abs(effect.paired.ci_high))
    if nearest > effect.margin:
        return f"Significantly {direction}, by more than the margin of {margin}."
    return f"Significantly {direction}; not shown to exceed the margin of {margin}."


def _inconclusive(effect: NoiseEffect) -> str:
    margin = effect.metric.amount(effect.margin)
    return f"Inconclusive: neither zero nor a change beyond the margin of {margin} is excluded."
