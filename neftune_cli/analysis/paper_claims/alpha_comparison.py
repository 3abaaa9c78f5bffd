"""Pairwise comparison of the noisy arms that differ only in alpha, for the claim that all alphas are alike."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.paper_claims.claim_data import (
    SWEEP,
    ClaimData,
    NotMeasuredError,
    excluded_seeds_sentence,
    unknown_recipe_sentence,
)
from neftune_cli.analysis.paper_claims.claim_tests import (
    ClaimOutcome,
    change_text,
    sample_text,
    untestable_sentences,
)
from neftune_cli.analysis.paper_claims.noise_effects import min_shared_seeds, require_finite
from neftune_cli.analysis.results import DIFFERENT, Assessment, Status, Verdict
from neftune_cli.analysis.verdicts import assess
from neftune_cli.formatting import counted, listed
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

_TRAINING_PREFIXES = ("train_", "probe_")
_DIFFERENT: frozenset[Verdict | None] = frozenset(DIFFERENT)

_Pair = tuple[str, str]
"""Names of the arm with the smaller alpha and of the arm with the larger alpha."""


def alphas_are_alike(data: ClaimData) -> ClaimOutcome:
    """Test whether all noisy arms are equivalent on held-out data, with p-values Hommel-adjusted over the pairs.

    Refuted if a pair is significantly different and not shown to be within the margin. Pairs with fewer than three
    shared seeds are excluded if other pairs have three.

    Raises:
        NotMeasuredError: no two noisy arms differ only in alpha, or they cannot be compared.
    """
    metric = _held_out_metric(data)
    pairs = list(_pairs(data))
    if not pairs:
        need = f"This claim needs two arms with noise that differ only in alpha: `{SWEEP}`."
        raise NotMeasuredError(need + unknown_recipe_sentence(data.unknown))
    shared = _shared(data, metric, pairs)
    assessed = assess(
        {_name(pair): _compared(data, metric, one) for pair, one in shared.items()}, metric, data.margin(metric)
    )
    excluded = excluded_seeds_sentence([" with ".join(pair) for pair in pairs if pair not in shared])
    return ClaimOutcome(_status(assessed), _text(assessed, metric) + excluded + unknown_recipe_sentence(data.unknown))


def _held_out_metric(data: ClaimData) -> Metric:
    """Return the primary metric that the user set, or the held-out loss, or the first held-out metric."""
    with_direction = [key for key, metric in data.metrics.items() if metric.goal]
    for key in (data.options.metric or HELD_OUT_LOSS, HELD_OUT_LOSS, *with_direction):
        if key in data.metrics and not key.startswith(_TRAINING_PREFIXES):
            return data.metrics[key]
    return data.metric(HELD_OUT_LOSS)


def _pairs(data: ClaimData) -> Iterator[_Pair]:
    arms = sorted(data.noisy, key=data.alpha)
    for first, second in combinations(arms, 2):
        if second in data.same_noise(first) and data.alpha(first) < data.alpha(second):
            yield first, second


def _shared(data: ClaimData, metric: Metric, pairs: Sequence[_Pair]) -> dict[_Pair, AlignedMetric]:
    """Return the pairs that share enough seeds, each over its shared seeds and items.

    Raises:
        NotMeasuredError: no pair shares a seed and an item.
    """
    shared = {pair: one for pair in pairs if (one := data.aligned(metric.key, *pair))}
    if not shared:
        found = (
            f"No two arms with noise that differ only in alpha have {metric.name_within} for a common seed and example"
        )
        raise NotMeasuredError(f"{found}. {data.advice(metric.key)}")
    needed = min_shared_seeds([one.seeds for one in shared.values()])
    return {pair: one for pair, one in shared.items() if len(one.seeds) >= needed}


def _compared(data: ClaimData, metric: Metric, aligned: AlignedMetric) -> PairedComparison:
    """Return the arm with the larger alpha minus the other arm.

    Raises:
        NotMeasuredError: a value is not finite.
    """
    require_finite(aligned, metric)
    comparison = aligned.compare(*aligned.values, confidence=data.options.confidence)
    assert comparison is not None  # all values are finite
    return comparison


def _name(pair: _Pair) -> str:
    return f"{pair[1]} minus {pair[0]}"


def _status(assessed: Mapping[str, Assessment]) -> Status:
    verdicts = {assessment.verdict for assessment in assessed.values()}
    if verdicts & _DIFFERENT:
        return "refuted"
    return "supported" if verdicts == {"equivalent"} else "inconclusive"


def _text(assessed: Mapping[str, Assessment], metric: Metric) -> str:
    name, largest = max(assessed.items(), key=lambda item: abs(item[1].paired.difference))
    sample = sample_text(largest.paired, metric)
    difference = f"{name}, {change_text(largest.paired, metric)} (unadjusted {sample})"
    margin = metric.amount(largest.margin)
    verdicts = f"{_tally(assessed)} at the margin of {margin}, with p-values adjusted by Hommel's method"
    pairs = f"{metric.name}, {counted(len(assessed), 'pair')} of alphas"
    return f"{pairs}: {verdicts}. Largest difference: {difference}.{_untestable(assessed)}"


def _tally(assessed: Mapping[str, Assessment]) -> str:
    different = [name for name, assessment in assessed.items() if assessment.verdict in _DIFFERENT]
    equivalent = sum(assessment.verdict == "equivalent" for assessment in assessed.values())
    names = f" ({listed(different)})" if different else ""
    inconclusive = len(assessed) - len(different) - equivalent
    return f"{equivalent} equivalent, {len(different)} different{names}, {inconclusive} inconclusive"


def _untestable(assessed: Mapping[str, Assessment]) -> str:
    """Return sentences on pairs that cannot be tested, after a space. Empty without such pairs."""
    untestable = untestable_sentences({name: assessment.paired for name, assessment in assessed.items()})
    return f" {untestable}" if untestable else ""
