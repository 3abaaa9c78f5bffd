"""Which noisy arms are taken together: those that share enough seeds, so that one unfinished arm doesn't silence all.

Seeds alone decide, never what was measured, so that no arm is left out for its results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neftune_cli.analysis.aligned import Aligned
from neftune_cli.analysis.claims.case import Case
from neftune_cli.analysis.claims.not_measured import NotMeasuredError, how_to_measure
from neftune_cli.analysis.claims.wording import arm_words
from neftune_cli.analysis.paired import FEWEST_SEEDS
from neftune_cli.analysis.wording import listed
from neftune_cli.evidence.metrics import Metric

_Seeds = frozenset[int]


@dataclass(frozen=True)
class Pool:
    """One metric of the reference and of noisy arms that can be taken together."""

    aligned: Aligned
    """The reference first; every value finite."""
    left_out: tuple[str, ...]
    """Noisy arms that share too few seeds."""


def pool(case: Case, key: str, noisy: Sequence[str]) -> Pool:
    """Return the reference with those of the noisy arms that share three seeds with it and with each other.

    Where no arm shares three seeds with the reference, those that share the most are taken.

    Raises:
        NotMeasuredError: the metric wasn't measured in arms that can be compared, or isn't finite.
    """
    kept = _together(sharing(case, key, noisy))
    aligned = case.aligned(key, case.reference, *kept)
    if aligned is None:
        raise NotMeasuredError(_no_items(case, case.metric(key), kept))
    require_finite(aligned, case.metric(key))
    return Pool(aligned, tuple(arm for arm in noisy if arm not in kept))


def sharing(case: Case, key: str, noisy: Sequence[str]) -> dict[str, _Seeds]:
    """Return the noisy arms that share enough seeds with the reference, with these seeds.

    Raises:
        NotMeasuredError: none shares a seed and an item with it.
    """
    metric = case.metric(key)
    pairs = {arm: one for arm in noisy if (one := case.aligned(key, case.reference, arm))}
    if not pairs:
        raise NotMeasuredError(_why_none(case, metric, noisy))
    needed = seeds_needed([one.seeds for one in pairs.values()])
    return {arm: frozenset(one.seeds) for arm, one in pairs.items() if len(one.seeds) >= needed}


def seeds_needed(shared: Sequence[Sequence[int]]) -> int:
    """Return how many shared seeds an arm or a pair needs to be looked at: three, or as many as the best one has."""
    return min(FEWEST_SEEDS, max(map(len, shared)))


def require_finite(aligned: Aligned, metric: Metric) -> None:
    """Check that every value is a number.

    Raises:
        NotMeasuredError: one isn't.
    """
    broken = [arm for arm in aligned.arms if not np.isfinite(aligned.arm(arm)).all()]
    if broken:
        fix = "use a lower learning rate or less noise"
        raise NotMeasuredError(f"{metric.name} isn't finite in a trial of {listed(broken)}: {fix}.")


def _together(shared: Mapping[str, _Seeds]) -> tuple[str, ...]:
    """Return the arms without those of the fewest seeds, as many as it takes for the others to share enough."""
    kept, needed = dict(shared), seeds_needed([sorted(seeds) for seeds in shared.values()])
    while len(frozenset.intersection(*kept.values())) < needed:
        del kept[min(reversed(kept), key=lambda arm: len(kept[arm]))]
    return tuple(kept)


def _why_none(case: Case, metric: Metric, noisy: Sequence[str]) -> str:
    """Return why no noisy arm can be compared with the reference."""
    reference = case.seeds(case.reference, metric.key)
    noise = frozenset[int]().union(*(case.seeds(arm, metric.key) for arm in noisy))
    if not reference or not noise:
        lacking = arm_words(noisy) if reference else case.reference
        return f"No trial of {lacking} has {metric.name_within}. {how_to_measure(metric.key)}"
    if not reference & noise:
        what = f"{case.reference} and {arm_words(noisy)} share no seed with {metric.name_within}"
        return f"{what}: run the missing seeds."
    return _no_items(case, metric, noisy)


def _no_items(case: Case, metric: Metric, noisy: Sequence[str]) -> str:
    what = f"{case.reference} and {arm_words(noisy)} share no example with {metric.name_within}"
    return f"{what}: measure all trials on the same examples."
