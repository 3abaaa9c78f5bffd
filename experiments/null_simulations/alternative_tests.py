"""False positives of alternative tests on the same simulated sweeps."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr
from scipy.stats import ttest_ind, ttest_rel

from experiments.null_simulations.error_rates import ARMS, LEVEL, Rate, compare, generator, rate
from experiments.null_simulations.resampling import bootstrap_interval, sign_flip_p_value
from experiments.null_simulations.simulated_sweeps import Scenario, SimulatedSweep, seed_means, simulate
from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.paired import cluster_table
from neftune_cli.evidence.measurements import Floats

BOOTSTRAP_SHARE = 5
"""The bootstrap uses one of this number of repetitions, because it is a hundred times slower."""


@dataclass(frozen=True)
class AlternativeRates:
    """False positives at the 5% level."""

    without_floor: Rate
    """The paired comparison without the rule that items never narrow the interval of the seeds alone."""
    satterthwaite: Rate
    """The same with the degrees of freedom of Satterthwaite (1946), weighted by squared shares."""
    sign_flip: Rate
    bootstrap: Rate
    t_of_seeds: Rate
    """Paired t-test of seed means, which treats items as fixed."""
    welch: Rate
    """Welch's test of the same seed means, which treats them as unpaired."""


def alternative_rates(scenario: Scenario, seeds: int, repetitions: int) -> AlternativeRates:
    """Return the rates in the sweeps that `error_rates` simulates without an effect."""
    draws = generator(scenario, seeds)
    sweeps = [simulate(scenario, arms=ARMS, seeds=seeds, draws=draws) for _ in range(repetitions)]
    means = np.array([seed_means(sweep) for sweep in sweeps])  # (repetitions, arms, seeds)
    return AlternativeRates(
        without_floor=rate([[_without_floor(one.crossed) <= LEVEL for one in compare(sweep)] for sweep in sweeps]),
        satterthwaite=rate([[_satterthwaite(one.crossed) <= LEVEL for one in compare(sweep)] for sweep in sweeps]),
        sign_flip=_false_positives(sweeps, _sign_flip),
        bootstrap=_false_positives(sweeps[: -(-repetitions // BOOTSTRAP_SHARE)], _bootstrap),
        t_of_seeds=rate(t_test(means[:, 1:], means[:, :1], paired=True) <= LEVEL),
        welch=rate(t_test(means[:, 1:], means[:, :1], paired=False) <= LEVEL),
    )


def t_test(
    treated: Floats,  # (..., seeds)
    baseline: Floats,  # (..., seeds)
    *,
    paired: bool,
) -> Floats:
    """Return p-values of t-tests over seeds, (...): paired, or Welch's."""
    with warnings.catch_warnings():
        # with equal seeds the p-value is NaN, which does not count as significant
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            test = ttest_rel(treated, np.broadcast_to(baseline, treated.shape), axis=-1)
        else:
            test = ttest_ind(treated, baseline, axis=-1, equal_var=False)
    return np.asarray(test.pvalue, dtype=np.float64)


def p_values(sweep: SimulatedSweep, p_value: Callable[[Floats], float]) -> list[float]:
    """Return the p-value of each treated arm, NaN if its differences do not vary.

    Args:
        sweep: the arms to compare with the baseline.
        p_value: function of one arm's differences, (seeds, clusters).
    """
    tables = [
        cluster_table(difference, np.broadcast_to(sweep.weights, difference.shape), sweep.scenario.clusters)
        for difference in sweep.treated() - sweep.baseline
    ]
    return [
        p_value(table) if one.crossed.is_measured else math.nan
        for table, one in zip(tables, compare(sweep), strict=True)
    ]


def _without_floor(mean: CrossedMean) -> float:
    """Return the two-sided p-value for no difference from both factors together."""
    degrees = mean.degrees_of_freedom
    return 2 * float(stdtr(degrees, -abs(mean.mean) / mean.standard_error)) if mean.standard_error else 1.0


def _satterthwaite(mean: CrossedMean) -> float:
    """Return the two-sided p-value for no difference."""
    inverse = mean.seed_share**2 / mean.seed_degrees + (1 - mean.seed_share) ** 2 / mean.cluster_degrees
    return 2 * float(stdtr(1 / inverse, -abs(mean.mean) / mean.standard_error)) if mean.standard_error else 1.0


def _false_positives(sweeps: list[SimulatedSweep], p_value: Callable[[Floats], float]) -> Rate:
    return rate([[one <= LEVEL for one in p_values(sweep, p_value)] for sweep in sweeps])


def _sign_flip(table: Floats) -> float:
    return sign_flip_p_value(table.mean(axis=1))


def _bootstrap(table: Floats) -> float:
    return bootstrap_interval(table, confidence=1 - LEVEL)[2]
