"""First screen of a chapter: decision, scope, and one line each on other metrics, early stopping and the next step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.decision import Action, decide
from neftune_cli.analysis.planning import Outlook
from neftune_cli.analysis.results import Assessment, Comparison
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.formatting import counted, listed, listed_at_most
from neftune_cli.metrics import HELD_OUT_LOSS, Metric
from neftune_cli.reporting.cells import DASH
from neftune_cli.reporting.sections import seeds_of_arms

_HEADLINES: Mapping[Action, tuple[str, str]] = {
    "use": ("Decided", "better"),
    "stop earlier": ("Decided", "equivalent"),
    "keep baseline": ("Decided", "equivalent"),
    "choose later": ("Partly decided", "inconclusive"),
    "undecided": ("Not decided", "inconclusive"),
    "no direction": ("Decided", "higher"),
    "too few seeds": ("No verdict", "inconclusive"),
    "not learned": ("Nothing to compare", "worse"),
    "no evidence": ("No verdict", "inconclusive"),
}
"""Headline of each action, and the verdict that has its color."""
_SAME_AS_LOSS = (HELD_OUT_LOSS, "eval_perplexity")
"""Perplexity is the held-out loss on another scale."""
_MOST_CHANGES = 4


@dataclass(frozen=True)
class Opening:
    """Texts of the first screen."""

    headline: str
    color: str
    """Verdict that has the color of the headline."""
    sentence: str
    scope: str
    facts: Mapping[str, str]
    """Label to text, in the order of the page."""
    statement: str
    """The rest of the advice."""


def opening(comparison: Comparison, advice: str) -> Opening:
    """Return the texts of the first screen; the first sentence of the advice is the decision."""
    headline, color = _HEADLINES[decide(comparison).action] if comparison.treated else ("No comparison", "")
    first, stop, rest = advice.partition(". ")
    sentence = first.removeprefix(f"{headline}: ")
    facts = {"Other metrics": _other_metrics(comparison), "Early stopping": _early_stopping(comparison)}
    facts["Next"] = _next(comparison)
    return Opening(
        headline=headline,
        color=color,
        sentence=sentence[:1].upper() + sentence[1:] + stop.rstrip(),
        scope=" · ".join(_scope(comparison)),
        facts={label: text for label, text in facts.items() if text},
        statement=rest,
    )


def look_sentence(plan: AnalysisPlan | None) -> str:
    """Return the planned look, such as `look 2 of 4: 8 of at most 20 seeds`; empty without planned looks."""
    if plan is None or not plan.looks:
        return ""
    most = f"of at most {plan.looks[-1]} seeds"
    if not plan.taken:
        return f"no look of {len(plan.looks)} yet: the first at {plan.looks[0]} {most}"
    taken = min(plan.taken, len(plan.looks))
    return f"look {taken} of {len(plan.looks)}: {plan.looks[taken - 1]} {most}"


def outlook_table(comparison: Comparison) -> list[Sequence[str]]:
    """Return headings and rows: the chance of a decision by arm, assumed true difference and total number of seeds."""
    metric = comparison.metrics[comparison.primary]
    chances = {(arm, one.effect, one.seeds): one for arm, found in comparison.outlooks.items() for one in found}
    seeds = sorted({seeds for _, _, seeds in chances})
    rows = dict.fromkeys((arm, effect) for arm, effect, _ in chances)
    cells = [
        (arm, metric.number(effect), *(_chance(chances.get((arm, effect, number))) for number in seeds))
        for arm, effect in rows
    ]
    return [("arm", "true difference", *(f"{number} seeds" for number in seeds)), *cells] if cells else []


def _chance(one: Outlook | None) -> str:
    return DASH if one is None else f"{one.chance:.0%} ({one.low:.0%} to {one.high:.0%})"


def _scope(comparison: Comparison) -> Iterator[str]:
    yield comparison.setting.description
    yield look_sentence(comparison.plan) or f"seeds {seeds_of_arms(comparison)}"
    if items := measured_items(comparison):
        yield items


def measured_items(comparison: Comparison) -> str:
    """Return the number of items of the primary metric; empty for a metric without per-item values."""
    found = [one for arm in comparison.treated if (one := comparison.assessment(arm.name, comparison.primary))]
    if not found or found[0].comparison.items == 1:
        return ""
    items, clusters = found[0].comparison.items, found[0].comparison.clusters
    return counted(items, "example") + ("" if clusters == items else f" in {clusters:,} independent groups")


def _other_metrics(comparison: Comparison) -> str:
    """Return the other metrics with a preferred direction that differ, or the one that is closest to a difference."""
    same = _SAME_AS_LOSS if comparison.primary in _SAME_AS_LOSS else (comparison.primary,)
    metrics = [one for one in comparison.metrics.values() if one.goal and one.key not in same]
    tested = [(metric, arm, one) for metric in metrics for arm, one in _tested(comparison, metric)]
    if not tested:
        return ""
    changed = [part for metric in metrics for part in _changes(comparison, metric)]
    if changed:
        return f"{listed_at_most(changed, _MOST_CHANGES, '; ')}. Each metric is tested separately."
    metric, arm, one = min(tested, key=lambda found: found[2].p_adjusted)
    return f"None is shown to differ. Closest: {metric.name_within} with {arm} (adjusted p {one.p_adjusted:.2f})."


def _changes(comparison: Comparison, metric: Metric) -> Iterator[str]:
    for verdict in ("worse", "better"):
        arms = [arm for arm, one in _tested(comparison, metric) if one.verdict == verdict]
        if arms:
            yield f"{metric.name_within} {verdict} with {listed(arms)}"


def _tested(comparison: Comparison, metric: Metric) -> Iterator[tuple[str, Assessment]]:
    for arm in comparison.treated:
        one = comparison.assessment(arm.name, metric.key)
        if one and one.verdict and one.role != "control":
            yield arm.name, one


def _early_stopping(comparison: Comparison) -> str:
    stopping = comparison.early_stopping
    if stopping is None or comparison.primary != HELD_OUT_LOSS:
        return ""
    baseline, *others = stopping.arms
    if baseline.best_epoch == max(stopping.epochs):
        return f"Changes nothing: the loss of {baseline.name} is lowest after the last epoch."
    decided = [
        f"{arm.name} {arm.best.verdict}"
        for arm in others
        if arm.best and arm.best.verdict not in (None, "inconclusive")
    ]
    result = listed(decided) if decided else "no arm is shown to differ"
    return (
        f"The loss of {baseline.name} is lowest after epoch {baseline.best_epoch:.1f} of {max(stopping.epochs)}. With "
        f"every arm at its best epoch: {result}."
    )


def _next(comparison: Comparison) -> str:
    """Return what to do about arms that are not decided; empty if all are decided."""
    action, plan = decide(comparison).action, comparison.plan
    if action not in ("undecided", "choose later", "too few seeds"):
        return ""
    if plan and plan.looks:
        left = plan.looks[plan.taken :]
        if not left:
            return "All planned looks were taken. More seeds would need a new sweep with a plan of its own."
        return f"Run the same neftune sweep again: the next look is at {left[0]} seeds."
    looks = listed([str(look) for look in DEFAULT_LOOKS])
    return f"neftune sweep --until-decided adds seeds at planned looks ({looks} seeds) until every arm is decided."
