"""Advice: a paragraph with the recommended action, the evidence for it, its side effects and its scope."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from neftune_cli.analysis.best_arm import advantage_interval, on_shared_seeds, splits_sentence, stopping_bias
from neftune_cli.analysis.decision import Action, Decision, continuation, control_findings, decide, stopped_arm
from neftune_cli.analysis.headline import MOST_NAMED_ARMS, headline, only_finished
from neftune_cli.analysis.results import Assessment, Comparison, Interval, StoppedArm, Verdict
from neftune_cli.analysis.verdicts import missing_verdict_reason
from neftune_cli.config.arm_names import spoken_name
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.formatting import capitalized, counted, listed, percent
from neftune_cli.metrics import Metric


def advice(comparison: Comparison) -> str:
    """Return one paragraph with the statements that the data support."""
    if not comparison.studied:
        return f"{only_finished(comparison, comparison.baseline)}, so there is no comparison."
    decision = decide(comparison)
    return " ".join(
        [
            *_STATEMENTS[decision.action](comparison, decision),
            *_arms_without_verdict(comparison, decision),
            *_roles(comparison, decision),
            *_early_stopping(comparison),
            *_side_effects(comparison, decision),
            *(one.sentence for one in comparison.departures),
            _scope(comparison, decision),
        ]
    )


def _use(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    arm = spoken_name(decision.arm)
    if _can_train_baseline(comparison):
        yield f"Train the baseline {spoken_name(comparison.default_baseline)} before you use {arm}."
    elif comparison.origin.lacks_declared_trials:
        yield f"Finish the sweep before you use {arm}."
    else:
        yield f"Test {arm} in a new sweep before you use it." if comparison.departures else f"Use {arm}."
    yield from _differences(comparison, decision.with_verdict)
    yield from stopping_bias(comparison, decision.arm)
    best, is_declared = comparison.best, decision.with_verdict[decision.arm].role == "primary"
    if best and best.arm == decision.arm and math.isfinite(best.advantage.ci_low) and not is_declared:
        start = capitalized(f"{on_shared_seeds(comparison)}{spoken_name(best.arm)}")
        yield (
            f"{start} is the best of {len(best.chosen)} arms, so its difference has a selection bias (winner's curse). "
            f"{splits_sentence(best)} In the splits that selected it, {comparison.metric.name_within} on the other "
            f"half was on average {_change(best.advantage.difference, comparison.metric)} "
            f"({advantage_interval(best.advantage, comparison.metric)})."
        )


def _stop_earlier(comparison: Comparison, decision: Decision) -> Iterator[str]:
    assert decision.arm is not None
    stopped = stopped_arm(comparison.primary_early_stopping, decision.arm)
    arm, baseline = spoken_name(decision.arm), spoken_name(comparison.baseline)
    if stopped and stopped.best and stopped.best.verdict in ("equivalent", "worse"):
        alternative = "adding noise" if comparison.about_noise else "another change"
        shown = "equivalent to" if stopped.best.verdict == "equivalent" else "better than"
        yield from _recommended(comparison, f"Stop training earlier instead of {alternative}.")
        yield f"At their best epochs, {baseline} is {shown} {arm}."
    else:
        either = f"whether {arm} or shorter training of {baseline}" if comparison.departures else "which of the two"
        yield from _recommended(comparison, f"Stop training earlier or use {arm}.")
        yield f"The data do not show {either} is better."
    yield "The differences after the last epoch follow."
    yield from _differences(comparison, decision.with_verdict)


def _keep_baseline(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield from _recommended(comparison, f"{_keep(comparison)}.")
    yield from _differences(comparison, decision.with_verdict)


def _undecided(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield headline(comparison).text
    yield from _differences(comparison, decision.with_verdict)


def _not_learned(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield headline(comparison).text
    yield from comparison.learning.problems
    yield from _differences(comparison, decision.with_verdict)


def _no_direction(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield f"{comparison.metric.name} changes. Neither direction is an improvement by itself."
    yield from _differences(comparison, decision.with_verdict)


def _too_few_seeds(comparison: Comparison, decision: Decision) -> Iterator[str]:
    yield headline(comparison).text
    yield from _differences(comparison, decision.with_verdict or decision.with_few_seeds)


def _no_evidence(comparison: Comparison, decision: Decision) -> Iterator[str]:
    if decision.with_verdict:  # of exploratory arms
        yield headline(comparison).text
        yield from _differences(comparison, decision.with_verdict)
    else:
        yield f"There is no verdict on {comparison.metric.name_within}."


_STATEMENTS: Mapping[Action, Callable[[Comparison, Decision], Iterator[str]]] = {
    "use": _use,
    "stop earlier": _stop_earlier,
    "keep baseline": _keep_baseline,
    "choose later": _undecided,
    "undecided": _undecided,
    "no direction": _no_direction,
    "too few seeds": _too_few_seeds,
    "not learned": _not_learned,
    "no evidence": _no_evidence,
}


def _arms_without_verdict(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the arms without a verdict, with the reason."""
    if decision.with_verdict and decision.with_few_seeds:
        arms = listed([spoken_name(arm) for arm in decision.with_few_seeds])
        yield f"With fewer than {MIN_SEEDS} seeds, the differences of {arms} describe these trained models only."
        yield from _differences(comparison, decision.with_few_seeds)
    for arm in decision.without_verdict:
        estimate = comparison.arm(arm).estimates.get(comparison.primary)
        reason = missing_verdict_reason(estimate, spoken_name(comparison.baseline))
        yield f"{capitalized(spoken_name(arm))} has no verdict, because {reason}."


