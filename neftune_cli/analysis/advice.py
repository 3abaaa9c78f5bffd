"""Advice: a paragraph with the recommended action, the evidence for it, its side effects and its scope."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from neftune_cli.analysis.decision import Action, Decision, decide, stopped_arm
from neftune_cli.analysis.paired import FEWEST_SEEDS, PairedComparison
from neftune_cli.analysis.power import POWER
from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, StoppedArm
from neftune_cli.analysis.wording import amount, counted, listed, percent
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

MOST_NAMED = 6
"""Largest number of arms to name. If there are more, those with the best differences are named."""


def advice(comparison: Comparison) -> str:
    """Return one paragraph with the statements that the data support."""
    if not comparison.treated:
        return f"{comparison.baseline} is the only finished arm, so there is no comparison."
    decision = decide(comparison)
    return " ".join(
        [
            *_DECIDED[decision.action](comparison, decision),
            *_left_out(comparison, decision),
            *_stopping(comparison),
            *_side_effects(comparison, decision),
            _reach(comparison, decision),
        ]
    )


def _use(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    yield f"Use {_spoken(comparison, decision.arm)}: {_listed(comparison, decision.judged)}."
    best = comparison.best
    if best and best.arm == decision.arm and math.isfinite(best.gain.ci_low):
        yield (
            f"It is the best of {len(best.chosen)} arms, so this difference is biased upward. Selected on one part of "
            f"the {' and '.join(best.split)} and measured on the other, {_metric(comparison).name_within} is "
            f"{_difference(best.gain, _metric(comparison))}."
        )


def _stop_earlier(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    stopped = stopped_arm(comparison.early_stopping, decision.arm)
    if stopped and stopped.best and stopped.best.verdict in ("equivalent", "worse"):
        instead = "adding noise" if _is_about_noise(comparison) else "another change"
        yield f"Stop training earlier instead of {instead}: the result is at least as good."
    else:
        arm = _spoken(comparison, decision.arm)
        yield f"Stop training earlier or use {arm}: it is not decided which is better."
    yield f"After the last epoch, {_listed(comparison, decision.judged)}."


def _keep(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield f"{_stay(comparison)}: {_listed(comparison, decision.judged)}."


def _more_seeds(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    assert decision.seeds is not None
    more = decision.seeds - decision.judged[decision.arm].comparison.seeds
    yield (
        f"Run about {counted(more, 'more seed')} before deciding (--seeds {decision.seeds}): they are enough for a "
        f"verdict on {_spoken(comparison, decision.arm)}, if its true difference equals the estimate."
    )
    yield f"So far, {_listed(comparison, decision.judged)}."


def _open(comparison: Comparison, decision: Decision) -> Iterator[str]:
    metric = _metric(comparison)
    undecided = [assessment for assessment in decision.judged.values() if assessment.verdict == "inconclusive"]
    widest = max(undecided, key=lambda assessment: assessment.detectable)
    yield (
        f"{_stay(comparison)} for now: {counted(widest.comparison.seeds, 'seed')} show neither an improvement nor "
        f"equivalence within {amount(widest.margin, metric)} of {metric.name_within}. The minimum detectable effect is "
        f"{amount(widest.detectable, metric)} ({percent(POWER)} power)."
    )
    if decision.arm:
        closest = f" on {_spoken(comparison, decision.arm)}, the closest," if len(decision.judged) > 1 else ""
        yield f"A verdict{closest} needs about {decision.seeds} seeds in total."
    else:
        yield "More seeds alone are not enough for a verdict."
    yield f"So far, {_listed(comparison, decision.judged)}."


def _neither_is_good(comparison: Comparison, decision: Decision) -> Iterator[str]:
    name = _metric(comparison).name
    yield f"{name} changes, and neither direction is an improvement by itself: {_listed(comparison, decision.judged)}."


def _too_few_seeds(comparison: Comparison, decision: Decision) -> Iterator[str]:
    seeds = max(assessment.comparison.seeds for assessment in decision.checkpoints.values())
    yield (
        f"No verdict: with {counted(seeds, 'paired seed')} the numbers describe these checkpoints, not the method. "
        f"For these checkpoints, {_listed(comparison, decision.checkpoints)}."
    )
    yield f"A verdict on the method needs at least {FEWEST_SEEDS} seeds, preferably 5 (--seeds 5)."


def _no_evidence(comparison: Comparison, decision: Decision) -> Iterator[str]:  # noqa: ARG001
    yield f"No verdict on {_metric(comparison).name_within}."


_DECIDED: Mapping[Action, Callable[[Comparison, Decision], Iterator[str]]] = {
    "use": _use,
    "stop earlier": _stop_earlier,
    "keep": _keep,
    "more seeds": _more_seeds,
    "open": _open,
    "neither is good": _neither_is_good,
    "too few seeds": _too_few_seeds,
    "no evidence": _no_evidence,
}


def _left_out(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the arms without a verdict, with the reason."""
    if decision.judged and decision.checkpoints:
        shown = _listed(comparison, decision.checkpoints)
        yield f"With fewer than {FEWEST_SEEDS} seeds, for these checkpoints only: {shown}."
    for arm in decision.unjudged:
        yield f"{_capital(_spoken(comparison, arm))} has no verdict: {_reason_without_verdict(comparison, arm)}."


