"""Numbers as the page writes them, each with the value that its column is sorted by."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from neftune_cli.analysis.paired import FEWEST_SEEDS, PairedComparison
from neftune_cli.analysis.results import Judgement, Status, Word
from neftune_cli.evidence.metrics import Metric

SMALLEST_P = 0.001

SYMBOLS: dict[Word, str] = {
    "better": "\N{CHECK MARK}",
    "worse": "\N{BALLOT X}",
    "higher": "\N{UPWARDS ARROW}",
    "lower": "\N{DOWNWARDS ARROW}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "inconclusive": "?",
}
"""Verdicts are told apart without colour."""
STATUS_SYMBOLS: dict[Status, str] = {
    "supported": "\N{CHECK MARK}",
    "refuted": "\N{BALLOT X}",
    "inconclusive": "?",
    "not measured": "\N{EN DASH}",
}


@dataclass(frozen=True)
class Figure:
    """A number in a cell."""

    text: str
    value: float | None = None
    """What the column is sorted by; None goes last."""


@dataclass(frozen=True)
class Verdict:
    """A verdict in a cell."""

    word: str
    symbol: str
    hint: str = ""
    """What else there is to say, in a few words."""


NOTHING = Figure("")
"""Where a number has no meaning."""
UNKNOWN = Figure("\N{EN DASH}")
"""Where a number has a meaning but isn't there."""


def level(metric: Metric, value: float | None) -> Figure:
    """Return a value of the metric."""
    return _figure(value, metric.number)


def difference(metric: Metric, value: float | None) -> Figure:
    """Return a difference of the metric, with its sign."""
    return _figure(value, metric.signed)


def spread(metric: Metric, value: float | None) -> Figure:
    """Return a standard deviation; nothing for a single seed."""
    return NOTHING if value is None else _figure(value, lambda sd: f"± {metric.number(sd)}")


def interval(metric: Metric, comparison: PairedComparison) -> str:
    """Return the interval of a difference."""
    low, high = comparison.ci_low, comparison.ci_high
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNKNOWN.text
    return f"[{metric.signed(low)}, {metric.signed(high)}]"


def p_value(p: float) -> Figure:
    """Return a p-value with three decimals."""
    return _figure(p, lambda p: f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}")


def verdict(judgement: Judgement) -> Verdict:
    """Return the word with its symbol, and what to do where it isn't one."""
    if judgement.word is None:
        few = judgement.comparison.seeds < FEWEST_SEEDS
        return Verdict("no verdict", UNKNOWN.text, f"fewer than {FEWEST_SEEDS} seeds" if few else "spread unknown")
    return Verdict(judgement.word, SYMBOLS[judgement.word], _hint(judgement))


def share(value: float) -> str:
    """Return a share of 0 to 1 as a percentage."""
    return f"{value:.0%}"


def _figure(value: float | None, write: Callable[[float], str]) -> Figure:
    if value is None or math.isnan(value):
        return UNKNOWN
    return Figure(write(value), value)


def _hint(judgement: Judgement) -> str:
    if judgement.word != "inconclusive":
        return ""
    needed = judgement.seeds_needed
    return "seeds won't settle it" if needed is None else f"about {needed} seeds"