def _roles(comparison: Comparison, decision: Decision) -> Iterator[str]:
    if exploratory := [arm for arm, one in decision.with_verdict.items() if one.role == "exploratory"]:
        named = listed([spoken_name(arm) for arm in exploratory])
        are, verdicts = ("is", "verdict is") if len(exploratory) == 1 else ("are", "verdicts are")
        yield f"{capitalized(named)} {are} exploratory: the {verdicts} a hypothesis."
    for one in control_findings(comparison):
        if not one.is_expected:
            yield f"{capitalized(one.sentence)}."


def _early_stopping(comparison: Comparison) -> Iterator[str]:
    stopping, metric = comparison.primary_early_stopping, comparison.metric
    if stopping is None or math.isnan(stopping.arms[0].best_epoch):
        return
    baseline, *others = stopping.arms
    spoken = capitalized(spoken_name(comparison.baseline))
    if baseline.best_epoch == max(stopping.epochs):
        yield f"{spoken} has its lowest loss after the last epoch, so stopping it earlier does not lower its loss."
        return
    epoch = f"epoch {baseline.best_epoch:.1f} of {max(stopping.epochs)}"
    yield f"{spoken} has its lowest {metric.name_within} after {epoch} on average."
    yield from _overtraining(baseline)
    assessed = {arm.name: arm.best for arm in others if arm.best}
    if assessed:
        lowest = min(assessed, key=lambda name: assessed[name].paired.difference)
        arm = spoken_name(lowest)
        difference = _assessed(assessed[lowest], metric, arm)
        compared = f"{metric.name_within} compared with {spoken_name(comparison.baseline)}"
        yield f"If every arm is stopped at its best epoch, {compared} is {difference}."
        if len(assessed) > 1:
            yield f"{capitalized(arm)} is the best of {len(assessed)} arms, so this difference has a selection bias."


def _overtraining(baseline: StoppedArm) -> Iterator[str]:
    """Yield the change of the baseline's loss from its best epoch to its last epoch."""
    if baseline.last is not None:
        change = baseline.last.paired.difference
        verb, verdict = "rises" if change > 0 else "falls", baseline.last.verdict or "no verdict"
        yield f"From its best epoch to its last epoch, its loss {verb} by {abs(change):.4f} nats ({verdict})."


def _side_effects(comparison: Comparison, decision: Decision) -> Iterator[str]:
    """Yield the metrics other than the primary one that changed."""
    others = [one for one in comparison.other_metrics if one.goal]
    worse, better = list(_changed(comparison, others, "worse")), list(_changed(comparison, others, "better"))
    if worse:
        yield f"Other metrics are worse: {'; '.join(worse)}."
    if better:
        yield f"Other metrics are better: {'; '.join(better)}."
    if worse or better:
        yield "The tests are not adjusted for the number of metrics."
    if others and decision.with_verdict and not worse and not better:
        yield "No other metric has the verdict better or worse."


def _changed(comparison: Comparison, metrics: Sequence[Metric], verdict: Verdict) -> Iterator[str]:
    for metric in metrics:
        assessed = comparison.assessments(metric.key).items()
        arms = [spoken_name(arm) for arm, one in assessed if one.verdict == verdict and one.role != "control"]
        if arms:
            yield f"{metric.name_within} with {listed(arms)}"


