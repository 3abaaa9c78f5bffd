"""Advice: a paragraph with the recommended action, the evidence for it, its side effects and its scope."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from neftune_cli.analysis.decision import Action, Decision, decide, stopped_arm
from neftune_cli.analysis.paired import MIN_SEEDS, PairedComparison
from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, Interval, StoppedArm, Verdict
from neftune_cli.analysis.verdicts import missing_verdict_reason
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
    yield f"Use {_spoken(comparison, decision.arm)}."
    yield from _differences(comparison, decision.with_verdict)
    best = comparison.best
    if best and best.arm == decision.arm and math.isfinite(best.gain.ci_low):
        arm = _capital(_spoken(comparison, best.arm))
        yield (
            f"{arm} is the best of {len(best.chosen)} arms, so its difference has a selection bias (winner's curse). "
            f"Where one part of the {' and '.join(best.split)} selects it, {_metric(comparison).name_within} on the "
            f"rest is {_difference(best.gain, _metric(comparison))}."
        )


def _stop_earlier(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    stopped = stopped_arm(comparison.early_stopping, decision.arm)
    if stopped and stopped.best and stopped.best.verdict in ("equivalent", "worse"):
        alternative = "adding noise" if _is_about_noise(comparison) else "another change"
        yield f"Stop training earlier instead of {alternative}. The result is at least as good."
    else:
        arm = _spoken(comparison, decision.arm)
        yield f"Stop training earlier or use {arm}. The data do not show which of the two is better."
    yield "The differences after the last epoch follow."
    yield from _differences(comparison, decision.with_verdict)


def _keep_baseline(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield f"{_keep(comparison)}."
    yield from _differences(comparison, decision.with_verdict)


def _undecided(comparison: Comparison, decision: Decision) -> Iterator[str]:
    metric = _metric(comparison)
    subject = "noise helps or hurts" if _is_about_noise(comparison) else "an arm is better or worse"
    yield f"Not decided: there is no evidence yet that {subject} here."
    low, high = _compatible(decision)
    if math.isfinite(low):
        yield (
            f"The true differences of {metric.name_within} are compatible with {metric.signed(low)} to "
            f"{metric.signed(high)}{metric.unit_suffix}."
        )
    yield from _differences(comparison, decision.with_verdict)


def _choose_later(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield f"Noise changes {_metric(comparison).name_within}, but the data do not show which arm is better."
    yield from _differences(comparison, decision.with_verdict)


def _not_learned(comparison: Comparison, decision: Decision) -> Iterator[str]:  # noqa: ARG001
    yield from comparison.learning.problems


def _compatible(decision: Decision) -> tuple[float, float]:
    """Return the smallest and the largest difference in the intervals of the arms that are not decided."""
    intervals = [one.interval for one in decision.with_verdict.values() if one.verdict == "inconclusive"]
    return min(one.low for one in intervals), max(one.high for one in intervals)


def _no_direction(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield f"{_metric(comparison).name} changes. Neither direction is an improvement by itself."
    yield from _differences(comparison, decision.with_verdict)


def _too_few_seeds(comparison: Comparison, decision: Decision) -> Iterator[str]:
    seeds = max(assessment.comparison.seeds for assessment in decision.checkpoints.values())
    yield "There is no verdict."
    yield f"With {counted(seeds, 'paired seed')} the numbers describe these checkpoints, not the method."
    yield from _differences(comparison, decision.checkpoints)
    yield f"A verdict on the method needs at least {MIN_SEEDS} seeds, preferably 5 (--seeds 5)."


def _no_evidence(comparison: Comparison, decision: Decision) -> Iterator[str]:  # noqa: ARG001
    yield f"There is no verdict on {_metric(comparison).name_within}."


_STATEMENTS: Mapping[Action, Callable[[Comparison, Decision], Iterator[str]]] = {
    "use": _use,
    "stop earlier": _stop_earlier,
    "keep baseline": _keep_baseline,
    "choose later": _choose_later,
    "undecided": _undecided,
    "no direction": _no_direction,
    "too few seeds": _too_few_seeds,
    "not learned": _not_learned,
    "no evidence": _no_evidence,
}


def _arms_without_verdict(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the arms without a verdict, with the reason."""
    if decision.with_verdict and decision.checkpoints:
        arms = listed([_spoken(comparison, arm) for arm in decision.checkpoints])
        yield f"With fewer than {MIN_SEEDS} seeds, the differences of {arms} describe these checkpoints only."
        yield from _differences(comparison, decision.checkpoints)
    for arm in decision.without_verdict:
        estimate = _arm(comparison, arm).estimates.get(comparison.primary)
        reason = missing_verdict_reason(estimate, _spoken(comparison, comparison.baseline))
        yield f"{_capital(_spoken(comparison, arm))} has no verdict, because {reason}."


