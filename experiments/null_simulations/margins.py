"""Equivalence margins relative to the standard deviation of a difference, and the seeds that they need."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, Rate, rate_of_sweeps
from experiments.null_simulations.planned_looks import TTests, replay
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.outlook import POWER, seeds_for_equivalence
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import Floats

MARGINS = (0.25, 0.5, 1.0, 2.0)
"""In standard deviations of a difference of one seed."""
LARGEST = 200


@dataclass(frozen=True)
class MarginSeeds:
    """Seeds with which equivalence is shown for one arm without an effect."""

    margin: float
    needed: int | None
    """Smallest number of a fixed design with 80% power, by simulation; None if it is over 200."""
    stated: int | None
    """Number that `seeds_for_equivalence` returns for the true variance."""
    equivalent: Rate
    """Share of sweeps with planned looks that show equivalence."""
    seeds: float
    """Mean number of seeds of these sweeps."""
    false_equivalence: Rate
    """Share of sweeps with planned looks that show equivalence for a difference equal to the margin."""


def margin_seeds(margin: float, sweeps: int) -> MarginSeeds:
    """Return the seeds for one margin. Results are deterministic."""
    differences = SeedModel(1, (1.0,), 1.0).differences(sweeps, DEFAULT_LOOKS[-1], seed_generator(margin))
    none, beyond = replay(differences, margin), replay(differences + margin, margin)
    known = CrossedMean(0.0, 1.0, 0.0, LARGEST, 1, LARGEST - 1, 1.0)
    return MarginSeeds(
        margin,
        needed=_needed_seeds(margin, sweeps),
        stated=seeds_for_equivalence(known, margin, LEVEL),
        equivalent=rate_of_sweeps(none.equivalent[:, 0]),
        seeds=float(none.seeds.mean()),
        false_equivalence=rate_of_sweeps(beyond.equivalent[:, 0]),
    )


def _needed_seeds(margin: float, sweeps: int) -> int | None:
    low, high = 2, LARGEST
    if _equivalence_power(margin, high, sweeps) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _equivalence_power(margin, middle, sweeps) >= POWER else (middle, high)
    return high


def _equivalence_power(margin: float, seeds: int, sweeps: int) -> float:
    draws = seed_generator(seeds)
    means = draws.standard_normal(sweeps) / np.sqrt(seeds)
    errors: Floats = np.sqrt(draws.chisquare(seeds - 1, sweeps) / (seeds - 1) / seeds)
    return float(np.mean(TTests(means, errors, seeds - 1).p_equivalent(margin) <= LEVEL))