def _scope(comparison: Comparison, decision: Decision) -> str:
    used = decision.with_verdict or decision.with_few_seeds
    seeds = {_compared_seeds(comparison, name, one) for name, one in used.items()}
    over = f", {_seed_words(seeds)}" if seeds else ""
    return f"Scope: {comparison.setting.description}{over}. Another model, data set or recipe needs its own sweep."


def _seed_words(seeds: set[tuple[int, ...]]) -> str:
    if len(seeds) == 1:
        (shared,) = seeds
        return f"seed{'' if len(shared) == 1 else 's'} {', '.join(map(str, shared))}"
    counts = [len(of_arm) for of_arm in seeds]
    number = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    return f"{number} seeds per arm"


def _compared_seeds(comparison: Comparison, arm: str, assessment: Assessment) -> tuple[int, ...]:
    """Return the seeds that an arm shares with the baseline, at planned looks those until the last look at it.

    Before the first look, these are the planned seeds that both have.
    """
    estimate, plan = comparison.arm(arm).estimates.get(comparison.primary), comparison.declared
    paired = estimate.difference.by_seed if estimate and estimate.difference else {}
    if not plan.has_planned_looks:
        return tuple(paired)
    planned = plan.seeds_until(assessment.looks_taken) if assessment.looks_taken else plan.seeds
    return tuple(seed for seed in paired if seed in planned)


def _differences(comparison: Comparison, assessed: Mapping[str, Assessment]) -> Iterator[str]:
    """Yield the difference of each arm from the baseline. A shared verdict is named once.

    Of more than `MOST_NAMED_ARMS` arms, those with the best differences are named.
    """
    if not assessed:
        return
    metric = comparison.metric
    sign = -1 if metric.goal == "higher" else 1
    best_first = sorted(assessed, key=lambda name: sign * assessed[name].paired.difference)
    named = {name: one for name, one in assessed.items() if name in best_first[:MOST_NAMED_ARMS]}
    (shared, *others) = {one.verdict for one in named.values()}
    has_one_verdict = len(named) > 1 and not others
    clauses = [
        _assessed(one, metric, spoken_name(name), has_verdict=not has_one_verdict) for name, one in named.items()
    ]
    yield f"Compared with {spoken_name(comparison.baseline)}, {metric.name_within} is {listed(clauses)}."
    if has_one_verdict and shared:
        which = "both" if len(named) == 2 else f"{'these' if len(assessed) > len(named) else 'all'} {len(named)}"
        yield f"The verdict is {shared} for {which} arms."
    if len(assessed) > len(named):
        yield f"The tables have {counted(len(assessed) - len(named), 'more arm')}."


def _assessed(assessment: Assessment, metric: Metric, arm: str, *, has_verdict: bool = True) -> str:
    """Return a difference like `0.012 nats lower with alpha 5 (95% interval -0.020 to -0.004; better)`.

    The interval is the one that matches the verdict: simultaneous, and for equivalence the one that it is tested by.
    """
    one, confidence = assessment.paired, assessment.paired.confidence
    if assessment.verdict == "equivalent":
        bounds, confidence = assessment.equivalence_interval, 2 * confidence - 1
    else:
        bounds = assessment.interval if assessment.verdict else Interval(one.ci_low, one.ci_high)
    details = [_interval(one.difference, bounds, confidence, metric), (has_verdict and assessment.verdict) or ""]
    within = "; ".join(filter(None, details))
    return f"{_change(one.difference, metric)} with {arm}" + (f" ({within})" if within else "")


def _change(difference: float, metric: Metric) -> str:
    return f"{metric.amount(difference)} {'lower' if difference < 0 else 'higher'}" if difference else "equal"


def _interval(difference: float, bounds: Interval, confidence: float, metric: Metric) -> str:
    if not difference or not math.isfinite(bounds.low):
        return ""
    return f"{percent(confidence)} interval {metric.signed(bounds.low)} to {metric.signed(bounds.high)}"


def _recommended(comparison: Comparison, recommendation: str) -> Iterator[str]:
    """Yield a recommendation. A comparison that differs from the declared one is exploratory and recommends nothing."""
    if _can_train_baseline(comparison):
        yield f"Train the baseline {spoken_name(comparison.default_baseline)} first."
    elif not comparison.departures:
        yield recommendation


def _can_train_baseline(comparison: Comparison) -> bool:
    """Return whether the baseline of the sweep has no trial yet, and the sweep command trains it."""
    without_baseline = comparison.default_baseline in comparison.arms_without_trials
    return without_baseline and continuation(comparison) == "missing trials"


def _keep(comparison: Comparison) -> str:
    return "Leave the noise off" if comparison.about_noise else f"Keep {spoken_name(comparison.baseline)}"
