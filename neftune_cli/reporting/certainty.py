"""What intervals and verdicts rest on, in sentences: method, reach, margins, and why a verdict is missing."""

import math
from collections.abc import Iterable, Iterator, Sequence

from neftune_cli.analysis.paired import FEWEST_SEEDS
from neftune_cli.analysis.results import Comparison, Estimate, Judgement
from neftune_cli.evidence.metrics import Metric
from neftune_cli.reporting.cells import DASH, is_defined, percent


def certainty_sentences(comparison: Comparison) -> Iterator[str]:
    """Yield the sentences that apply to the comparison; none where nothing is compared."""
    judged = list(_judgements(comparison))
    if judged:
        yield _method(comparison, judged)
        yield from _reach(comparison, judged)
        yield _margins(comparison)
        yield from _detectable(comparison)
        yield from _corpus_scores(comparison)
    yield from _dashes(comparison)


def few_seeds_sentence(comparison: Comparison) -> str:
    """Return what the intervals of arms with too few seeds are about; empty where there is no such arm."""
    few = _arms_about_checkpoints(comparison)
    if not few:
        return ""
    return (
        f"With fewer than three paired seeds ({', '.join(few)}) intervals are about these checkpoints, not about the "
        "method: other items, but not other seeds."
    )


def margin_words(comparison: Comparison, keys: Sequence[str]) -> str:
    """Return the margins in use for these metrics, those of equal margins together; empty where none is."""
    names: dict[str, list[str]] = {}
    for key in keys:
        used = {one.margin for one in _judgements_of(comparison, key).values()}
        if used:
            names.setdefault(_written_range(used), []).append(comparison.metrics[key].name)
    return "; ".join(f"{margin} ({', '.join(metrics)})" for margin, metrics in names.items())


def _written_range(values: Iterable[float]) -> str:
    """Return the only value, or the range where arms with other seeds have another baseline mean."""
    written = list(dict.fromkeys(f"{value:.3g}" for value in sorted(values)))
    return written[0] if len(written) == 1 else f"{written[0]} to {written[-1]}"


def _judgements(comparison: Comparison) -> Iterator[Judgement]:
    for metric in comparison.metrics:
        yield from _judgements_of(comparison, metric).values()


def _judgements_of(comparison: Comparison, metric: str) -> dict[str, Judgement]:
    """Return what is said of one metric by arm."""
    by_arm = {arm.name: comparison.judgement(arm.name, metric) for arm in comparison.treated}
    return {arm: judgement for arm, judgement in by_arm.items() if judgement is not None}


def _method(comparison: Comparison, judged: Sequence[Judgement]) -> str:
    about_method = any(one.comparison.about == "method" for one in judged)
    samples = ", seeds and items being two samples that might have come out otherwise" if about_method else ""
    intervals = f"{percent(comparison.confidence)} intervals, each for itself"
    verdicts = _verdicts(comparison) if any(one.word for one in judged) else ""
    return f"Differences are paired by seed and item{samples}. {intervals}{verdicts}."


def _verdicts(comparison: Comparison) -> str:
    arms = len(comparison.treated)
    holm = f", corrected for {arms} arms (Holm)" if arms > 1 else ""
    return (
        f"; verdicts at the {percent(1 - comparison.confidence)} level{holm}: better, worse, or higher and lower where "
        "neither is good by itself; equivalent if shown to be within the margin; inconclusive if neither is shown"
    )


def _reach(comparison: Comparison, judged: Sequence[Judgement]) -> Iterator[str]:
    if any(one.comparison.about == "method" for one in judged):
        yield (
            "Verdicts are about the method, with other seeds and items like these, on this setting alone: "
            f"{comparison.setting.words}."
        )
    yield from filter(None, [few_seeds_sentence(comparison)])


def _arms_about_checkpoints(comparison: Comparison) -> list[str]:
    few = {
        arm
        for metric in comparison.metrics
        for arm, judgement in _judgements_of(comparison, metric).items()
        if judgement.comparison.about == "checkpoints"
    }
    return [arm.name for arm in comparison.treated if arm.name in few]


def _margins(comparison: Comparison) -> str:
    margins = margin_words(comparison, tuple(comparison.metrics))
    return f"Margins up to which a difference counts as none, in each metric's unit (--margin sets them): {margins}."


def _detectable(comparison: Comparison) -> Iterator[str]:
    metric = comparison.metrics.get(comparison.primary)
    found = _judgements_of(comparison, comparison.primary)
    sizes = {arm: one.detectable for arm, one in found.items() if math.isfinite(one.detectable)}
    if metric is not None and sizes:
        listed = ", ".join(f"{metric.number(size)} ({arm})" for arm, size in sizes.items())
        yield f"{metric.name}: a true difference of this size would be found four times out of five: {listed}."


def _corpus_scores(comparison: Comparison) -> Iterator[str]:
    names = [metric.name for key, metric in comparison.metrics.items() if _has_no_items(comparison, key)]
    if names:
        yield f"Scores of all items together, whose intervals are over seeds alone: {', '.join(names)}."


def _has_no_items(comparison: Comparison, key: str) -> bool:
    paired = [one.comparison for one in _judgements_of(comparison, key).values()]
    return any(one.items == 1 and one.about == "method" for one in paired)


def _dashes(comparison: Comparison) -> Iterator[str]:
    """Yield why verdicts are missing, each reason once."""
    reasons = (
        _reason(arm.estimates.get(key), metric, comparison)
        for key, metric in comparison.metrics.items()
        for arm in comparison.treated
    )
    found = list(dict.fromkeys(reason for reason in reasons if reason))
    if found:
        yield f"{DASH} no verdict: {'; '.join(found)}."


def _reason(estimate: Estimate | None, metric: Metric, comparison: Comparison) -> str:
    """Return why an arm's metric has no verdict; empty where it has one, or where the metric isn't in the tables."""
    if not is_defined(comparison, metric.key):
        return ""
    if estimate is None:
        return "the metric isn't defined for the arm"
    if estimate.difference is None:
        return f"no seed is shared with {comparison.baseline}"
    judgement = estimate.judgement
    if judgement is None:
        finite = math.isfinite(estimate.difference.mean)
        return f"no item is shared with {comparison.baseline}" if finite else "a value isn't finite"
    if judgement.word is not None:
        return ""
    few = judgement.comparison.seeds < FEWEST_SEEDS
    return "fewer than three paired seeds" if few else "nothing says how sure the difference is"
