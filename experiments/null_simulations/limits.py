"""Limits of the simulated error rates with one look and with planned looks, of power, and of planning statements."""

from collections.abc import Iterable, Iterator, Mapping

from experiments.null_simulations.error_rates import ErrorRates, Rate
from experiments.null_simulations.few_clusters import ClusterRates
from experiments.null_simulations.looks_error_rates import LooksErrorRates, LooksPower
from experiments.null_simulations.planned_tables import TableErrorRates
from experiments.null_simulations.planning_statement import Statement

FEW_SEEDS = 3
"""With this number of seeds or fewer, false positives have no lower limit."""
FALSE_POSITIVES = (0.03, 0.07)
COVERAGE = (0.93, 0.97)
ALL_COVERED = 0.94

LIMITS = (
    "Limits: false positives 3 to 7% (with 3 seeds, and in the five extreme scenarios, at most 7%), family-wise\n"
    "errors at most 6%, coverage 93 to 97% (in the extreme ones at least 93%), all intervals at least 94%, false\n"
    "equivalence at most 6%. Rates within their Monte Carlo standard error of a limit are within it."
)

ONE_FAMILY, BOTH_FAMILIES = 0.06, 0.10
"""Error rates of the tests for differences or for equivalence, and of both: a little more than their levels."""
DECIDED, MEAN_SEEDS = 0.95, 13
SKEWED = "lognormal"
"""Part of the titles of models without limits: the differences are so skewed that t-tests fail."""

LOOKS_LIMITS = (
    "Limits: family-wise errors, errors of the any-noise test and false equivalence at most 6%, any false verdict\n"
    "at most 10%; no limits for lognormal values. One arm that differs by a standard deviation is decided in at\n"
    "least 95% of the sweeps, with at most 13 seeds on average.\n"
)
MIN_RIGHT = 0.8
"""Smallest share of right ranges of a planning statement, the confidence level of a range."""


def exceeded_limits(rates: Iterable[ErrorRates]) -> Iterator[str]:
    """Yield a sentence for each rate that is outside its limits by more than its Monte Carlo standard error."""
    for one in rates:
        for name, found, low, high in _limits(one):
            if not low - found.error <= found.value <= high + found.error:
                yield f"{one.scenario.name}, {one.seeds} seeds: {name} {found.value:.1%}, not {low:.0%} to {high:.0%}."


def _limits(one: ErrorRates) -> Iterator[tuple[str, Rate, float, float]]:
    realistic = one.scenario.realistic
    least = FALSE_POSITIVES[0] if realistic and one.seeds > FEW_SEEDS else 0.0
    yield "false positives", one.false_positives, least, FALSE_POSITIVES[1]
    yield "family-wise errors", one.family_wise, 0.0, ONE_FAMILY
    yield "coverage", one.coverage, COVERAGE[0], COVERAGE[1] if realistic else 1.0
    yield "coverage of all intervals", one.all_covered, ALL_COVERED, 1.0
    yield "false equivalence", one.false_equivalence, 0.0, ONE_FAMILY


def exceeded_cluster_limits(rates: Iterable[ClusterRates]) -> Iterator[str]:
    """Yield a sentence for each rate outside its limits."""
    for one in rates:
        for name, found in (("false positives", one.false_positives), ("false equivalence", one.false_equivalence)):
            if found.value - found.error > FALSE_POSITIVES[1]:
                place = f"{one.scenario.name}, {one.looks[-1]} seeds"
                yield f"{place}: {name} {found.value:.1%}, not at most {FALSE_POSITIVES[1]:.0%}."


def exceeded_looks(rates: Mapping[str, LooksErrorRates]) -> Iterator[str]:
    """Yield a sentence for each rate outside its limits."""
    for title, one in rates.items():
        if SKEWED not in title:
            yield from _exceeded(title, one.family_wise, one.any_noise, one.false_equivalence, one.any_false)


def exceeded_tables(rates: Iterable[TableErrorRates]) -> Iterator[str]:
    """Yield a sentence for each rate outside its limits."""
    for one in rates:
        title = f"{one.arms} arms, variance of items {one.item_share:g}"
        yield from _exceeded(title, one.family_wise, one.any_noise, one.false_equivalence, one.any_false)


def exceeded_power(found: Iterable[LooksPower]) -> Iterator[str]:
    """Yield a sentence for each chance outside the limits: false positives, and one arm with a standard deviation."""
    for one in found:
        if one.null_arms and one.null_arms.value > ONE_FAMILY:
            yield f"true effects {one.effects}: {one.null_arms.value:.1%} false positives on the other arms."
        if one.effects != (1.0,):
            continue
        if one.decided.value < DECIDED:
            yield f"one standard deviation, margin {one.margin:g}: decided in {one.decided.value:.1%}."
        if one.seeds > MEAN_SEEDS:
            yield f"one standard deviation, margin {one.margin:g}: {one.seeds:.1f} seeds on average."


def exceeded_statements(statements: Iterable[Statement]) -> Iterator[str]:
    """Yield a sentence for each row with too few right ranges."""
    for one in statements:
        if one.right < MIN_RIGHT:
            yield (
                f"the range of a chance of a decision, {one.arms} arms, {one.measured} seeds, margin {one.margin:g}, "
                f"effect {one.effect:g} x margin: {100 * one.right:.0f}% right"
            )


def _exceeded(
    title: str, family_wise: Rate, any_noise: Rate | None, equivalence: Rate, any_false: Rate
) -> Iterator[str]:
    named = {"family-wise errors": family_wise, "any noise": any_noise, "false equivalence": equivalence}
    for name, rate in named.items():
        if rate and rate.value > ONE_FAMILY:
            yield f"{title}: {name} {rate.value:.1%}, not at most {ONE_FAMILY:.0%}."
    if any_false.value > BOTH_FAMILIES:
        yield f"{title}: any false verdict {any_false.value:.1%}, not at most {BOTH_FAMILIES:.0%}."
