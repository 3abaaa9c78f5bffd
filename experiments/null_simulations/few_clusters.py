"""Error rates of one arm with few clusters of items, and with items of unequal weight."""

import math
from dataclasses import dataclass, replace
from itertools import product

from experiments.null_simulations.error_rates import LEVEL, Rate, generator, rate_of_sweeps
from experiments.null_simulations.simulated_sweeps import Scenario, SimulatedSweep, Variances, simulate
from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import DEFAULT_LOOKS

LOOKS = ((10,), (20,), DEFAULT_LOOKS)
CLUSTERS, CLUSTER_SIZE = (2, 3, 5, 10), 20
CLUSTER_VARIANCES = (0.1, 0.5, 5.0)
"""Variances of the effects of an arm on clusters, relative to the residual of a cluster of one seed. With a small one,
the mean square of clusters is often below that of the residual by chance."""
ITEMS = (40, 200)
LENGTH_SIGMA = 1.0
"""Standard deviation of the logarithm of the weights, which is that of response lengths in data of mixed tasks."""
MARGIN = 20
"""In true standard errors, so wide that the test against the farther end of the margin is nearly always significant."""


@dataclass(frozen=True)
class ClusterRates:
    """Error rates of one arm at the 5% level."""

    scenario: Scenario
    looks: tuple[int, ...]
    """Numbers of seeds of the tests: one, or those of the planned looks."""
    false_positives: Rate
    without_clusters_alone: Rate
    """The same without the rule that no interval is narrower than that of few clusters alone."""
    false_equivalence: Rate
    """For a true difference equal to the margin."""


def few_clusters() -> list[Scenario]:
    """Return scenarios with few clusters of items, in which the arms have no effect on seeds."""
    return [
        _scenario(f"{clusters} clusters, {share:g} x", ((CLUSTER_SIZE, clusters),), share / CLUSTER_SIZE, 0.0)
        for clusters, share in product(CLUSTERS, CLUSTER_VARIANCES)
    ]


def weighted_items() -> list[Scenario]:
    """Return scenarios with items of equal and of unequal weight, in which the arms have no effect on seeds."""
    return [
        _scenario(f"{items} items, {'unequal' if sigma else 'equal'} weights", ((1, items),), 1.0, sigma)
        for items, sigma in product(ITEMS, (0.0, LENGTH_SIGMA))
    ]


def _scenario(name: str, sizes: tuple[tuple[int, int], ...], arm_cluster: float, length_sigma: float) -> Scenario:
    variances = Variances(arm_cluster=arm_cluster, noise=1.0)
    scenario = Scenario(name, variances, shift=0.0, cluster_sizes=sizes, length_sigma=length_sigma)
    clusters = len(set(scenario.clusters))
    variance = 2 * (arm_cluster / clusters + 1 / scenario.items / DEFAULT_LOOKS[-1])
    return replace(scenario, shift=MARGIN * math.sqrt(variance))


def cluster_rates(scenario: Scenario, looks: tuple[int, ...], repetitions: int) -> ClusterRates:
    """Return the rates in simulated sweeps. Results are deterministic."""
    draws, test, margin = generator(scenario, sum(looks)), SequentialTest(looks), scenario.shift
    p_values, without, equivalent = [], [], []
    for _ in range(repetitions):
        sweep = simulate(scenario, arms=2, seeds=looks[-1], draws=draws)
        at_looks = [_difference(sweep, seeds) for seeds in looks]
        p_values.append(test.p_value([one.p_value() for one in at_looks]))
        without.append(test.p_value([replace(one, cluster_variance=0.0).p_value() for one in at_looks]))
        # with a true difference, these sweeps have the same differences plus the margin
        equivalent.append(test.p_one_sided([max(one.p_above(-2 * margin), one.p_below(0.0)) for one in at_looks]))
    return ClusterRates(
        scenario, looks, *(rate_of_sweeps([p <= LEVEL for p in one]) for one in (p_values, without, equivalent))
    )


def _difference(sweep: SimulatedSweep, seeds: int) -> CrossedMean:
    """Return the difference of the treated arm over the first seeds."""
    baseline, treated = sweep.baseline[:seeds], sweep.treated()[0, :seeds]
    return paired_comparison(baseline, treated, clusters=sweep.scenario.clusters, weights=sweep.weights).crossed
