"""From one change with its interval to the status of a claim about it, and the sentences that say why."""

import math
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.claims.contrasts import Contrast
from neftune_cli.analysis.claims.wording import amount, change_words, detectable_words, few_seeds, sample_words
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import Status

Side = Literal["higher", "lower"]


@dataclass(frozen=True)
class Finding:
    """What the data say of a claim."""

    status: Status
    here: str
    comparison: PairedComparison | None = None


_Decision = tuple[Status, str]
"""A status, and why it is that."""


def moves(contrast: Contrast, side: Side) -> Finding:
    """Return whether a metric moves to the claimed side.

    Supported if the interval lies wholly on that side and the change isn't surely within the margin; refuted if it lies
    wholly on the other side, or if the change is surely within the margin.
    """
    return _finding(contrast, _undecidable(contrast) or _moves(contrast, side))


def stays(contrast: Contrast) -> Finding:
    """Return whether a metric stays what it is: two one-sided tests at the margin.

    Refuted if the change is surely not zero and not surely within the margin.
    """
    return _finding(contrast, _undecidable(contrast) or _stays(contrast))


def does_not_rise(contrast: Contrast) -> Finding:
    """Return whether a metric rises by no more than the margin (non-inferiority).

    Supported if the interval ends below the margin; refuted if it begins above zero and doesn't.
    """
    return _finding(contrast, _undecidable(contrast) or _does_not_rise(contrast))


def _finding(contrast: Contrast, decision: _Decision) -> Finding:
    status, why = decision
    comparison, metric = contrast.comparison, contrast.metric
    beside = f"{contrast.reference}; {sample_words(comparison, metric)}"
    change = f"{change_words(comparison, metric)} ({beside})"
    more = f"; {contrast.more}" if contrast.more else ""
    return Finding(status, f"{metric.name}, {contrast.what}: {change}{more}. {why}", comparison)


def _undecidable(contrast: Contrast) -> _Decision | None:
    if contrast.comparison.about != "method":
        return "inconclusive", few_seeds(contrast.comparison.seeds)
    if not math.isfinite(contrast.comparison.ci_low):
        return "inconclusive", "Undecided: nothing says how sure the number is."
    return None


def _moves(contrast: Contrast, side: Side) -> _Decision:
    if contrast.is_small:
        return "refuted", _small(contrast)
    if direction := _sure_direction(contrast.comparison):
        return "supported" if direction == side else "refuted", _sure(contrast, direction)
    return "inconclusive", _open(contrast)


def _stays(contrast: Contrast) -> _Decision:
    if contrast.is_small:
        return "supported", _small(contrast)
    if direction := _sure_direction(contrast.comparison):
        return "refuted", _sure(contrast, direction)
    return "inconclusive", _open(contrast)


def _does_not_rise(contrast: Contrast) -> _Decision:
    direction = _sure_direction(contrast.comparison)
    margin = amount(contrast.margin, contrast.metric)
    if contrast.comparison.ci_high < contrast.margin:
        if direction == "higher":
            return "supported", f"Surely higher, but surely by less than the margin of {margin}: too little to matter."
        return "supported", "Surely lower." if direction else f"A rise as large as the margin of {margin} is ruled out."
    if direction == "higher":
        return "refuted", _sure(contrast, direction)
    found = detectable_words(contrast.comparison, contrast.metric)
    return "inconclusive", f"Undecided: a rise beyond the margin of {margin} isn't ruled out; {found}."


def _sure_direction(comparison: PairedComparison) -> Side | None:
    """Return the side of zero on which the whole interval lies."""
    return "higher" if comparison.ci_low > 0 else "lower" if comparison.ci_high < 0 else None


def _small(contrast: Contrast) -> str:
    margin = f"the margin of {amount(contrast.margin, contrast.metric)} (two one-sided tests)"
    if direction := _sure_direction(contrast.comparison):
        return f"Surely {direction}, but surely by less than {margin}: too little to matter."
    return f"Surely a change of less than {margin}, if any: too little to matter."


def _sure(contrast: Contrast, direction: Side) -> str:
    margin = amount(contrast.margin, contrast.metric)
    nearest = min(abs(contrast.comparison.ci_low), abs(contrast.comparison.ci_high))
    if nearest > contrast.margin:
        return f"Surely {direction}, by more than the margin of {margin}."
    return f"Surely {direction}; whether by more than the margin of {margin} is open."


def _open(contrast: Contrast) -> str:
    margin = amount(contrast.margin, contrast.metric)
    found = detectable_words(contrast.comparison, contrast.metric)
    return f"Undecided: the interval holds zero as well as changes beyond the margin of {margin}; {found}."
