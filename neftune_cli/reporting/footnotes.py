"""The lines under every table: what the numbers mean, how sure they are, how strong the noise was, what is missing."""

import math
from collections.abc import Iterable, Iterator, Sequence

from neftune_cli.analysis.results import ArmSummary, Comparison, Judgement
from neftune_cli.analysis.wording import counted, percent
from neftune_cli.records import Attestation
from neftune_cli.reporting.cells import DASH, NOTHING_VARIES, is_defined, seeds_of_arms, why_no_verdict


def footnotes(comparison: Comparison) -> list[str]:
    """Return the footnotes, a sentence or two each, without final line breaks."""
    return [
        _legend(),
        *certainty_sentences(comparison),
        *filter(None, [noise_sentence(comparison), attestation_sentence(comparison.attestations)]),
        _seeds(comparison),
        *_undefined(comparison),
        *comparison.notes,
        *(f"Not in these numbers: {trial}" for trial in comparison.unfinished),
    ]


def noise_sentence(comparison: Comparison) -> str | None:
    """Return how large each arm's noise is beside the embeddings: the same alpha isn't the same noise everywhere.

    None where it wasn't measured in any arm.
    """
    if all(arm.noise_ratio is None for arm in comparison.arms):
        return None
    shares = ", ".join(f"{_noise_share(arm)} ({arm.name})" for arm in comparison.arms)
    return f"Noise norm / embedding norm at the median length: {shares}."


def _noise_share(arm: ArmSummary) -> str:
    if arm.alpha == 0 or arm.noise_ratio == 0:
        return "0%"
    return "not measured" if arm.noise_ratio is None else f"{arm.noise_ratio:.1%}"


def _legend() -> str:
    return (
        "Mean ± standard deviation over seeds. Losses in nats per completion token. "
        "↓ lower is good, ↑ higher is good, no arrow: neither by itself."
    )


def _seeds(comparison: Comparison) -> str:
    alike = len({arm.seeds for arm in comparison.arms}) == 1
    return f"Seeds{' of every arm' if alike else ''}: {seeds_of_arms(comparison)}."


def _undefined(comparison: Comparison) -> list[str]:
    names = [metric.name for key, metric in comparison.metrics.items() if not is_defined(comparison, key)]
    return [f"Not defined for this data: {', '.join(names)}."] if names else []


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


def pairing_words(comparison: Comparison, keys: Sequence[str]) -> str:
    """Return what differences of these metrics are paired by."""
    return _paired_by([one for key in keys for one in _judgements_of(comparison, key).values()])


