"""Formatted parts of the tables: values with their spread, differences from the baseline, roles of arms, and seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.headline import DecisionState
from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, Estimate, Verdict, tests_by_family
from neftune_cli.analysis.verdicts import missing_verdict_reason, untested_reason
from neftune_cli.formatting import counted, rough_share
from neftune_cli.metrics import Metric

DASH = "\N{EN DASH}"
"""Placeholder for a value that is defined but missing."""
NOT_FINITE = "not finite"
STATE_VERDICTS: Mapping[DecisionState, Verdict | None] = {
    "DECIDED": "equivalent",
    "PARTLY DECIDED": "inconclusive",
    "NOT DECIDED": "inconclusive",
    "NO VERDICT": "inconclusive",
    "NOTHING LEARNED": "worse",
    "NOTHING TO COMPARE": None,
}
"""Verdict whose color each headline has, on the page and on a terminal."""
MOST_LISTED_SEEDS = 4
"""Largest number of seeds to list in a short text."""
_SMALLEST_P = 0.001


@dataclass(frozen=True)
class Cell:
    """A formatted value and its standard deviation over seeds; the latter is empty for a single seed."""

    number: str
    spread: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the pieces of the cell that tables align with the same pieces of other rows."""
        return (self.number,) if self.number == NOT_FINITE else (self.number, " ± " if self.spread else "", self.spread)


UNDEFINED = Cell(DASH)


@dataclass(frozen=True)
class Difference:
    """A formatted difference from the baseline, with interval, p-value and verdict."""

    number: str
    """Empty for a row without a difference, such as the baseline."""
    bounds: tuple[str, str] | None = None
    verdict: Verdict | None = None
    p: str = ""
    """Two-sided p-value of the difference, adjusted over arms and looks; empty with fewer than three paired seeds."""
    remark: str = ""
    """Reason for a missing verdict."""
    unadjusted: tuple[str, str] | None = None
    """Bounds of the interval without adjustment, where `bounds` are adjusted."""

    @property
    def interval_parts(self) -> tuple[str, ...]:
        """Return the pieces of the interval that tables align with the same pieces of other rows."""
        return _bracketed(self.bounds) or (self._dash,)

    @property
    def unadjusted_parts(self) -> tuple[str, ...]:
        """Return the pieces of the unadjusted interval, like `interval_parts`."""
        return _bracketed(self.unadjusted) or (self._dash,)

    @property
    def verdict_text(self) -> str:
        """Return the verdict, or a dash where it is missing."""
        return self.verdict or self._dash

    @property
    def _dash(self) -> str:
        return DASH if self.number else ""


def _bracketed(bounds: tuple[str, str] | None) -> tuple[str, ...]:
    return ("[", bounds[0], ", ", bounds[1], "]") if bounds else ()


NO_DIFFERENCE = Difference("")


def value_cell(estimate: Estimate | None, metric: Metric) -> Cell:
    """Return the cell of an arm's mean and standard deviation."""
    return UNDEFINED if estimate is None else number_cell(estimate.mean, metric, estimate.sd)


def number_cell(value: float, metric: Metric, sd: float | None = None) -> Cell:
    """Return the cell of a value of the metric."""
    if not math.isfinite(value):
        return Cell(NOT_FINITE)
    return Cell(metric.number(value), "" if sd is None else metric.number(sd))


def noise_share(arm: ArmSummary, missing: str = DASH) -> str:
    """Return the noise ratio of an arm as a percentage; `missing` if it was not measured."""
    if arm.alpha == 0 or arm.noise_ratio == 0:
        return "0%"
    if arm.noise_ratio is None:
        return missing
    return f"{arm.noise_ratio:.1%}" if arm.noise_ratio < 1 else f"{arm.noise_ratio:.0%}"


def share_range(low: float, high: float) -> str:
    """Return a range of probabilities as percentages.

    >>> share_range(0.001, 0.2), share_range(0.998, 1.0)
    ('<1% to 20%', '>99%')
    """
    first, last = map(rough_share, (low, high))
    return first if first == last else f"{first} to {last}"


def arm_difference(arm: ArmSummary, metric: Metric, baseline: str) -> Difference:
    """Return an arm's difference from the baseline, with the reason where the verdict is missing."""
    if arm.name == baseline:
        return NO_DIFFERENCE
    estimate = arm.estimates.get(metric.key)
    if estimate and estimate.assessment:
        return assessed_difference(estimate.assessment, metric)
    mean = estimate.difference.mean if estimate and estimate.difference else math.nan
    number = metric.signed(mean) if math.isfinite(mean) else DASH
    return Difference(number, p=DASH, remark=missing_verdict_reason(estimate, baseline))