def _reason_without_verdict(comparison: Comparison, name: str) -> str:
    arm = next(arm for arm in comparison.arms if arm.name == name)
    estimate = arm.estimates.get(comparison.primary)
    baseline = _spoken(comparison, comparison.baseline)
    if estimate is None or estimate.difference is None:
        return f"it shares no measured seed with {baseline}"
    if not math.isfinite(estimate.difference.mean):
        return f"one of its values or of {baseline}'s is not finite"
    return "its differences do not vary, so their uncertainty is unknown"


def _stopping(comparison: Comparison) -> Iterator[str]:
    stopping = comparison.early_stopping
    if stopping is None or comparison.primary != HELD_OUT_LOSS:
        return
    baseline, *others = stopping.arms
    spoken = _capital(_spoken(comparison, comparison.baseline))
    if baseline.best_epoch == max(stopping.epochs):
        yield f"{spoken} has its lowest loss after the last epoch, so earlier stopping gains nothing."
        return
    epoch = f"epoch {baseline.best_epoch:.1f} of {max(stopping.epochs)}"
    yield f"{spoken} has its lowest loss at {epoch} on average{_after(baseline)}."
    judged = {arm.name: arm.best for arm in others if arm.best}
    if judged:
        lowest = min(judged, key=lambda name: judged[name].comparison.difference)
        among = f", the lowest of {len(judged)} arms," if len(judged) > 1 else ""
        found = _difference(judged[lowest].comparison, comparison.metrics[HELD_OUT_LOSS])
        verdict = f", {judged[lowest].verdict}" if judged[lowest].verdict else ""
        yield f"With both at their best epochs, {_spoken(comparison, lowest)}{among} is {found}{verdict}."


def _after(baseline: StoppedArm) -> str:
    if baseline.last is None:
        return ""
    from_best = baseline.last.comparison.difference
    side = "higher" if from_best > 0 else "lower"
    verdict = baseline.last.verdict or "no verdict"
    return f". After the last epoch its loss is {side} by {abs(from_best):.4f} nats ({verdict})"


