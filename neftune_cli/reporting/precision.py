"""Precision of a comparison in sentences: sources of the standard error, and the gain of more seeds or items."""

from neftune_cli.analysis.precision import MORE_SEEDS, Precision
from neftune_cli.analysis.results import Comparison
from neftune_cli.formatting import counted, duration, listed, number_range, rough_duration


def precision_sentences(comparison: Comparison) -> list[str]:
    """Return the sources of the standard errors of the primary metric, and how much more seeds or items would help."""
    precision = comparison.precision
    if precision is None:
        return []
    items = f"{comparison.metric.item}s"
    more = f"{_more_seeds(precision)}{_more_items(precision, items)}{_for_the_same_time(precision, items)}"
    return [f"{_sources(precision, comparison.metric.name_within)} {more}"]


def _sources(precision: Precision, name: str) -> str:
    if all(arm.narrowing_by_items is None for arm in precision.arms):
        return f"The standard error of {name} is over seeds only."
    parts = {"seeds": "seed_share", "items": "item_share", "the residual": "residual_share"}
    shares = [
        f"{number_range([getattr(arm, of) for arm in precision.arms], '{:.0%}')} {part}" for part, of in parts.items()
    ]
    return f"Sources of the squared standard error of {name}: {listed(shares)}."


def _more_seeds(precision: Precision) -> str:
    time = f"take {rough_duration(precision.seed_seconds)}" if precision.seed_seconds else "take an unknown time"
    narrowing = number_range([arm.narrowing_by_seeds for arm in precision.arms], "{:.0%}")
    arms = counted(len(precision.arms) + 1, "arm")
    return f"{MORE_SEEDS} more seeds of {arms} {time} and narrow the unadjusted intervals by {narrowing}."


def _more_items(precision: Precision, items: str) -> str:
    narrowing = [arm.narrowing_by_items for arm in precision.arms if arm.narrowing_by_items is not None]
    if not narrowing:
        return ""
    seconds = precision.item_seconds
    time = f"takes about {duration(seconds)} per trial" if seconds else "takes an unknown time"
    return f" Doubling the {items} {time} and narrows them by {number_range(narrowing, '{:.0%}')}."


def _for_the_same_time(precision: Precision, items: str) -> str:
    more = {"seeds": "more seeds", "items": f"more {items}", None: ""}[precision.narrows_most]
    return f" For the same time, {more} narrow the intervals most." if more else ""
