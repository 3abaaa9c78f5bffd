"""Error rates for binary metrics with few items, where often no item differs between the arms."""

from dataclasses import dataclass

from scipy.stats import norm

from experiments.null_simulations.error_rates import LEVEL, Rate, compare, generator, rate_of_sweeps
from experiments.null_simulations.simulated_sweeps import Scenario, Variances, simulate
from neftune_cli.analysis.verdicts import equivalence_p_value
from neftune_cli.metrics import METRICS

SHARES = (0.01, 0.05, 0.2)
"""Shares of correct responses of the baseline."""
ITEMS = (20, 50, 100, 200)
MARGIN = METRICS["exact_match"].margin.at(1.0)
MIN_DIFFERING_ITEMS = 20
"""Number of items that differ in any seed from which on false equivalence is within its limits."""
_VARIANCES = Variances(item=4.0, noise=1.0)
"""The variance of items is that of the measured exact match. Seeds and arms have no effects."""


@dataclass(frozen=True)
class BinaryRates:
    """Error rates at the 5% level for one share of correct responses, number of items and number of seeds."""

    share: float
    items: int
    seeds: int
    false_positives: Rate
    false_equivalence: Rate
    """For a true difference equal to the margin, 0.02."""
    many_differ: Rate
    """False equivalence with at least `MIN_DIFFERING_ITEMS` items that differ in any seed."""
    unmeasured: Rate
    """Differences with an unknown standard error, which have no verdict."""


def binary_rates(share: float, items: int, seeds: int, repetitions: int) -> BinaryRates:
    """Return the rates in simulated sweeps of two arms. Results are deterministic."""
    scenario = binary_scenario(share, items)
    draws = generator(scenario, seeds)
    false_positive, equivalent, many, unmeasured = [], [], [], []
    for _ in range(repetitions):
        false_positive.append(compare(simulate(scenario, arms=2, seeds=seeds, draws=draws))[0].p_value <= LEVEL)
        different = simulate(scenario, arms=2, seeds=seeds, draws=draws)
        (one,) = compare(different, shift=scenario.shift)
        differing = (different.treated(scenario.shift)[0] != different.baseline).any(axis=0).sum()
        equivalent.append(equivalence_p_value(one, MARGIN) <= LEVEL)
        many.append(equivalent[-1] and differing >= MIN_DIFFERING_ITEMS)
        unmeasured.append(not one.crossed.is_measured)
    return BinaryRates(
        share, items, seeds, *(rate_of_sweeps(one) for one in (false_positive, equivalent, many, unmeasured))
    )


def binary_scenario(share: float, items: int) -> Scenario:
    """Return the scenario of a share of correct responses. Its shift makes a true difference equal to the margin."""
    spread = (_VARIANCES.without_noise + _VARIANCES.noise) ** 0.5
    level, shifted = (float(norm.ppf(share_correct)) * spread for share_correct in (share, share + MARGIN))
    return Scenario(
        f"{share:.0%} of {items} items",
        _VARIANCES,
        shift=shifted - level,
        cluster_sizes=((1, items),),
        level=level,
    )
