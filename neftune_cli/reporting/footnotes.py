"""Footnotes of the tables: legend, tests and intervals, noise, seeds, missing values, and sources of errors."""

from collections.abc import Sequence

from neftune_cli.analysis.error_sources import MORE_SEEDS, ErrorSources
from neftune_cli.analysis.results import Comparison
from neftune_cli.formatting import counted, duration, listed, number_range, rough_duration
from neftune_cli.records import Attestation
from neftune_cli.reporting.cells import all_seeds_text, noise_share
from neftune_cli.reporting.inference_sentences import inference_sentences
from neftune_cli.reporting.sections import is_defined


def footnotes(comparison: Comparison, *, has_times: bool = True) -> list[str]:
    """Return the footnotes in order, each one or two sentences, optionally without times, which differ between runs."""
    return [
        _legend(),
        *inference_sentences(comparison),
        *filter(None, [noise_sentence(comparison), attestation_sentence(comparison.attestations)]),
        _seeds(comparison),
        *_undefined(comparison),
        *comparison.notes,
        *(f"Missing from these numbers: {trial}" for trial in comparison.unfinished),
        *error_source_sentences(comparison, has_times=has_times),
    ]


def _legend() -> str:
    return (
        "Mean ± standard deviation over seeds. Losses are in nats per completion token. "
        "↓ lower is better, ↑ higher is better, no arrow: no preferred direction."
    )


def _seeds(comparison: Comparison) -> str:
    are_equal = len({arm.seeds for arm in comparison.arms}) == 1
    return f"Seeds{' of every arm' if are_equal else ''}: {all_seeds_text(comparison)}."


def _undefined(comparison: Comparison) -> list[str]:
    names = [metric.name_within for key, metric in comparison.metrics.items() if not is_defined(comparison, key)]
    return [f"Not defined for this data: {', '.join(names)}."] if names else []


def noise_sentence(comparison: Comparison) -> str | None:
    """Return the noise of each arm relative to the embeddings, or None where no arm measured it.

    The same alpha gives a different relative noise on another model.
    """
    if all(arm.noise_ratio is None for arm in comparison.arms):
        return None
    shares = ", ".join(f"{noise_share(arm, missing='not measured')} ({arm.name})" for arm in comparison.arms)
    return (
        "The noise ratio is the expected norm of one token's noise divided by the median norm of the embeddings. It is "
        f"given for a training example of median length. Noise ratio by arm: {shares}."
    )


def attestation_sentence(attestations: Sequence[Attestation]) -> str | None:
    """Return the noise that training measured, over all noisy trials; None where no trial measured it.

    The sentence gives the extremes over trials, so that averaging cannot hide a single outlier. Trials that deviate
    from the formula have failed and are not included.
    """
    noisy = [one for one in attestations if one.measured_calls]
    if not noisy:
        return None
    calls, measured = sum(one.calls for one in noisy), sum(one.measured_calls for one in noisy)
    return (
        f"Noise was measured in {measured} of {calls} training forward passes. Its root mean square was {_rms(noisy)} "
        f"times the value of the formula. It was added to {_real(noisy)} of real tokens and {_padding(noisy)} of "
        f"padding tokens. Evaluation had {sum(one.evaluation_calls for one in noisy)} forward passes with noise. "
        f"{counted(max(one.hooks for one in noisy), 'hook')} added the noise."
    )


def _rms(noisy: Sequence[Attestation]) -> str:
    return number_range([one.rms for one in noisy if one.rms is not None], "{:.3f}")


def _real(noisy: Sequence[Attestation]) -> str:
    return number_range([one.noised_share for one in noisy if one.noised_share is not None], "{:.0%}")


def _padding(noisy: Sequence[Attestation]) -> str:
    return number_range([one.noised_padding or 0.0 for one in noisy], "{:.0%}")


# Sources of the standard errors


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
