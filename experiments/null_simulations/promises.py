"""What is promised of the paired comparison, and which simulated rates break it."""

from collections.abc import Iterable, Iterator

from experiments.null_simulations.error_rates import ErrorRates

FEW_SEEDS = 3
"""With no more of them too few false positives are no fault."""
FALSE_POSITIVES = (0.03, 0.07)
FAMILY_WISE = 0.06
"""5% and what 1,000 repetitions leave open, like `FALSE_EQUIVALENCE`."""
COVERAGE = (0.93, 0.97)
FALSE_EQUIVALENCE = 0.06

WORDS = (
    "Promised: false positives 3 to 7% (with 3 seeds, and in the five extreme scenarios, at most 7%), family-wise\n"
    "errors at most 6%, coverage 93 to 97% (in the extreme ones at least 93%), false equivalence at most 6%."
)


def broken_promises(rates: Iterable[ErrorRates]) -> Iterator[str]:
    """Yield a sentence for each rate outside its limits."""
    for one in rates:
        for name, value, low, high in _limits(one):
            if not low <= value <= high:
                yield f"{one.scenario.name}, {one.seeds} seeds: {name} {value:.1%}, not {low:.0%} to {high:.0%}."


def _limits(one: ErrorRates) -> Iterator[tuple[str, float, float, float]]:
    realistic = one.scenario.realistic
    least = FALSE_POSITIVES[0] if realistic and one.seeds > FEW_SEEDS else 0.0
    yield "false positives", one.false_positives.value, least, FALSE_POSITIVES[1]
    yield "family-wise errors", one.family_wise.value, 0.0, FAMILY_WISE
    yield "coverage", one.coverage.value, COVERAGE[0], COVERAGE[1] if realistic else 1.0
    yield "false equivalence", one.false_equivalence.value, 0.0, FALSE_EQUIVALENCE
