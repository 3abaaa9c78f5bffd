"""From one change with its interval to the status of a claim about it, and the sentences that say why."""

from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.paper_claims.noise_effects import Contrast
from neftune_cli.analysis.paper_claims.wording import change_words, detectable_words, sample_words, undecidable_words
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

    Supported if one one-sided test rules out a rise by the margin, at the level of the tests for no change; refuted if
    it doesn't and the interval begins above zero.
    """
    return _finding(contrast, _undecidable(contrast) or _does_not_rise(contrast))


def _finding(contrast: Contrast, decision: _Decision) -> Finding:
    status, why = decision
    comparison, metric = contrast.comparison, contrast.metric
    beside = f"{contrast.reference}; {sample_words(comparison, metric)}"
    change = f"{change_words(comparison, metric)} ({beside})"
    more = f"; {contrast.more}" if contrast.more else ""
    return Finding(status, f"{metric.name}, {contrast.what}: {change}{more}. {why}{contrast.left_out}", comparison)


def _undecidable(contrast: Contrast) -> _Decision | None:
    why = undecidable_words({contrast.what: contrast.comparison})
    return ("inconclusive", why) if why else None


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
    margin = contrast.metric.amount(contrast.margin)
    if contrast.is_no_large_rise:
        if direction == "higher":
            return "supported", f"Surely higher, but surely by less than the margin of {margin}: too little to matter."
        ruled_out = f"A rise as large as the margin of {margin} is ruled out (one-sided test)."
        return "supported", "Surely lower." if direction else ruled_out
    if direction == "higher":
        return "refuted", _sure(contrast, direction)
    found = detectable_words(contrast.comparison, contrast.metric)
    return "inconclusive", f"Undecided: a rise beyond the margin of {margin} isn't ruled out; {found}."


def _sure_direction(comparison: PairedComparison) -> Side | None:
    """Return the side of zero on which the whole interval lies."""
    return "higher" if comparison.ci_low > 0 else "lower" if comparison.ci_high < 0 else None


def _small(contrast: Contrast) -> str:
    margin = f"the margin of {contrast.metric.amount(contrast.margin)} (two one-sided tests)"
    if direction := _sure_direction(contrast.comparison):
        return f"Surely {direction}, but surely by less than {margin}: too little to matter."
    return f"Surely a change of less than {margin}, if any: too little to matter."


def _sure(contrast: Contrast, direction: Side) -> str:
    margin = contrast.metric.amount(contrast.margin)
    nearest = min(abs(contrast.comparison.ci_low), abs(contrast.comparison.ci_high))
    if nearest > contrast.margin:
        return f"Surely {direction}, by more than the margin of {margin}."
    return f"Surely {direction}; whether by more than the margin of {margin} is open."


def _open(contrast: Contrast) -> str:
    margin = contrast.metric.amount(contrast.margin)
    found = detectable_words(contrast.comparison, contrast.metric)
    return f"Undecided: the interval holds zero as well as changes beyond the margin of {margin}; {found}."
