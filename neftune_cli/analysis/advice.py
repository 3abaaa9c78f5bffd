"""Advice: a paragraph with the recommended action, the evidence for it, its side effects and its scope."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from neftune_cli.analysis.decision import Action, Decision, decide, stopped_arm
from neftune_cli.analysis.paired import MIN_SEEDS, PairedComparison
from neftune_cli.analysis.power import POWER
from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, StoppedArm, Verdict
from neftune_cli.formatting import counted, listed, percent
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

MAX_NAMED_ARMS = 6
"""Largest number of arms to name. If there are more, those with the best differences are named."""


def advice(comparison: Comparison) -> str:
    """Return one paragraph with the statements that the data support."""
    if not comparison.treated:
        return f"{comparison.baseline} is the only finished arm, so there is no comparison."
    decision = decide(comparison)
    return " ".join(
        [
            *_STATEMENTS[decision.action](comparison, decision),
            *_arms_without_verdict(comparison, decision),
            *_early_stopping(comparison),
            *_side_effects(comparison, decision),
            _scope(comparison, decision),
        ]
    )


def _use(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    yield f"Use {_spoken(comparison, decision.arm)}: {_differences(comparison, decision.with_verdict)}."
    best = comparison.best
    if best and best.arm == decision.arm and math.isfinite(best.gain.ci_low):
        yield (
            f"It is the best of {len(best.chosen)} arms, so this difference has a selection bias (winner's curse). "
            f"Selected on one part of the {' and '.join(best.split)} and measured on the rest, "
            f"{_metric(comparison).name_within} is {_difference(best.gain, _metric(comparison))}."
        )


def _stop_earlier(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    stopped = stopped_arm(comparison.early_stopping, decision.arm)
    if stopped and stopped.best and stopped.best.verdict in ("equivalent", "worse"):
        alternative = "adding noise" if _is_about_noise(comparison) else "another change"
        yield f"Stop training earlier instead of {alternative}: the result is at least as good."
    else:
        arm = _spoken(comparison, decision.arm)
        yield f"Stop training earlier or use {arm}: it is not decided which is better."
    yield f"After the last epoch, {_differences(comparison, decision.with_verdict)}."


def _keep_baseline(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield f"{_keep(comparison)}: {_differences(comparison, decision.with_verdict)}."


def _more_seeds(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    assert decision.seeds is not None
    more = decision.seeds - decision.with_verdict[decision.arm].comparison.seeds
    yield (
        f"Run about {counted(more, 'more seed')} before deciding (--seeds {decision.seeds}): they are enough for a "
        f"verdict on {_spoken(comparison, decision.arm)} ({percent(POWER)} power), if its true difference equals the "
        "estimate."
    )
    yield f"So far, {_differences(comparison, decision.with_verdict)}."


def _undecided(comparison: Comparison, decision: Decision) -> Iterator[str]:
    metric = _metric(comparison)
    undecided = [one for one in decision.with_verdict.values() if one.verdict == "inconclusive"]
    widest = max(undecided, key=lambda assessment: assessment.detectable)
    yield (
        f"{_keep(comparison)} for now: {counted(widest.comparison.seeds, 'seed')} show neither an improvement of "
        f"{metric.name_within} nor equivalence within {metric.amount(widest.margin)}. Minimum detectable effect: "
        f"{metric.amount(widest.detectable)} ({percent(POWER)} power)."
    )
    if decision.arm:
        closest = f" on {_spoken(comparison, decision.arm)}, the closest," if len(decision.with_verdict) > 1 else ""
        yield f"A verdict{closest} needs about {decision.seeds} seeds in total."
    else:
        yield "More seeds alone are not enough for a verdict."
    yield f"So far, {_differences(comparison, decision.with_verdict)}."


def _no_direction(comparison: Comparison, decision: Decision) -> Iterator[str]:
    name, differences = _metric(comparison).name, _differences(comparison, decision.with_verdict)
    yield f"{name} changes, and neither direction is an improvement by itself: {differences}."


def _too_few_seeds(comparison: Comparison, decision: Decision) -> Iterator[str]:
    seeds = max(assessment.comparison.seeds for assessment in decision.checkpoints.values())
    yield (
        f"No verdict: with {counted(seeds, 'paired seed')} the numbers describe these checkpoints, not the method. "
        f"For these checkpoints, {_differences(comparison, decision.checkpoints)}."
    )
    yield f"A verdict on the method needs at least {MIN_SEEDS} seeds, preferably 5 (--seeds 5)."


def _no_evidence(comparison: Comparison, decision: Decision) -> Iterator[str]:  # noqa: ARG001
    yield f"No verdict on {_metric(comparison).name_within}."


_STATEMENTS: Mapping[Action, Callable[[Comparison, Decision], Iterator[str]]] = {
    "use": _use,
    "stop earlier": _stop_earlier,
    "keep baseline": _keep_baseline,
    "more seeds": _more_seeds,
    "undecided": _undecided,
    "no direction": _no_direction,
    "too few seeds": _too_few_seeds,
    "no evidence": _no_evidence,
}


def _arms_without_verdict(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the arms without a verdict, with the reason."""
    if decision.with_verdict and decision.checkpoints:
        differences = _differences(comparison, decision.checkpoints)
        yield f"With fewer than {MIN_SEEDS} seeds, for these checkpoints only: {differences}."
    for arm in decision.without_verdict:
        yield f"{_capital(_spoken(comparison, arm))} has no verdict: {_reason_without_verdict(comparison, arm)}."


