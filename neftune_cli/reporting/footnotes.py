"""The lines under every table: what the numbers mean, how strong the noise was, and what is missing from them."""

from neftune_cli.analysis.attested import attestation_sentence
from neftune_cli.analysis.comparison import Comparison
from neftune_cli.analysis.metrics import METRICS
from neftune_cli.analysis.reading import noise_sentence
from neftune_cli.reporting.cells import is_defined


def footnotes(comparison: Comparison) -> list[str]:
    """Return the footnotes, a sentence or two each, without final line breaks."""
    return [
        _legend(comparison),
        noise_sentence(comparison),
        *filter(None, [attestation_sentence(comparison.attestations)]),
        _seeds(comparison),
        *_undefined(comparison),
        *comparison.notes,
        *(f"Not in these numbers: {trial}" for trial in comparison.unfinished),
    ]


def _legend(comparison: Comparison) -> str:
    cells = "Mean ± standard deviation over seeds"
    if comparison.treated:
        cells += f"; differences from {comparison.baseline} are taken seed by seed"
    return (
        f"{cells}. Losses in nats per completion token. ↓ lower is good, ↑ higher is good, no arrow: neither by itself."
    )


def _seeds(comparison: Comparison) -> str:
    by_arm = {arm.name: ", ".join(map(str, arm.seeds)) for arm in comparison.arms}
    if len(set(by_arm.values())) == 1:
        return f"Seeds of every arm: {next(iter(by_arm.values()))}."
    return f"Seeds: {'; '.join(f'{seeds} ({name})' for name, seeds in by_arm.items())}."


def _undefined(comparison: Comparison) -> list[str]:
    names = [metric.name for key, metric in METRICS.items() if not is_defined(comparison, key)]
    return [f"Not defined for this data: {', '.join(names)}."] if names else []
