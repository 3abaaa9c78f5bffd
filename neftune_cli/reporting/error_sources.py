"""Sources of the standard errors in sentences, and how much more seeds or items would help."""

from neftune_cli.analysis.error_sources import MORE_SEEDS, ErrorSources
from neftune_cli.analysis.results import Comparison
from neftune_cli.formatting import counted, duration, listed, number_range, rough_duration


def error_source_sentences(comparison: Comparison, *, has_times: bool = True) -> list[str]:
    """Return the sources of the standard errors of the primary metric, and how much more seeds or items would help.

    `has_times` adds the times that these would take, which differ between two runs of a sweep.
    """
    sources = comparison.error_sources
    if sources is None:
        return []
    items = f"{comparison.metric.item}s"
    parts = [
        _sources(sources, comparison.metric.name_within),
        _more_seeds(sources, has_time=has_times),
        _more_items(sources, items, has_time=has_times),
        _for_the_same_time(sources, items) if has_times else "",
    ]
    return [" ".join(filter(None, parts))]


def _sources(sources: ErrorSources, name: str) -> str:
    if all(arm.narrowing_by_items is None for arm in sources.arms):
        return f"The standard error of {name} is over seeds only."
    parts = {"seeds": "seed_share", "items": "item_share", "the residual": "residual_share"}
    shares = [
        f"{number_range([getattr(arm, of) for arm in sources.arms], '{:.0%}')} {part}" for part, of in parts.items()
    ]
    return f"Sources of the squared standard error of {name}: {listed(shares)}."


def _more_seeds(sources: ErrorSources, *, has_time: bool) -> str:
    seconds = sources.seed_seconds
    time = f"take {rough_duration(seconds) if seconds else 'an unknown time'} and " if has_time else ""
    narrowing = number_range([arm.narrowing_by_seeds for arm in sources.arms], "{:.0%}")
    arms = counted(len(sources.arms) + 1, "arm")
    return f"{MORE_SEEDS} more seeds of {arms} {time}narrow the unadjusted intervals by {narrowing}."


def _more_items(sources: ErrorSources, items: str, *, has_time: bool) -> str:
    narrowing = [arm.narrowing_by_items for arm in sources.arms if arm.narrowing_by_items is not None]
    if not narrowing:
        return ""
    seconds = sources.item_seconds
    cost = f"about {duration(seconds)} per trial" if seconds else "an unknown time"
    time = f"takes {cost} and " if has_time else ""
    return f"Doubling the {items} {time}narrows them by {number_range(narrowing, '{:.0%}')}."


def _for_the_same_time(sources: ErrorSources, items: str) -> str:
    more = {"seeds": "more seeds", "items": f"more {items}", None: ""}[sources.narrows_most]
    return f"For the same time, {more} narrow the intervals most." if more else ""