def _reason_without_verdict(comparison: Comparison, name: str) -> str:
    estimate = _arm(comparison, name).estimates.get(comparison.primary)
    baseline = _spoken(comparison, comparison.baseline)
    if estimate is None or estimate.difference is None:
        return f"it shares no measured seed with {baseline}"
    if not math.isfinite(estimate.difference.mean):
        return f"a value of it or of {baseline} is not finite"
    return "its differences do not vary, so their standard error is unknown"


def _early_stopping(comparison: Comparison) -> Iterator[str]:
    stopping = comparison.early_stopping
    if stopping is None or comparison.primary != HELD_OUT_LOSS:
        return
    baseline, *others = stopping.arms
    spoken = _capital(_spoken(comparison, comparison.baseline))
    if baseline.best_epoch == max(stopping.epochs):
        yield f"{spoken} has its lowest loss after the last epoch, so earlier stopping gains nothing."
        return
    epoch = f"epoch {baseline.best_epoch:.1f} of {max(stopping.epochs)}"
    yield f"{spoken} has its lowest loss at {epoch} on average{_overtraining(baseline)}."
    assessed = {arm.name: arm.best for arm in others if arm.best}
    if assessed:
        lowest = min(assessed, key=lambda name: assessed[name].comparison.difference)
        among = f", the lowest of {len(assessed)} arms," if len(assessed) > 1 else ""
        difference = _with_verdict(assessed[lowest], comparison.metrics[HELD_OUT_LOSS])
        yield f"With both at their best epochs, {_spoken(comparison, lowest)}{among} is {difference}."


def _overtraining(baseline: StoppedArm) -> str:
    if baseline.last is None:
        return ""
    change = baseline.last.comparison.difference
    direction = "higher" if change > 0 else "lower"
    verdict = baseline.last.verdict or "no verdict"
    return f". After the last epoch its loss is {direction} by {abs(change):.4f} nats ({verdict})"


def _side_effects(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the metrics other than the primary one that changed."""
    others = [one for one in comparison.metrics.values() if one.goal and one.key not in _same_as(comparison.primary)]
    worse, better = list(_changed(comparison, others, "worse")), list(_changed(comparison, others, "better"))
    subject = "noise" if _is_about_noise(comparison) else "change"
    if worse:
        yield f"Metrics that the {subject} makes worse, each tested separately: {'; '.join(worse)}."
    if better:
        yield f"Other metrics that the {subject} improves, each tested separately: {'; '.join(better)}."
    if others and decision.with_verdict and not worse and not better:
        yield "No other metric is shown to improve or to get worse."


def _changed(comparison: Comparison, metrics: Sequence[Metric], verdict: Verdict) -> Iterator[str]:
    for metric in metrics:
        assessed = ((arm, comparison.assessment(arm.name, metric.key)) for arm in comparison.treated)
        arms = [_spoken(comparison, arm.name) for arm, one in assessed if one and one.verdict == verdict]
        if arms:
            yield f"{metric.name} {verdict} with {listed(arms)}"


def _scope(comparison: Comparison, decision: Decision) -> str:
    used = decision.with_verdict or decision.checkpoints
    seeds = {tuple(_paired_seeds(_arm(comparison, name), comparison.primary)) for name in used}
    over = f", {_seed_words(seeds)}" if seeds else ""
    return f"Scope: {comparison.setting.description}{over}. Another model, data set or recipe needs its own sweep."


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


def _differences(comparison: Comparison, assessed: Mapping[str, Assessment]) -> str:
    """Return the difference of each arm. The metric, the baseline and a shared verdict are named once."""
    metric = _metric(comparison)
    sign = -1 if metric.goal == "higher" else 1
    best_first = sorted(assessed, key=lambda name: sign * assessed[name].comparison.difference)
    named = {name: one for name, one in assessed.items() if name in best_first[:MAX_NAMED_ARMS]}
    verdicts = {one.verdict for one in named.values()}
    show = _with_verdict if len(verdicts) > 1 else _without_verdict
    clauses = [f"{_spoken(comparison, name)} is {show(one, metric)}" for name, one in named.items()]
    if len(assessed) > len(named):
        clauses.append(f"{counted(len(assessed) - len(named), 'more arm')} in the tables")
    (shared, *_) = verdicts
    suffix = f"{'; all' if len(clauses) > 1 else ','} {shared}" if len(verdicts) == 1 and shared else ""
    baseline = _spoken(comparison, comparison.baseline)
    return f"{metric.name_within} compared with {baseline}: {'; '.join(clauses)}{suffix}"


def _with_verdict(assessment: Assessment, metric: Metric) -> str:
    return _without_verdict(assessment, metric) + (f", {assessment.verdict}" if assessment.verdict else "")


def _without_verdict(assessment: Assessment, metric: Metric) -> str:
    return _difference(assessment.comparison, metric)


def _difference(comparison: PairedComparison, metric: Metric) -> str:
    """Return a difference with its interval, like `lower by 0.012 nats (95% interval -0.020 to -0.004)`."""
    if comparison.difference == 0:
        return "equal"
    direction = "lower" if comparison.difference < 0 else "higher"
    by = f"{direction} by {metric.amount(comparison.difference)}"
    if not math.isfinite(comparison.ci_low):
        return by
    low, high = metric.signed(comparison.ci_low), metric.signed(comparison.ci_high)
    return f"{by} ({percent(comparison.confidence)} interval {low} to {high})"


def _keep(comparison: Comparison) -> str:
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
