"""A difference to the baseline as every table writes it: number, interval, p-value, verdict, or why there is none."""

import math
from dataclasses import dataclass

from neftune_cli.analysis.results import ArmSummary, Estimate, Judgement, Word
from neftune_cli.evidence.metrics import Metric

DASH = "\N{EN DASH}"
"""Stands where something has a meaning but isn't there."""
_SMALLEST_P = 0.001


@dataclass(frozen=True)
class Difference:
    """A difference to the baseline, written out, with its interval and what is said of it."""

    number: str
    """Empty where there can't be one, as for the baseline itself."""
    bounds: tuple[str, str] | None = None
    word: Word | None = None
    p: str = ""
    """Two-sided, for no difference, after Holm's correction; empty where nothing is said of the method."""
    detectable: str = ""
    """Smallest true difference found four times out of five; empty where nothing is said of the method."""
    remark: str = ""
    """Why there is no word, or what would settle an inconclusive one."""

    @property
    def interval(self) -> str:
        """Return the interval in brackets."""
        return f"[{self.bounds[0]}, {self.bounds[1]}]" if self.bounds else self._dash

    @property
    def verdict(self) -> str:
        """Return the word, or a dash where nothing is said."""
        return self.word or self._dash

    @property
    def _dash(self) -> str:
        return DASH if self.number else ""


NO_DIFFERENCE = Difference("")
DIVERGED = "a value isn't finite"
NOTHING_VARIES = "nothing varies in the differences, so nothing says how sure they are"


def difference_of(arm: ArmSummary, metric: Metric, baseline: str) -> Difference:
    """Return an arm's difference to the baseline, as far as there is one."""
    if arm.name == baseline:
        return NO_DIFFERENCE
    estimate = arm.estimates.get(metric.key)
    if estimate and estimate.judgement:
        return judged_difference(estimate.judgement, metric)
    mean = estimate.difference.mean if estimate and estimate.difference else math.nan
    number = metric.signed(mean) if math.isfinite(mean) else DASH
    return Difference(number, p=DASH, detectable=DASH, remark=why_no_verdict(estimate, baseline))


def judged_difference(judgement: Judgement, metric: Metric) -> Difference:
    """Return a difference with its interval and its verdict."""
    about_method = judgement.comparison.about == "method"
    return Difference(
        metric.signed(judgement.comparison.difference),
        _bounds(judgement, metric),
        judgement.word,
        p=_p_value(judgement.p_adjusted) if about_method else "",
        detectable=_detectable(judgement.detectable, metric) if about_method else "",
        remark=why_no_word(judgement) or _what_settles(judgement),
    )


def why_no_verdict(estimate: Estimate | None, baseline: str) -> str:
    """Return why an arm that isn't the baseline has no verdict on a metric; empty where it has one."""
    if estimate is None:
        return "the metric isn't defined for the arm"
    if estimate.difference is None:
        return f"no seed is shared with {baseline}"
    if estimate.judgement is not None:
        return why_no_word(estimate.judgement)
    return f"no item is shared with {baseline}" if math.isfinite(estimate.difference.mean) else DIVERGED


def why_no_word(judgement: Judgement) -> str:
    """Return why a difference with an interval or without one is no verdict; empty where it is one."""
    if judgement.word is not None:
        return ""
    return "fewer than three paired seeds" if judgement.comparison.about == "checkpoints" else NOTHING_VARIES


def _bounds(judgement: Judgement, metric: Metric) -> tuple[str, str] | None:
    low, high = judgement.comparison.ci_low, judgement.comparison.ci_high
    return (metric.signed(low), metric.signed(high)) if math.isfinite(low) and math.isfinite(high) else None


def _p_value(p: float) -> str:
    if not math.isfinite(p):
        return DASH
    return f"< {_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"


def _detectable(size: float, metric: Metric) -> str:
    return metric.number(size) if math.isfinite(size) else DASH


def _what_settles(judgement: Judgement) -> str:
    if judgement.word != "inconclusive":
        return ""
    needed = judgement.seeds_needed
    return "seeds won't settle it" if needed is None else f"about {needed} seeds"