def few_seeds_sentence(comparison: Comparison) -> str:
    """Return what the intervals of arms with too few seeds are about; empty where there is no such arm."""
    few = _arms_about_checkpoints(comparison)
    if not few:
        return ""
    have_items = _have_items(filter(_is_about_checkpoints, _judgements(comparison)))
    what, which = ("intervals", ": other items, but not other seeds") if have_items else ("differences", "")
    who = ", ".join(few)
    return (
        f"With fewer than three paired seeds ({who}) {what} are about these checkpoints, not about the method{which}."
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
    paired = f"Differences are paired by {_paired_by(judged)}{_samples(judged)}."
    if not any(math.isfinite(one.comparison.ci_low) for one in judged):
        return paired
    verdicts = _verdicts(comparison) if any(one.word for one in judged) else ""
    return f"{paired} {percent(comparison.confidence)} intervals, each for itself{verdicts}."


def _paired_by(judged: Iterable[Judgement]) -> str:
    return "seed and item" if _have_items(judged) else "seed"


def _have_items(judged: Iterable[Judgement]) -> bool:
    return any(one.comparison.items > 1 for one in judged)


def _samples(judged: Iterable[Judgement]) -> str:
    about_method = [one for one in judged if not _is_about_checkpoints(one)]
    if not about_method:
        return ""
    samples = "seeds and items being two samples" if _have_items(about_method) else "seeds being a sample"
    return f", {samples} that might have come out otherwise"


def _verdicts(comparison: Comparison) -> str:
    level = percent(1 - comparison.confidence)
    return (
        f"; verdicts at the {level} level{_correction(comparison)}: better, worse, or higher and lower where neither "
        "is good by itself; equivalent if shown to be within the margin; inconclusive if neither is shown"
    )


def _correction(comparison: Comparison) -> str:
    """Return what verdicts are corrected for, the numbers of arms from metric to metric; empty where none is."""
    tested = [
        sum(math.isfinite(one.p_adjusted) for one in found.values())
        for found in (_judgements_of(comparison, key) for key in comparison.metrics)
        if any(one.word for one in found.values())
    ]
    fewest, most = min(tested, default=0), max(tested, default=0)
    if most < 2:
        return ""
    arms = f"{fewest} to {counted(most, 'arm')}" if fewest < most else counted(most, "arm")
    return f", differences and equivalences each corrected for {arms} (Holm)"


def _reach(comparison: Comparison, judged: Sequence[Judgement]) -> Iterator[str]:
    if about_method := [one for one in judged if one.word]:
        others = "seeds and items" if _have_items(about_method) else "seeds"
        yield (
            f"Verdicts are about the method, with other {others} like these, on this setting alone: "
            f"{comparison.setting.words}."
        )
    yield from filter(None, [few_seeds_sentence(comparison)])


def _arms_about_checkpoints(comparison: Comparison) -> list[str]:
    few = {
        arm
        for metric in comparison.metrics
        for arm, judgement in _judgements_of(comparison, metric).items()
        if _is_about_checkpoints(judgement)
    }
    return [arm.name for arm in comparison.treated if arm.name in few]


def _is_about_checkpoints(judgement: Judgement) -> bool:
    return judgement.comparison.about == "checkpoints"


def _margins(comparison: Comparison) -> str:
    margins = margin_words(comparison, tuple(comparison.metrics))
    return f"Margins up to which a difference counts as none, in each metric's unit (--margin sets them): {margins}."


def _detectable(comparison: Comparison) -> Iterator[str]:
    metric = comparison.metrics.get(comparison.primary)
    found = _judgements_of(comparison, comparison.primary)
    about_method = {arm: one for arm, one in found.items() if not _is_about_checkpoints(one)}
    sizes = {arm: one.detectable for arm, one in about_method.items() if math.isfinite(one.detectable)}
    if metric is not None and sizes:
        listed = ", ".join(f"{metric.number(size)} ({arm})" for arm, size in sizes.items())
        yield f"{metric.name}: a true difference of this size would be found four times out of five: {listed}."


def _corpus_scores(comparison: Comparison) -> Iterator[str]:
    """Yield which differences have no items, where others have."""
    if not _have_items(_judgements(comparison)):
        return
    names = [name for key in comparison.metrics if (name := _without_items(comparison, key))]
    if names:
        yield f"Scores of all items together, whose intervals are over seeds alone: {', '.join(names)}."


def _without_items(comparison: Comparison, key: str) -> str:
    """Return a metric's name, with its arms if only some of them have no items; empty where all have."""
    found = _judgements_of(comparison, key)
    about_method = {arm: one for arm, one in found.items() if not _is_about_checkpoints(one)}
    arms = [arm for arm, one in about_method.items() if one.comparison.items == 1]
    name = comparison.metrics[key].name
    return name if len(arms) == len(about_method) and arms else f"{name} ({', '.join(arms)})" if arms else ""


def _dashes(comparison: Comparison) -> Iterator[str]:
    """Yield why verdicts are missing, and intervals of arms that could have no verdict, each reason once."""
    reasons = (
        why_no_verdict(arm.estimates.get(key), comparison.baseline)
        for key in comparison.metrics
        if is_defined(comparison, key)
        for arm in comparison.treated
    )
    if found := list(dict.fromkeys(filter(None, reasons))):
        yield f"{DASH} no verdict: {'; '.join(found)}."
    if found := list(dict.fromkeys(filter(None, map(_no_interval, _judgements(comparison))))):
        yield f"{DASH} no interval: {'; '.join(found)}."


def _no_interval(judgement: Judgement) -> str:
    """Return why a difference of few seeds has no interval; empty where it has one."""
    if not _is_about_checkpoints(judgement) or math.isfinite(judgement.comparison.ci_low):
        return ""
    return NOTHING_VARIES if judgement.comparison.items > 1 else "a score without items needs three paired seeds"


def attestation_sentence(attestations: Sequence[Attestation]) -> str | None:
    """Return the sentence for all noisy trials together; None where none was measured.

    It says the worst of each figure, so that one odd trial isn't averaged away. Trials that deviate have failed and
    aren't among them.
    """
    noisy = [one for one in attestations if one.measured_calls]
    if not noisy:
        return None
    calls, measured = sum(one.calls for one in noisy), sum(one.measured_calls for one in noisy)
    return (
        f"Noise as measured in {measured} of {calls} training calls: RMS {_rms(noisy)} of the formula's, "
        f"{_real(noisy)} of real tokens and {_padding(noisy)} of padding noised, "
        f"{sum(one.evaluation_calls for one in noisy)} calls in evaluation, {max(one.hooks for one in noisy)} hook."
    )


def _rms(noisy: Sequence[Attestation]) -> str:
    return _range([one.rms for one in noisy if one.rms is not None], "{:.3f}")


def _real(noisy: Sequence[Attestation]) -> str:
    return _range([one.noised_share for one in noisy if one.noised_share is not None], "{:.0%}")


def _padding(noisy: Sequence[Attestation]) -> str:
    return _range([one.noised_padding or 0.0 for one in noisy], "{:.0%}")


def _range(values: Sequence[float], form: str) -> str:
    lowest, highest = form.format(min(values)), form.format(max(values))
    return lowest if lowest == highest else f"{lowest} to {highest}"
