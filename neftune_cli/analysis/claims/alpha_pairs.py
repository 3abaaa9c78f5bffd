"""Whether the size of the noise matters: every two noisy arms that differ in alpha alone, beside each other."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from neftune_cli.analysis.claims.case import SWEEP, Case, NotMeasuredError
from neftune_cli.analysis.claims.deciding import Finding
from neftune_cli.analysis.claims.wording import amount, change_words, counted, few_seeds, listed, sample_words
from neftune_cli.analysis.judging import judge
from neftune_cli.analysis.results import Judgement, Status, Word
from neftune_cli.evidence.metrics import Metric

_OF_TRAINING = ("train_", "probe_")
_DEFAULT_METRIC = "eval_loss"
_DIFFERENT: frozenset[Word | None] = frozenset(("better", "worse", "higher", "lower"))

_Pair = tuple[str, str]
"""The arm with the smaller alpha, and that with the larger."""


def alphas_are_alike(case: Case) -> Finding:
    """Return whether all noisy arms are equivalent on held-out data, after Holm's correction over their pairs.

    Refuted if two of them surely differ and aren't surely within the margin of each other.

    Raises:
        NotMeasuredError: no two noisy arms differ in alpha alone, or they can't be compared.
    """
    metric = _held_out_metric(case)
    pairs = list(_pairs(case))
    if not pairs:
        raise NotMeasuredError(f"Needs two noisy arms that differ in alpha alone: {SWEEP}.")
    compared = {pair: one for pair in pairs if (one := case.pair(*pair, metric.key))}
    if len(compared) < len(pairs):
        what = f"{listed([' and '.join(pair) for pair in pairs if pair not in compared])} can't be compared"
        raise NotMeasuredError(f"Needs {metric.name} of all noisy arms, but {what}: no shared seed, or not finite.")
    judged = judge({_name(pair): one for pair, one in compared.items()}, metric, case.margin(metric))
    return Finding(_status(judged), _sentence(judged, metric))


def _held_out_metric(case: Case) -> Metric:
    """Return the metric that the user asked about, or else the held-out loss, or else the first that is held out."""
    good = [key for key, metric in case.metrics.items() if metric.goal]
    for key in (case.choices.metric or _DEFAULT_METRIC, _DEFAULT_METRIC, *good):
        if key in case.metrics and not key.startswith(_OF_TRAINING):
            return case.metrics[key]
    return case.metric(_DEFAULT_METRIC)


def _pairs(case: Case) -> Iterator[_Pair]:
    arms = sorted(case.noisy, key=case.alpha)
    for first, second in combinations(arms, 2):
        if second in case.like(first) and case.alpha(first) < case.alpha(second):
            yield first, second


def _name(pair: _Pair) -> str:
    return f"{pair[1]} minus {pair[0]}"


def _status(judged: Mapping[str, Judgement]) -> Status:
    words = {judgement.word for judgement in judged.values()}
    if None in words:
        return "inconclusive"
    if words & _DIFFERENT:
        return "refuted"
    return "supported" if words == {"equivalent"} else "inconclusive"


def _sentence(judged: Mapping[str, Judgement], metric: Metric) -> str:
    name, furthest = max(judged.items(), key=lambda item: abs(item[1].comparison.difference))
    widest = furthest.comparison
    change = f"{name}, {change_words(widest, metric)} (uncorrected {sample_words(widest, metric)})"
    head = f"{metric.name}, {counted(len(judged), 'pair')} of alphas"
    if None in {judgement.word for judgement in judged.values()}:
        return f"{head}. Furthest apart: {change}. {few_seeds(min(one.comparison.seeds for one in judged.values()))}"
    tally = f"{_tally(judged)} at the margin of {amount(furthest.margin, metric)}, after Holm's correction"
    return f"{head}: {tally}. Furthest apart: {change}.{_detectable(judged, metric)}"


def _tally(judged: Mapping[str, Judgement]) -> str:
    different = [name for name, judgement in judged.items() if judgement.word in _DIFFERENT]
    equivalent = sum(judgement.word == "equivalent" for judgement in judged.values())
    which = f" ({listed(different)})" if different else ""
    undecided = len(judged) - len(different) - equivalent
    return f"{equivalent} equivalent, {len(different)} different{which}, {undecided} undecided"


def _detectable(judged: Mapping[str, Judgement], metric: Metric) -> str:
    sizes = [judgement.detectable for judgement in judged.values() if judgement.word == "inconclusive"]
    if not sizes:
        return ""
    size = amount(max(sizes), metric)
    return f" Between two alphas a true difference of {size} would be found four times out of five."