def _side_effects(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the metrics other than the primary one that changed."""
    others = [one for one in comparison.metrics.values() if one.goal and one.key not in _same_as(comparison.primary)]
    worse, better = (list(_changed(comparison, others, word)) for word in ("worse", "better"))
    subject = "noise" if _is_about_noise(comparison) else "change"
    if worse:
        yield f"Metrics that the {subject} makes worse, each tested separately: {'; '.join(worse)}."
    if better:
        yield f"Other metrics that the {subject} improves, each tested separately: {'; '.join(better)}."
    if others and decision.judged and not worse and not better:
        yield "No other metric is shown to improve or to get worse."


def _changed(comparison: Comparison, metrics: Sequence[Metric], word: str) -> Iterator[str]:
    for metric in metrics:
        judged = ((arm, comparison.assessment(arm.name, metric.key)) for arm in comparison.treated)
        arms = [
            _spoken(comparison, arm.name) for arm, assessment in judged if assessment and assessment.verdict == word
        ]
        if arms:
            yield f"{metric.name} {word} with {listed(arms)}"


def _reach(comparison: Comparison, decision: Decision) -> str:
    used = decision.judged or decision.checkpoints
    seeds = {tuple(_paired_seeds(_arm(comparison, name), comparison.primary)) for name in used}
    over = f", {_seed_words(seeds)}" if seeds else ""
    return f"Scope: {comparison.setting.words}{over}. Another model, data set or recipe needs its own sweep."


def _seed_words(seeds: set[tuple[int, ...]]) -> str:
    if len(seeds) == 1:
        (shared,) = seeds
        return f"seed{'' if len(shared) == 1 else 's'} {', '.join(map(str, shared))}"
    counts = [len(of_arm) for of_arm in seeds]
    number = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    return f"{number} seeds per arm"


def _paired_seeds(arm: ArmSummary, key: str) -> Sequence[int]:
    estimate = arm.estimates.get(key)
    return tuple(estimate.difference.by_seed) if estimate and estimate.difference else ()


def _listed(comparison: Comparison, judged: Mapping[str, Assessment]) -> str:
    """Return the difference of each arm. The metric, the baseline and a shared verdict are named once."""
    metric = _metric(comparison)
    sign = -1 if metric.goal == "higher" else 1
    best_first = sorted(judged, key=lambda name: sign * judged[name].comparison.difference)
    named = [name for name in judged if name in best_first[:MOST_NAMED]]
    words = {judged[name].verdict for name in named}
    clauses = [f"{_spoken(comparison, name)} is {_shown(judged[name], metric, word=len(words) > 1)}" for name in named]
    if len(judged) > len(named):
        clauses.append(f"{counted(len(judged) - len(named), 'more arm')} in the tables")
    (common, *_) = words
    behind = f"{'; all' if len(clauses) > 1 else ','} {common}" if len(words) == 1 and common else ""
    baseline = _spoken(comparison, comparison.baseline)
    return f"{metric.name_within} compared with {baseline}: {'; '.join(clauses)}{behind}"


def _shown(assessment: Assessment, metric: Metric, *, word: bool) -> str:
    return _difference(assessment.comparison, metric) + (
        f", {assessment.verdict}" if word and assessment.verdict else ""
    )


def _difference(comparison: PairedComparison, metric: Metric) -> str:
    """Return a difference with its interval, like `lower by 0.012 nats (95% interval -0.020 to -0.004)`."""
    if comparison.difference == 0:
        return "equal"
    side = "lower" if comparison.difference < 0 else "higher"
    by = f"{side} by {amount(comparison.difference, metric)}"
    if not math.isfinite(comparison.ci_low):
        return by
    low, high = metric.signed(comparison.ci_low), metric.signed(comparison.ci_high)
    return f"{by} ({percent(comparison.confidence)} interval {low} to {high})"


def _stay(comparison: Comparison) -> str:
    return "Leave the noise off" if _is_about_noise(comparison) else f"Keep {_spoken(comparison, comparison.baseline)}"


def _is_about_noise(comparison: Comparison) -> bool:
    """Return whether the baseline has no noise and all other arms have noise."""
    baseline = _arm(comparison, comparison.baseline)
    return baseline.alpha == 0 and all(arm.alpha for arm in comparison.treated)


def _spoken(comparison: Comparison, name: str) -> str:
    """Return the name of an arm for a sentence: `alpha 5` for `alpha=5`."""
    arm = _arm(comparison, name)
    return name.replace("=", " ") if arm.alpha is not None and name == f"alpha={arm.alpha:g}" else name


def _arm(comparison: Comparison, name: str) -> ArmSummary:
    return next(arm for arm in comparison.arms if arm.name == name)


def _metric(comparison: Comparison) -> Metric:
    return comparison.metrics[comparison.primary]


def _same_as(key: str) -> tuple[str, ...]:
    """Return the metrics with the same information: perplexity is the loss on another scale."""
    losses = (HELD_OUT_LOSS, "eval_perplexity")
    return losses if key in losses else (key,)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
