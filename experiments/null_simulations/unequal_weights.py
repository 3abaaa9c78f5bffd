"""Error rates with clusters or items of very unequal weight, and false positives of simpler variances."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.alternative_tests import p_values
from experiments.null_simulations.error_rates import (
    ARMS,
    LEVEL,
    ErrorRates,
    Rate,
    compare,
    error_rates,
    generator,
    rate,
)
from experiments.null_simulations.simulated_sweeps import Scenario, simulate
from neftune_cli.analysis.crossed_factors import crossed_mean
from neftune_cli.evidence.measurements import Floats


@dataclass(frozen=True)
class UnequalRates:
    """Error rates at the 5% level for one scenario and number of seeds."""

    errors: ErrorRates
    effective: float
    """Effective number of clusters, mean over the sweeps."""
    linearized: Rate
    """False positives of the linearized variance, whose degrees of freedom follow from the number of clusters."""


def unequal_rates(scenario: Scenario, seeds: int, repetitions: int) -> UnequalRates:
    """Return the error rates in simulated sweeps. Results are deterministic."""
    draws = generator(scenario, seeds)
    sweeps = [simulate(scenario, arms=ARMS, seeds=seeds, draws=draws) for _ in range(repetitions)]
    return UnequalRates(
        error_rates(scenario, seeds, repetitions),
        effective=float(np.mean([compare(sweep)[0].crossed.effective_clusters for sweep in sweeps])),
        linearized=rate([[one <= LEVEL for one in p_values(sweep, _as_if_equal)] for sweep in sweeps]),
    )


def _as_if_equal(table: Floats) -> float:
    """Return the p-value of a table, (seeds, clusters), as if all clusters had the same weight."""
    return crossed_mean(table).p_value()
