"""The verdict in plain words: what to do, what it rests on, what it costs and for whom it holds."""

import math
from collections.abc import Iterator, Sequence

from neftune_cli.analysis.paired import FEWEST_SEEDS, PairedComparison
from neftune_cli.analysis.results import Comparison, Judgement, StoppedArm
from neftune_cli.evidence.metrics import Metric

MOST_SEEDS_ADVISED = 30
"""More seeds than that are called too many to be worth it."""


def advice(comparison: Comparison) -> str:
    """Return one paragraph that says what the data support and no more."""
    if not comparison.treated:
        return f"{comparison.baseline} is the only arm that has finished: there is nothing to compare it with."
    sentences = [*_decision(comparison), *_stopping(comparison), *_side_effects(comparison), _reach(comparison)]
    return " ".join(sentences)


def difference_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return a difference with its interval, like `lower by 0.012 nats (95% interval -0.020 to -0.004)`."""
    if comparison.difference == 0:
        return "equal"
    side = "lower" if comparison.difference < 0 else "higher"
    interval = _interval(comparison, metric)
    return f"{side} by {_amount(abs(comparison.difference), metric)}" + (f" ({interval})" if interval else "")


def _decision(comparison: Comparison) -> Iterator[str]:
    metric = comparison.metrics[comparison.primary]
    judged = {arm.name: one for arm in comparison.treated if (one := comparison.judgement(arm.name, metric.key))}
    words = {judgement.word for judgement in judged.values()}
    if not judged:
        yield f"No verdict: {metric.name_within} can't be compared in any pair of seeds."
    elif words == {None}:
        yield from _checkpoints_only(comparison, judged, metric)
    elif metric.goal is None and words & {"higher", "lower"}:
        yield f"{metric.name} changes, and neither way is good by itself: {_listed(judged, comparison, metric)}."
    elif "better" in words:
        yield from _use(comparison, judged, metric)
    elif words <= {"worse", "equivalent"}:
        yield f"Leave the noise off: {_listed(judged, comparison, metric)}."
    else:
        yield from _undecided(comparison, judged, metric)


def _checkpoints_only(comparison: Comparison, judged: "_Judged", metric: Metric) -> Iterator[str]:
    seeds = max(judgement.comparison.seeds for judgement in judged.values())
    yield (
        f"No verdict on the noise: with {seeds} paired seed{'' if seeds == 1 else 's'} the numbers speak about these "
        f"checkpoints alone. Between them: {_listed(judged, comparison, metric)}."
    )
    yield f"Run at least {FEWEST_SEEDS} seeds (--seeds 5) to learn about the method."


def _use(comparison: Comparison, judged: "_Judged", metric: Metric) -> Iterator[str]:
    better = [name for name, judgement in judged.items() if judgement.word == "better"]
    sign = 1 if metric.goal == "lower" else -1
    arm = min(better, key=lambda name: sign * judged[name].comparison.difference)
    stopped = _stopped_arm(comparison, arm)
    if stopped and stopped.best and stopped.best.word not in ("better", None):
        yield f"Stop earlier before you add noise: at the last epoch {_listed(judged, comparison, metric)}."
    else:
        yield f"Use {_spoken(comparison, arm)}: {_listed(judged, comparison, metric)}."
    best = comparison.best
    if best and best.arm == arm and math.isfinite(best.gain.ci_low):
        yield (
            f"The best of {len(comparison.treated)} arms looks better than it is; chosen on some seeds and items and "
            f"measured on others, {metric.name_within} is {difference_words(best.gain, metric)}."
        )


def _undecided(comparison: Comparison, judged: "_Judged", metric: Metric) -> Iterator[str]:
    needed = {name: one.seeds_needed for name, one in judged.items() if one.seeds_needed}
    nearest = min(needed, key=needed.__getitem__) if needed else None
    more = needed[nearest] - judged[nearest].comparison.seeds if nearest else None
    if nearest and more and more <= MOST_SEEDS_ADVISED:
        yield (
            f"Run about {_counted(more, 'more seed')} before deciding (--seeds {needed[nearest]}): they would settle "
            f"{_spoken(comparison, nearest)}, if its difference is as large as it looks."
        )
    else:
        yield _open_question(judged, metric)
        if nearest:
            yield f"It would take about {needed[nearest]} seeds in all to settle {_spoken(comparison, nearest)}."
        else:
            yield "More seeds alone would not settle it."
    yield f"So far, {_listed(judged, comparison, metric)}."


def _open_question(judged: "_Judged", metric: Metric) -> str:
    """Return what the seeds leave open, and which effect would hardly have escaped them."""
    open_ = [judgement for judgement in judged.values() if judgement.word == "inconclusive"]
    widest = max(open_, key=lambda judgement: judgement.detectable)
    return (
        f"Leave the noise off for now: {_counted(widest.comparison.seeds, 'seed')} show neither that it helps nor that "
        f"it changes {metric.name_within} by less than {_amount(widest.margin, metric)}, though a true change of "
        f"{_amount(widest.detectable, metric)} would most likely have been seen."
    )


def _stopping(comparison: Comparison) -> Iterator[str]:
    stopping = comparison.early_stopping
    if stopping is None or comparison.primary != "eval_loss":
        return
    metric, (baseline, *others) = comparison.metrics["eval_loss"], stopping.arms
    if baseline.last is None or baseline.last.comparison.difference <= 0:
        spoken = _spoken(comparison, comparison.baseline)
        yield f"Stopping {spoken} earlier would not have helped: it is best at its last epoch."
        return
    yield (
        f"{_capital(_spoken(comparison, comparison.baseline))} itself is best at epoch {baseline.best_epoch:.1f} of "
        f"{max(stopping.epochs)} on average; after the last one its loss is "
        f"{difference_words(baseline.last.comparison, metric)}."
    )
    judged = [arm for arm in others if arm.best]
    if judged:
        arm = min(judged, key=lambda one: one.best_loss)
        assert arm.best is not None
        yield (
            f"Beside that early-stopped baseline the best arm, {_spoken(comparison, arm.name)} at its own best epoch, "
            f"is {difference_words(arm.best.comparison, metric)}{_verdict_behind(arm.best)}."
        )


def _side_effects(comparison: Comparison) -> Iterator[str]:
    """Yield what the noise cost or brought beside the metric that the decision is about."""
    others = [one for one in comparison.metrics.values() if one.goal and one.key not in _same_as(comparison.primary)]
    worse, better = (list(_changed(comparison, others, word)) for word in ("worse", "better"))
    if worse:
        yield f"What the noise cost, each metric tested by itself: {'; '.join(worse)}."
    if better:
        yield f"What it brought beside, each metric tested by itself: {'; '.join(better)}."
    if others and not worse and not better and _has_verdicts(comparison):
        yield "No other metric with a good direction is shown to get better or worse."


def _changed(comparison: Comparison, metrics: Sequence[Metric], word: str) -> Iterator[str]:
    for metric in metrics:
        judged = ((arm, comparison.judgement(arm.name, metric.key)) for arm in comparison.treated)
        arms = [_spoken(comparison, arm.name) for arm, judgement in judged if judgement and judgement.word == word]
        if arms:
            yield f"{metric.name} {word} with {_joined(arms)}"


def _reach(comparison: Comparison) -> str:
    seeds = sorted({seed for arm in comparison.arms for seed in arm.seeds})
    over = f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
    judged = [comparison.judgement(arm.name, comparison.primary) for arm in comparison.treated]
    subject = "This holds" if any(one and one.word for one in judged) else "The numbers are"
    return (
        f"{subject} for {comparison.setting.words}, over {over}; another model, data set or recipe needs its own sweep."
    )


_Judged = dict[str, Judgement]
"""Arm to judgement."""


def _listed(judged: _Judged, comparison: Comparison, metric: Metric) -> str:
    """Return what each arm shows, the metric and the baseline named once."""
    clauses = [
        f"{_spoken(comparison, name)} is {difference_words(judgement.comparison, metric)}{_verdict_behind(judgement)}"
        for name, judgement in judged.items()
    ]
    return f"{metric.name_within} beside {_spoken(comparison, comparison.baseline)}: {'; '.join(clauses)}"


def _verdict_behind(judgement: Judgement) -> str:
    return f", {judgement.word}" if judgement.word else ""


def _interval(comparison: PairedComparison, metric: Metric) -> str:
    if not math.isfinite(comparison.ci_low):
        return ""
    low, high = metric.signed(comparison.ci_low), metric.signed(comparison.ci_high)
    return f"{comparison.confidence:.0%} interval {low} to {high}"


def _amount(value: float, metric: Metric) -> str:
    smallest = 10.0**-metric.decimals
    number = metric.number(value) if value >= smallest / 2 else f"less than {metric.number(smallest)}"
    return f"{number} nats" if metric.unit.endswith("nats") else number


def _spoken(comparison: Comparison, name: str) -> str:
    """Return an arm's name as a sentence has it: `alpha 5` for `alpha=5`."""
    arm = next((arm for arm in comparison.arms if arm.name == name), None)
    plain = arm is not None and arm.alpha is not None and name == f"alpha={arm.alpha:g}"
    return name.replace("=", " ") if plain else name


def _stopped_arm(comparison: Comparison, name: str) -> StoppedArm | None:
    arms = comparison.early_stopping.arms if comparison.early_stopping else ()
    return next((arm for arm in arms if arm.name == name), None)


def _same_as(key: str) -> tuple[str, ...]:
    """Return the metrics that tell the same: perplexity is the loss on another scale."""
    losses = ("eval_loss", "eval_perplexity")
    return losses if key in losses else (key,)


def _has_verdicts(comparison: Comparison) -> bool:
    return any(
        one.judgement and one.judgement.word for arm in comparison.treated for one in arm.estimates.values() if one
    )


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