def assessed_difference(assessment: Assessment, metric: Metric) -> Difference:
    """Return a difference with its interval and its verdict."""
    paired = assessment.paired
    about_method = paired.has_enough_seeds
    return Difference(
        metric.signed(paired.difference),
        _bounds(shown_interval(assessment), metric),
        assessment.verdict,
        p=p_value_text(assessment.p_adjusted) if about_method else "",
        remark=untested_reason(assessment),
        unadjusted=_bounds((paired.ci_low, paired.ci_high), metric) if about_method else None,
    )


def interval_kind(comparison: Comparison) -> str:
    """Return the kind of the intervals of the primary metric: `repeated`, `simultaneous`, `unadjusted`, or empty.

    It is empty if one arm is tested once, because nothing is adjusted then.
    """
    assessed = comparison.assessments(comparison.primary)
    if not any(one.paired.has_enough_seeds for one in assessed.values()):
        return "unadjusted"
    if comparison.declared.has_planned_looks:
        return "repeated"
    return "simultaneous" if max(tests_by_family(assessed).values(), default=0) > 1 else ""


def shown_interval(assessment: Assessment) -> tuple[float, float]:
    """Return the interval that matches the verdict: simultaneous over arms and looks, unadjusted with few seeds."""
    if not assessment.paired.has_enough_seeds:
        return assessment.paired.ci_low, assessment.paired.ci_high
    one = assessment.equivalence_interval if assessment.verdict == "equivalent" else assessment.interval
    return one.low, one.high


def interval_text(assessment: Assessment, metric: Metric) -> str:
    """Return a difference with the interval that matches its verdict."""
    number = metric.signed(assessment.paired.difference)
    bounds = _bounds(shown_interval(assessment), metric)
    return f"{number} [{bounds[0]}, {bounds[1]}]" if bounds else number


def p_statement(p: float) -> str:
    """Return a known p-value as a statement, such as `p = 0.012` or `p < 0.001`."""
    return f"p {p_value_text(p)}" if p < _SMALLEST_P else f"p = {p_value_text(p)}"


def p_value_text(p: float, *, short: bool = False) -> str:
    """Return a p-value with three decimals, or in at most five characters; a dash if it is unknown.

    >>> [p_value_text(p) for p in (0.0002, 0.012, 0.25)], [p_value_text(p, short=True) for p in (0.0002, 0.012, 0.25)]
    (['< 0.001', '0.012', '0.250'], ['<.001', '0.012', '0.25'])
    """
    if not math.isfinite(p):
        return DASH
    if p < _SMALLEST_P:
        return "<.001" if short else f"< {_SMALLEST_P}"
    return f"{p:.2f}" if short and p >= 0.1 else f"{p:.3f}"


def _bounds(interval: tuple[float, float], metric: Metric) -> tuple[str, str] | None:
    low, high = interval
    return (metric.signed(low), metric.signed(high)) if math.isfinite(low) and math.isfinite(high) else None


def arm_with_role(comparison: Comparison, arm: str) -> str:
    """Return the name of an arm, with its role in parentheses if it has one."""
    assessment = comparison.assessment(arm, comparison.primary)
    role = assessment.role if assessment else "arm"
    return arm if role == "arm" else f"{arm} ({role})"


def all_seeds_text(comparison: Comparison) -> str:
    """Return the seeds, listed once if all arms have the same, else for each arm."""
    by_arm = {arm.name: ", ".join(map(str, arm.seeds)) for arm in comparison.arms}
    if len(set(by_arm.values())) == 1:
        return next(iter(by_arm.values()))
    return "; ".join(f"{seeds} ({name})" for name, seeds in by_arm.items())


def short_seeds_text(seeds_of_arms: Sequence[Sequence[int]]) -> str:
    """Return the seeds if all arms have the same and they fit a heading, else the range of their counts."""
    counts = sorted({len(seeds) for seeds in seeds_of_arms})
    if len({tuple(seeds) for seeds in seeds_of_arms}) > 1:
        return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counted(counts[0], 'seed')} per arm"
    seeds = sorted(seeds_of_arms[0])
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]}-{seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= MOST_LISTED_SEEDS else counted(len(seeds), "seed")
