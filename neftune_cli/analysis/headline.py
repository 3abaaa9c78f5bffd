"""Headline of a comparison: the state of the decision, and one sentence with its content."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.decision import Decision, decide
from neftune_cli.analysis.results import DIFFERENT, Assessment, Comparison
from neftune_cli.analysis.verdicts import missing_verdict_reason
from neftune_cli.config.arm_names import spoken_name
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.formatting import capitalized, counted, listed, listed_at_most
from neftune_cli.metrics import Metric

DecisionState = Literal[
    "DECIDED", "PARTLY DECIDED", "NOT DECIDED", "NO VERDICT", "NOTHING LEARNED", "NOTHING TO COMPARE"
]
"""State of the decision on the primary metric:

- `DECIDED`: every arm, or the primary arm, differs from the baseline or is equivalent to it.
- `PARTLY DECIDED`: some arms are decided and some are not, or the any-noise test is significant and none is.
- `NOT DECIDED`: neither a difference nor equivalence is shown.
- `NO VERDICT`: there are too few seeds for a test, no values to test, no planned look yet, or no verdict on the
  primary arm.
- `NOTHING LEARNED`: fine-tuning of the baseline does not improve on the base model.
- `NOTHING TO COMPARE`: only one arm has finished, apart from controls.
"""
MOST_NAMED_ARMS = 6
"""Largest number of arms to name for one verdict."""


@dataclass(frozen=True)
class Headline:
    """State of the decision, with one sentence."""

    state: DecisionState
    sentence: str

    @property
    def text(self) -> str:
        """Return both as one text."""
        return f"{self.state.capitalize()}: {self.sentence}"


def headline(comparison: Comparison) -> Headline:
    """Return the state of the decision on the primary metric."""
    if not comparison.studied:
        only = only_finished(comparison, capitalized(spoken_name(comparison.baseline)))
        return Headline("NOTHING TO COMPARE", f"{only}.")
    decision = decide(comparison)
    if decision.action == "not learned":
        baseline = comparison.arm(comparison.baseline)
        arm = "Without noise" if baseline.alpha == 0 else f"With {spoken_name(baseline.name)}"
        result = f"{arm}, the fine-tuned model is no better than the base model"
        return Headline("NOTHING LEARNED", f"{result}, so the effect of {_studied_change(comparison)} is unknown.")
    if not decision.confirmatory:
        return Headline("NO VERDICT", _no_verdict(comparison, decision))
    if len(decision.open_arms) < len(decision.confirmatory):
        is_partly = bool(decision.open_arms) or _is_incomplete(comparison, decision)
        return Headline("PARTLY DECIDED" if is_partly else "DECIDED", _verdicts(comparison, decision))
    if decision.action == "choose later":
        return Headline("PARTLY DECIDED", _noise_matters(comparison))
    return Headline("NOT DECIDED", _not_decided(comparison, decision))


def only_finished(comparison: Comparison, baseline: str) -> str:
    """Return the statement about a comparison without studied arms, with a name for its baseline."""
    besides = " besides the controls" if comparison.treated else ""
    return f"{baseline} is the only finished arm{besides}"


def compatible_range(assessed: Mapping[str, Assessment], metric: Metric, baseline: float) -> str:
    """Return the range of differences within the intervals of these arms; empty if no interval is known.

    It ends where the metric of an arm would be at its bound, because a t-interval knows no bounds.

    Args:
        assessed: assessments of the arms.
        metric: the metric.
        baseline: mean of the baseline. If it is not finite, the range does not end at a bound.
    """
    intervals = [one.interval for one in assessed.values() if math.isfinite(one.interval.low)]
    if not intervals:
        return ""
    least, most = (bound - baseline for bound in metric.bounds) if math.isfinite(baseline) else (-math.inf, math.inf)
    low = max(least, min(one.low for one in intervals))
    high = min(most, max(one.high for one in intervals))
    rounded = metric.resolving(max(abs(low), abs(high)))
    return f"{rounded.signed(low)} to {rounded.signed(high)}{metric.unit_suffix}"


def _studied_change(comparison: Comparison) -> str:
    return "noise" if comparison.about_noise else "the changed settings"


def _is_incomplete(comparison: Comparison, decision: Decision) -> bool:
    """Return whether an arm that the decision is about has no verdict. Exploratory arms do not count."""
    without = {*decision.with_few_seeds, *decision.without_verdict, *comparison.arms_without_trials}
    return comparison.declared_primary_arm is None and bool(without)


def _no_verdict(comparison: Comparison, decision: Decision) -> str:
    primary, exploratory = comparison.declared_primary_arm, ""
    if primary and any(one.role == "exploratory" for one in decision.with_verdict.values()):
        exploratory = " Verdicts on the other arms are exploratory."
    plan = comparison.declared
    if plan.has_planned_looks and not plan.looks_taken:
        return f"The first planned look, at {plan.looks[0]} seeds, has not been taken."
    if few := decision.confirmatory_with_few_seeds:
        seeds = max(one.paired.seeds for one in few.values())
        of_primary = f" of the primary arm {spoken_name(primary)}" if primary and exploratory else ""
        return (
            f"With {counted(seeds, 'paired seed')} the differences{of_primary} describe these trained models, not the "
            f"method. A verdict needs at least {MIN_SEEDS} seeds.{exploratory}"
        )
    arms = [primary] if primary else decision.without_verdict
    reasons = dict.fromkeys(filter(None, (_reason(comparison, arm) for arm in arms)))
    subject = f"The primary arm {spoken_name(primary)} has no" if primary else "No arm has a"
    on_metric = f"{subject} verdict on {comparison.metric.name_within}"
    return f"{on_metric}{': ' if reasons else ''}{'; '.join(reasons)}.{exploratory}"


def _reason(comparison: Comparison, arm: str) -> str:
    """Return the reason why an arm has no verdict; empty if it is unknown."""
    if arm == comparison.baseline:
        return "it is the baseline"
    if arm not in {one.name for one in comparison.arms}:
        return "it has no finished trial"
    estimate = comparison.arm(arm).estimates.get(comparison.primary)
    return missing_verdict_reason(estimate, spoken_name(comparison.baseline))


def _not_decided(comparison: Comparison, decision: Decision) -> str:
    arms, metric = list(decision.open_arms), comparison.metric
    if len(arms) == 1 and (len(comparison.treated) > 1 or not comparison.about_noise):
        subject = spoken_name(arms[0])
    else:
        subject = "noise" if comparison.about_noise else "an arm"
    verb = "improves or worsens" if metric.goal else "changes"
    of_baseline = comparison.arm(comparison.baseline).estimates[comparison.primary]
    known = compatible_range(decision.open_arms, metric, of_baseline.mean) if of_baseline else ""
    differences = "a difference" if len(arms) == 1 else "differences"
    compatible = f": they are compatible with {differences} of {known}" if known else ""
    return f"The data do not show whether {subject} {verb} {metric.name_within}{compatible}."


def _noise_matters(comparison: Comparison) -> str:
    test = comparison.noise_tests[comparison.primary]
    shown = {one.name: one.assessment.verdict for one in test.contrasts if one.assessment.verdict != "inconclusive"}
    name = comparison.metric.name_within
    if shown.get("mean") in DIFFERENT:
        return f"On average over its alphas, noise makes {name} {shown['mean']}. No single alpha is decided."
    return f"Noise changes {name}, but no single alpha is decided."


def _verdicts(comparison: Comparison, decision: Decision) -> str:
    """Return the sentence with the verdict of each arm, the same verdicts together."""
    *before, last = _clauses(comparison, decision.confirmatory)
    clauses = f"{', '.join(before)}, and {last}" if before else last
    compared = f"In {comparison.metric.name_within}, compared with {spoken_name(comparison.baseline)}"
    sentence = f"{compared}, {clauses}."
    if decision.action == "stop earlier":
        baseline = spoken_name(comparison.baseline)
        sentence += f" Stopping the training of {baseline} earlier may have the same effect."
    if decision.action == "no direction":
        sentence += " Neither direction is an improvement by itself."
    return sentence


def _clauses(comparison: Comparison, assessed: Mapping[str, Assessment]) -> Iterator[str]:
    for verdict in (*DIFFERENT, "equivalent", "inconclusive"):
        arms = [spoken_name(arm) for arm, one in assessed.items() if one.verdict == verdict]
        if arms:
            named = listed(arms) if len(arms) <= MOST_NAMED_ARMS else listed_at_most(arms, MOST_NAMED_ARMS)
            role = ", the primary arm," if any(one.role == "primary" for one in assessed.values()) else ""
            yield f"{named}{role} {'is' if len(arms) == 1 else 'are'} {_spelled(verdict, comparison)}"


def _spelled(verdict: str, comparison: Comparison) -> str:
    if verdict == "equivalent":
        return f"equivalent within {comparison.metric.margin_size(comparison.margins[comparison.primary].size)}"
    return "not decided" if verdict == "inconclusive" else verdict
