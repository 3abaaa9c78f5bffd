"""Limits that the error rates and the power of planned looks should have."""

from collections.abc import Iterable, Iterator, Mapping

from experiments.null_simulations.error_rates import Rate
from experiments.null_simulations.looks_error_rates import LooksErrorRates, LooksPower
from experiments.null_simulations.planned_tables import TableErrorRates

ONE_FAMILY, BOTH_FAMILIES = 0.06, 0.10
DECIDED, MEAN_SEEDS = 0.95, 13
SKEWED = "lognormal"
"""Part of the titles of models without limits: the differences are so skewed that t-tests fail."""

LOOKS_LIMITS = (
    "Limits: family-wise errors, errors of the any-noise test and false equivalence at most 6%, any false verdict\n"
    "at most 10%; no limits for lognormal values. One arm that differs by a standard deviation is decided in at\n"
    "least 95% of the sweeps, with at most 13 seeds on average.\n"
)


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


def _exceeded(
    title: str, family_wise: Rate, any_noise: Rate | None, equivalence: Rate, any_false: Rate
) -> Iterator[str]:
    named = {"family-wise errors": family_wise, "any noise": any_noise, "false equivalence": equivalence}
    for name, rate in named.items():
        if rate and rate.value > ONE_FAMILY:
            yield f"{title}: {name} {rate.value:.1%}, not at most {ONE_FAMILY:.0%}."
    if any_false.value > BOTH_FAMILIES:
        yield f"{title}: any false verdict {any_false.value:.1%}, not at most {BOTH_FAMILIES:.0%}."
