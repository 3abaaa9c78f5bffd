"""How findings are written: arms, differences with their intervals, and what few seeds allow."""

import math
from collections.abc import Sequence

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.planning import detectable_difference
from neftune_cli.evidence.metrics import LOSS, Metric

_MOST_NAMES = 5
_UNITS = ("nats", "characters")


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def arm_words(arms: Sequence[str]) -> str:
    """Return arms by their names, or by their number where they are many."""
    return listed(arms) if len(arms) <= _MOST_NAMES else f"{len(arms)} arms"


def noisy_words(arms: Sequence[str]) -> str:
    """Return what a mean over noisy arms is called."""
    return arms[0] if len(arms) == 1 else f"mean of {arm_words(arms)}"


def amount(value: float, metric: Metric) -> str:
    """Return a size with its unit where it has one, like `0.0100 nats`."""
    return metric.number(value) + _unit(metric)


def change_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return a difference with its interval, like `+0.0120 nats [+0.0020, +0.0220]`."""
    change = metric.signed(comparison.difference) + _unit(metric)
    if not math.isfinite(comparison.ci_low):
        return change
    return f"{change} [{metric.signed(comparison.ci_low)}, {metric.signed(comparison.ci_high)}]"


def sample_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return what the interval is and what it is over, like `95% interval, 5 seeds, 200 examples`."""
    known = math.isfinite(comparison.ci_low)
    parts = [f"{comparison.confidence:.0%} interval" if known else "no interval", counted(comparison.seeds, "seed")]
    if comparison.items > 1:
        parts.append(counted(comparison.items, "example" if metric.section == LOSS else "prompt"))
    return ", ".join(parts)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, like `3 seeds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few_seeds(seeds: int) -> str:
    """Return why a comparison of fewer than three seeds decides nothing."""
    return f"Undecided: {counted(seeds, 'seed')}; fewer than three seeds speak about these checkpoints, not the method."


def detectable_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return how large a true change would have been found."""
    size = detectable_difference(comparison.mean, level=1 - comparison.confidence)
    return f"a true change of {amount(size, metric)} would be found four times out of five"


def _unit(metric: Metric) -> str:
    unit = metric.unit.split()[-1] if metric.unit else ""
    return f" {unit}" if unit in _UNITS else ""