def _early_stopping(comparison: Comparison) -> Iterator[str]:
    stopping = comparison.early_stopping
    if stopping is None or comparison.primary != HELD_OUT_LOSS:
        return
    metric = comparison.metrics[HELD_OUT_LOSS]
    baseline, *others = stopping.arms
    spoken = _capital(_spoken(comparison, comparison.baseline))
    if baseline.best_epoch == max(stopping.epochs):
        yield f"{spoken} has its lowest loss after the last epoch, so earlier stopping gains nothing."
        return
    epoch = f"epoch {baseline.best_epoch:.1f} of {max(stopping.epochs)}"
    yield f"{spoken} has its lowest {metric.name_within} after {epoch} on average."
    yield from _overtraining(baseline)
    assessed = {arm.name: arm.best for arm in others if arm.best}
    if assessed:
        lowest = min(assessed, key=lambda name: assessed[name].comparison.difference)
        arm = _spoken(comparison, lowest)
        difference = _difference(assessed[lowest].comparison, metric, arm, assessed[lowest].verdict)
        compared = f"{metric.name_within} compared with {_spoken(comparison, comparison.baseline)}"
        yield f"If every arm is stopped at its best epoch, {compared} is {difference}."
        if len(assessed) > 1:
            yield f"{_capital(arm)} has the lowest loss of the {len(assessed)} compared arms."


def _overtraining(baseline: StoppedArm) -> Iterator[str]:
    """Yield the change of the baseline's loss from its best epoch to its last epoch."""
    if baseline.last is not None:
        change = baseline.last.comparison.difference
        verb, verdict = "rises" if change > 0 else "falls", baseline.last.verdict or "no verdict"
        yield f"From its best epoch to its last epoch, its loss {verb} by {abs(change):.4f} nats ({verdict})."


def _side_effects(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the metrics other than the primary one that changed."""
    others = [one for one in comparison.metrics.values() if one.goal and one.key not in _same_as(comparison.primary)]
    worse, better = list(_changed(comparison, others, "worse")), list(_changed(comparison, others, "better"))
    subject = "noise" if _is_about_noise(comparison) else "change"
    if worse:
        yield f"The {subject} makes other metrics worse: {'; '.join(worse)}."
    if better:
        yield f"The {subject} improves other metrics: {'; '.join(better)}."
    if worse or better:
        yield "Each metric is tested separately."
    if others and decision.with_verdict and not worse and not better:
        yield "No other metric is shown to improve or to get worse."


def _changed(comparison: Comparison, metrics: Sequence[Metric], verdict: Verdict) -> Iterator[str]:
    for metric in metrics:
        assessed = ((arm, comparison.assessment(arm.name, metric.key)) for arm in comparison.treated)
        arms = [_spoken(comparison, arm.name) for arm, one in assessed if one and one.verdict == verdict]
        if arms:
            yield f"{metric.name_within} with {listed(arms)}"


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


def _differences(comparison: Comparison, assessed: Mapping[str, Assessment]) -> Iterator[str]:
    """Yield the difference of each arm to the baseline, the best first. A shared verdict is named once."""
    metric = _metric(comparison)
    sign = -1 if metric.goal == "higher" else 1
    best_first = sorted(assessed, key=lambda name: sign * assessed[name].comparison.difference)
    named = {name: one for name, one in assessed.items() if name in best_first[:MAX_NAMED_ARMS]}
    (shared, *others) = {one.verdict for one in named.values()}
    has_one_verdict = len(named) > 1 and not others
    clauses = [
        _difference(
            one.comparison,
            metric,
            _spoken(comparison, name),
            None if has_one_verdict else one.verdict,
            one.interval if one.verdict else None,
        )
        for name, one in named.items()
    ]
    yield f"Compared with {_spoken(comparison, comparison.baseline)}, {metric.name_within} is {listed(clauses)}."
    if has_one_verdict and shared:
        yield f"The verdict is {shared} for {'both' if len(named) == 2 else f'all {len(named)}'} arms."
    if len(assessed) > len(named):
        yield f"The tables have {counted(len(assessed) - len(named), 'more arm')}."


def _difference(
    comparison: PairedComparison,
    metric: Metric,
    arm: str = "",
    verdict: Verdict | None = None,
    bounds: Interval | None = None,
) -> str:
    """Return a difference like `0.012 nats lower with alpha 5 (95% interval -0.020 to -0.004; better)`."""
    direction = "lower" if comparison.difference < 0 else "higher"
    change = f"{metric.amount(comparison.difference)} {direction}" if comparison.difference else "equal"
    ends = bounds or Interval(comparison.ci_low, comparison.ci_high)
    low, high = metric.signed(ends.low), metric.signed(ends.high)
    has_interval = comparison.difference and math.isfinite(ends.low)
    interval = f"{percent(comparison.confidence)} interval {low} to {high}" if has_interval else ""
    details = "; ".join(filter(None, [interval, verdict]))
    return change + (f" with {arm}" if arm else "") + (f" ({details})" if details else "")


def _keep(comparison: Comparison) -> str:
    return "Leave the noise off" if _is_about_noise(comparison) else f"Keep {_spoken(comparison, comparison.baseline)}"


def _is_about_noise(comparison: Comparison) -> bool:
    """Return whether the baseline has no noise and all other arms have noise."""
    baseline = _arm(comparison, comparison.baseline)
    return baseline.alpha == 0 and all(arm.alpha for arm in comparison.studied)


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
