"""Metrics that count right answers among few items: where nothing differs by luck, and what is made of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm

from experiments.null_simulations.error_rates import LEVEL, Rate, compare, generator, rate
from experiments.null_simulations.records import simulate
from experiments.null_simulations.scenarios import Scenario, Variances
from neftune_cli.analysis.verdicts import equivalence_p_value
from neftune_cli.metrics import METRICS

RATES = (0.01, 0.05, 0.2)
"""Shares of right answers of the baseline."""
ITEMS = (20, 50, 100, 200)
MARGIN = METRICS["exact_match"].margin.at(1.0)
ENOUGH = 20
"""Items that differ in some seed, from which on `equivalent` keeps its promise here."""
_VARIANCES = Variances(item=4.0, noise=1.0)
"""Items are as different as those of exact match in the records; seeds and arms have no effects of their own."""


@dataclass(frozen=True)
class CountRates:
    """Of one share of right answers and number of items and seeds, at the 5% level."""

    share: float
    items: int
    seeds: int
    false_positives: Rate
    false_equivalence: Rate
    """Of a true difference as large as the margin, 0.02."""
    many_differ: Rate
    """False equivalence and at least `ENOUGH` items that differ in some seed."""
    unmeasured: Rate
    """Such differences of which nothing says how sure they are, which get no verdict."""


def count_rates(share: float, items: int, seeds: int, repetitions: int) -> CountRates:
    """Return the rates in as many simulated sweeps of two arms; the same call gives the same rates."""
    scenario = counting(share, items)
    draws = generator(scenario, seeds)
    equal, equivalent, many, unmeasured = [], [], [], []
    for _ in range(repetitions):
        equal.append(compare(simulate(scenario, arms=2, seeds=seeds, draws=draws))[0].p_value <= LEVEL)
        apart = simulate(scenario, arms=2, seeds=seeds, draws=draws)
        (one,) = compare(apart, shift=scenario.shift)
        differ = (apart.treated(scenario.shift)[0] != apart.baseline).any(axis=0).sum()
        equivalent.append(equivalence_p_value(one, MARGIN) <= LEVEL)
        many.append(equivalent[-1] and differ >= ENOUGH)
        unmeasured.append(not one.mean.is_measured)
    return CountRates(share, items, seeds, *(_rate(happened) for happened in (equal, equivalent, many, unmeasured)))


def counting(share: float, items: int) -> Scenario:
    """Return the scenario of a share of right answers, whose shift makes a true difference as large as the margin."""
    spread = (_VARIANCES.but_noise + _VARIANCES.noise) ** 0.5
    level, shifted = (float(norm.ppf(right)) * spread for right in (share, share + MARGIN))
    return Scenario(
        f"{share:.0%} of {items} items",
        _VARIANCES,
        shift=shifted - level,
        cluster_sizes=((1, items),),
        level=level,
    )


def _rate(happened: Sequence[bool]) -> Rate:
    return rate([[one] for one in happened])
