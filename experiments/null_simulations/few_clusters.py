"""Error rates of one arm with few clusters of items, and with clusters or items of unequal weight."""

import math
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, Rate, generator, rate_of_sweeps
from experiments.null_simulations.simulated_sweeps import Scenario, SimulatedSweep, Variances, simulate
from neftune_cli.analysis.crossed_factors import CrossedMean, crossed_mean
from neftune_cli.analysis.paired import cluster_table, paired_comparison
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import DEFAULT_LOOKS

LOOKS = ((10,), (20,), DEFAULT_LOOKS)
CLUSTERS, CLUSTER_SIZE = (2, 3, 5, 10), 20
CLUSTER_VARIANCES = (0.1, 0.5, 5.0)
"""Variances of the effects of an arm on clusters, relative to the residual variance of one cluster at one seed. With a
small one, the mean square of clusters is often below that of the residual by chance."""
ITEMS = (40, 200)
LENGTH_SIGMA = 1.0
"""Standard deviation of the logarithm of the weights. Lengths of responses of mixed tasks have a similar one."""
UNEQUAL_SIZES = {
    "clusters of 60, 40, 30, 20, ...": ((60, 1), (40, 1), (30, 1), (20, 1), (10, 2), (5, 6)),
    "5 clusters of 20, 100 of 1": ((20, 5), (1, 100)),
    "clusters of 150, 1, 1, ...": ((150, 1), (1, 49)),
}
"""Number of items of a cluster, and number of such clusters: 12, 105 and 50 clusters."""
MARGIN = 20
"""In true standard errors, so wide that the test against the farther end of the margin is nearly always significant."""


@dataclass(frozen=True)
class ClusterRates:
    """Error rates of one arm at the 5% level."""

    scenario: Scenario
    looks: tuple[int, ...]
    """Numbers of seeds of the tests: one, or those of the planned looks."""
    effective: float
    """Effective number of clusters, mean over the sweeps."""
    false_positives: Rate
    without_clusters_alone: Rate
    """The same without the rule that no interval is narrower than that of few clusters alone."""
    as_if_equal: Rate
    """False positives of the same values with the variance and the degrees of freedom of clusters of equal weight."""
    false_equivalence: Rate
    """For a true difference equal to the margin."""


def few_clusters() -> list[Scenario]:
    """Return scenarios with few clusters of items, in which the arms have no effect on seeds."""
    return [
        _scenario(f"{clusters} clusters, {share:g} x", ((CLUSTER_SIZE, clusters),), share / CLUSTER_SIZE, 0.0)
        for clusters, share in product(CLUSTERS, CLUSTER_VARIANCES)
    ]


def unequal_clusters() -> list[Scenario]:
    """Return scenarios with clusters or items of unequal weight, in which the arms have no effect on seeds."""
    return [
        *(_scenario(name, sizes, 0.25, 0.0) for name, sizes in UNEQUAL_SIZES.items()),
        *(_scenario(f"{items} items, lognormal weights", ((1, items),), 1.0, LENGTH_SIGMA) for items in ITEMS),
    ]


def _scenario(name: str, sizes: tuple[tuple[int, int], ...], arm_cluster: float, length_sigma: float) -> Scenario:
    """Return a scenario. Its `shift` is the margin, the true difference for which false equivalence is counted."""
    variances = Variances(arm_cluster=arm_cluster, noise=1.0)
    scenario = Scenario(name, variances, shift=0.0, cluster_sizes=sizes, length_sigma=length_sigma)
    clusters = len(set(scenario.clusters))
    variance = 2 * (arm_cluster / clusters + 1 / scenario.items / DEFAULT_LOOKS[-1])
    return replace(scenario, shift=MARGIN * math.sqrt(variance))


def cluster_rates(scenario: Scenario, looks: tuple[int, ...], repetitions: int) -> ClusterRates:
    """Return the rates in simulated sweeps. Results are deterministic."""
    draws, test, margin = generator(scenario, sum(looks)), SequentialTest(looks), scenario.shift
    p_values, without, as_if_equal, equivalent, effective = [], [], [], [], []
    for _ in range(repetitions):
        sweep = simulate(scenario, arms=2, seeds=looks[-1], draws=draws)
        at_looks = [_difference(sweep, seeds) for seeds in looks]
        p_values.append(test.p_value([one.p_value() for one in at_looks]))
        without.append(test.p_value([replace(one, cluster_variance=0.0).p_value() for one in at_looks]))
        as_if_equal.append(test.p_value([_as_if_equal(sweep, seeds) for seeds in looks]))
        effective.append(at_looks[-1].effective_clusters)
        # A true difference equal to the margin would add the margin to every difference. The bounds -margin and margin
        # are shifted instead, to -2 * margin and 0.
        equivalent.append(test.p_one_sided([max(one.p_above(-2 * margin), one.p_below(0.0)) for one in at_looks]))
    found = (p_values, without, as_if_equal, equivalent)
    rates = (rate_of_sweeps([p <= LEVEL for p in one]) for one in found)
    return ClusterRates(scenario, looks, fmean(effective), *rates)


def _difference(sweep: SimulatedSweep, seeds: int) -> CrossedMean:
    """Return the difference of the treated arm over the first seeds."""
    baseline, treated = sweep.baseline[:seeds], sweep.treated()[0, :seeds]
    return paired_comparison(baseline, treated, clusters=sweep.scenario.clusters, weights=sweep.weights).crossed


def _as_if_equal(sweep: SimulatedSweep, seeds: int) -> float:
    """Return the p-value of the treated arm over the first seeds as if all clusters had the same weight."""
    difference = sweep.treated()[0, :seeds] - sweep.baseline[:seeds]
    weights = np.broadcast_to(sweep.weights, difference.shape)
    return crossed_mean(cluster_table(difference, weights, sweep.scenario.clusters)).p_value()
