"""The lines under every table: what the numbers mean, how sure they are, how strong the noise was, what is missing."""

from neftune_cli.analysis.attested import attestation_sentence
from neftune_cli.analysis.results import ArmSummary, Comparison
from neftune_cli.reporting.cells import is_defined, seeds_of_arms
from neftune_cli.reporting.certainty import certainty_sentences


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
