"""Hommel's method beside Holm's, with a number of seeds that was chosen in advance."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, Rate, rate, rate_of_sweeps
from experiments.null_simulations.planned_looks import TTests, holm_rows, hommel_rows
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.evidence.measurements import Floats

SEEDS = (5, 10)
EFFECTS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0))
"""True effects of three arms, in standard deviations of a difference."""


@dataclass(frozen=True)
class AdjustmentRates:
    """Results of two adjustments of the same t-tests over seeds."""

    effects: tuple[float, ...]
    seeds: int
    family_wise: tuple[Rate, Rate]
    """Any false positive among the arms without an effect, with Hommel's and with Holm's method."""
    shown: tuple[Rate, Rate]
    """Share of the arms with an effect whose difference is shown, with Hommel's and with Holm's method."""


def adjustment_rates(effects: tuple[float, ...], seeds: int, sweeps: int) -> AdjustmentRates:
    """Return the rates in simulated sweeps. Results are deterministic."""
    model = SeedModel(len(effects))
    true = np.array(effects)
    differences = model.differences(sweeps, seeds, seed_generator(effects, seeds)) + true[:, None]
    p_values = TTests.of(differences).p_different()
    both = [adjust(p_values) <= LEVEL for adjust in (hommel_rows, holm_rows)]
    return AdjustmentRates(
        effects,
        seeds,
        family_wise=(_any(both[0][:, true == 0]), _any(both[1][:, true == 0])),
        shown=(_share(both[0][:, true != 0]), _share(both[1][:, true != 0])),
    )


def _any(happened: np.ndarray) -> Rate:
    return rate_of_sweeps(happened.any(axis=1))


def _share(happened: np.ndarray) -> Rate:
    return rate(happened) if happened.size else Rate(np.nan, np.nan)


@dataclass(frozen=True)
class EquivalenceSeeds:
    """Seeds with which equivalence is shown for an arm without an effect."""

    margin: float
    """In standard deviations of a difference."""
    stated: int | None
    """Number that `seeds_for_equivalence` returns, with the true variance."""
    needed: int | None
    """Smallest number with 80% power in simulations of a fixed design; None if it is over 200."""


def needed_seeds(margin: float, sweeps: int, power: float = 0.8, largest: int = 200) -> int | None:
    """Return the smallest number of seeds with this power of two one-sided tests, by simulation."""
    low, high = 2, largest
    if _equivalence_power(margin, high, sweeps) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _equivalence_power(margin, middle, sweeps) >= power else (middle, high)
    return high


def _equivalence_power(margin: float, seeds: int, sweeps: int) -> float:
    draws = seed_generator(seeds)
    means = draws.standard_normal(sweeps) / np.sqrt(seeds)
    errors: Floats = np.sqrt(draws.chisquare(seeds - 1, sweeps) / (seeds - 1) / seeds)
    return float(np.mean(TTests(means, errors, seeds - 1).p_equivalent(margin) <= LEVEL))
