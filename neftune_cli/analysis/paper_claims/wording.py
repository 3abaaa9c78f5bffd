"""How findings are written: arms, differences with their intervals, and what few seeds allow."""

import math
from collections.abc import Iterable, Mapping, Sequence

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.power import minimum_detectable_effect
from neftune_cli.analysis.results import Assessment
from neftune_cli.formatting import counted, listed, percent
from neftune_cli.metrics import LOSS, Metric

_MOST_NAMES = 5


def arm_words(arms: Sequence[str]) -> str:
    """Return arms by their names, or by their number where they are many."""
    return listed(arms) if len(arms) <= _MOST_NAMES else f"{len(arms)} arms"


def noisy_words(arms: Sequence[str]) -> str:
    """Return what a mean over noisy arms is called."""
    return arms[0] if len(arms) == 1 else f"mean of {arm_words(arms)}"


def change_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return a difference with its interval, like `+0.0120 nats [+0.0020, +0.0220]`."""
    change = metric.signed(comparison.difference) + metric.unit_suffix
    if not math.isfinite(comparison.ci_low):
        return change
    return f"{change} [{metric.signed(comparison.ci_low)}, {metric.signed(comparison.ci_high)}]"


def sample_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return what the interval is and what it is over, like `95% interval, 5 seeds, 200 examples`."""
    known = math.isfinite(comparison.ci_low)
    parts = [
        f"{percent(comparison.confidence)} interval" if known else "no interval",
        counted(comparison.seeds, "seed"),
    ]
    if comparison.items > 1:
        parts.append(counted(comparison.items, "example" if metric.section == LOSS else "prompt"))
    return ", ".join(parts)


def undecidable_words(comparisons: Mapping[str, PairedComparison]) -> str:
    """Return which comparisons, by name, can't decide anything and why, a sentence a reason; empty where all can."""
    reasons: dict[str, list[str]] = {}
    for name, comparison in comparisons.items():
        if why := _why_undecidable(comparison):
            reasons.setdefault(why, []).append(name)
    everyone = len(comparisons)
    return " ".join(
        f"Undecided{'' if len(names) == everyone else f' for {listed(names)}'}: {why}."
        for why, names in reasons.items()
    )


def detectable_words(comparison: PairedComparison, metric: Metric) -> str:
    """Return how large a true change would have been found."""
    size = minimum_detectable_effect(comparison.mean, level=1 - comparison.confidence)
    return f"a true change of {metric.amount(size)} would be found four times out of five"


def most_detectable_words(assessments: Iterable[Assessment], metric: Metric) -> str:
    """Return which true difference all inconclusive comparisons would have found; empty where none is inconclusive."""
    sizes = [one.detectable for one in assessments if one.verdict == "inconclusive"]
    return f"a true difference of {metric.amount(max(sizes))} would be found four times out of five" if sizes else ""


def unshared_words(names: Sequence[str]) -> str:
    """Return which arms or pairs were left out for their seeds, a space before it; empty where none was."""
    return f" Left out for want of shared seeds with this metric: {listed(names)}." if names else ""


def unknown_words(arms: Sequence[str]) -> str:
    """Return which arms were left out for their unknown recipe, a space before it; empty where none was."""
    return f" Left out, because nothing says what they change beside the noise: {listed(arms)}." if arms else ""


def _why_undecidable(comparison: PairedComparison) -> str:
    if comparison.about != "method":
        seeds = counted(comparison.seeds, "seed")
        return f"{seeds}; fewer than three seeds speak about these checkpoints, not the method"
    return "" if math.isfinite(comparison.p_value) else "nothing varies, so nothing says how sure the number is"
