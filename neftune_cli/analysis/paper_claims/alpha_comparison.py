"""Whether the size of the noise matters: every two noisy arms that differ in alpha alone, beside each other."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.paper_claims.claim_data import SWEEP, Case, NotMeasuredError, how_to_measure
from neftune_cli.analysis.paper_claims.claim_tests import Finding
from neftune_cli.analysis.paper_claims.noise_effects import require_finite, seeds_needed
from neftune_cli.analysis.paper_claims.wording import (
    change_words,
    most_detectable_words,
    sample_words,
    undecidable_words,
    unknown_words,
    unshared_words,
)
from neftune_cli.analysis.results import Assessment, Status, Verdict
from neftune_cli.analysis.verdicts import assess
from neftune_cli.formatting import counted, listed
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

_OF_TRAINING = ("train_", "probe_")
_DIFFERENT: frozenset[Verdict | None] = frozenset(("better", "worse", "higher", "lower"))

_Pair = tuple[str, str]
"""The arm with the smaller alpha, and that with the larger."""


def alphas_are_alike(case: Case) -> Finding:
    """Return whether all noisy arms are equivalent on held-out data, after Holm's correction over their pairs.

    Refuted if two of them surely differ and aren't surely within the margin of each other. Pairs of fewer than three
    shared seeds are left out where others have three.

    Raises:
        NotMeasuredError: no two noisy arms differ in alpha alone, or they can't be compared.
    """
    metric = _held_out_metric(case)
    pairs = list(_pairs(case))
    if not pairs:
        what = f"Needs two noisy arms that differ in alpha alone: {SWEEP}."
        raise NotMeasuredError(what + unknown_words(case.unknown))
    shared = _shared(case, metric, pairs)
    judged = assess(
        {_name(pair): _compared(case, metric, one) for pair, one in shared.items()}, metric, case.margin(metric)
    )
    left_out = unshared_words([" with ".join(pair) for pair in pairs if pair not in shared])
    return Finding(_status(judged), _sentence(judged, metric) + left_out + unknown_words(case.unknown))


def _held_out_metric(case: Case) -> Metric:
    """Return the metric that the user asked about, or else the held-out loss, or else the first that is held out."""
    good = [key for key, metric in case.metrics.items() if metric.goal]
    for key in (case.choices.metric or HELD_OUT_LOSS, HELD_OUT_LOSS, *good):
        if key in case.metrics and not key.startswith(_OF_TRAINING):
            return case.metrics[key]
    return case.metric(HELD_OUT_LOSS)


def _pairs(case: Case) -> Iterator[_Pair]:
    arms = sorted(case.noisy, key=case.alpha)
    for first, second in combinations(arms, 2):
        if second in case.like(first) and case.alpha(first) < case.alpha(second):
            yield first, second


def _shared(case: Case, metric: Metric, pairs: Sequence[_Pair]) -> dict[_Pair, AlignedMetric]:
    """Return the pairs that share enough seeds, each over the seeds and items that it shares.

    Raises:
        NotMeasuredError: no pair shares a seed and an item.
    """
    shared = {pair: one for pair in pairs if (one := case.aligned(metric.key, *pair))}
    if not shared:
        what = f"No two noisy arms that differ in alpha alone share a seed and an example with {metric.name_within}"
        raise NotMeasuredError(f"{what}. {how_to_measure(metric.key)}")
    needed = seeds_needed([one.seeds for one in shared.values()])
    return {pair: one for pair, one in shared.items() if len(one.seeds) >= needed}


def _compared(case: Case, metric: Metric, aligned: AlignedMetric) -> PairedComparison:
    """Return the arm with the larger alpha minus the other.

    Raises:
        NotMeasuredError: a value isn't finite.
    """
    require_finite(aligned, metric)
    comparison = aligned.compare(*aligned.values, confidence=case.choices.confidence)
    assert comparison is not None  # all is finite
    return comparison


def _name(pair: _Pair) -> str:
    return f"{pair[1]} minus {pair[0]}"


def _status(judged: Mapping[str, Assessment]) -> Status:
    words = {assessment.verdict for assessment in judged.values()}
    if words & _DIFFERENT:
        return "refuted"
    return "supported" if words == {"equivalent"} else "inconclusive"


def _sentence(judged: Mapping[str, Assessment], metric: Metric) -> str:
    name, furthest = max(judged.items(), key=lambda item: abs(item[1].comparison.difference))
    widest = furthest.comparison
    change = f"{name}, {change_words(widest, metric)} (uncorrected {sample_words(widest, metric)})"
    tally = f"{_tally(judged)} at the margin of {metric.amount(furthest.margin)}, after Holm's correction"
    head = f"{metric.name}, {counted(len(judged), 'pair')} of alphas"
    return f"{head}: {tally}. Furthest apart: {change}.{_open(judged, metric)}"


def _tally(judged: Mapping[str, Assessment]) -> str:
    different = [name for name, assessment in judged.items() if assessment.verdict in _DIFFERENT]
    equivalent = sum(assessment.verdict == "equivalent" for assessment in judged.values())
    which = f" ({listed(different)})" if different else ""
    undecided = len(judged) - len(different) - equivalent
    return f"{equivalent} equivalent, {len(different)} different{which}, {undecided} undecided"


def _open(judged: Mapping[str, Assessment], metric: Metric) -> str:
    """Return why pairs are undecided, each sentence with a space before it; empty where none is."""
    found = most_detectable_words(judged.values(), metric)
    why = undecidable_words({name: assessment.comparison for name, assessment in judged.items()})
    return (f" Between two alphas {found}." if found else "") + (f" {why}" if why else "")
