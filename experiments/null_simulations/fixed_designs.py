"""Hommel's method beside Holm's, with a number of seeds that was chosen in advance."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, Rate, rate, rate_of_sweeps
from experiments.null_simulations.planned_looks import Flags, TTests, holm_rows, hommel_rows
from experiments.null_simulations.seed_level import SeedModel, seed_generator

SEEDS = (5, 10)
EFFECTS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0))
"""True effects of three arms, in standard deviations of a difference."""


@dataclass(frozen=True)
class AdjustmentRates:
    """Results of two adjustments of the same t-tests over seeds."""

    effects: tuple[float, ...]
    seeds: int
    false: tuple[Rate | None, Rate | None]
    """Any false positive among the arms without an effect, with Hommel's and with Holm's method; None without any."""
    shown: tuple[Rate | None, Rate | None]
    """Share of the arms with an effect whose difference is shown, with Hommel's and with Holm's method."""


def adjustment_rates(effects: tuple[float, ...], seeds: int, sweeps: int) -> AdjustmentRates:
    """Return the rates in simulated sweeps. Results are deterministic."""
    model = SeedModel(len(effects))
    true = np.array(effects)
    differences = model.differences(sweeps, seeds, seed_generator(effects, seeds)) + true[:, None]
    p_values = TTests.of(differences).p_different()
    hommel, holm = (adjust(p_values) <= LEVEL for adjust in (hommel_rows, holm_rows))
    real = true != 0
    return AdjustmentRates(
        effects,
        seeds,
        false=(_any(hommel[:, ~real]), _any(holm[:, ~real])),
        shown=(_share(hommel[:, real]), _share(holm[:, real])),
    )


def _any(happened: Flags) -> Rate | None:
    return rate_of_sweeps(np.atleast_1d(happened.any(axis=1))) if happened.size else None


def _share(happened: Flags) -> Rate | None:
    return rate(happened) if happened.size else None
