"""Simulated sweeps: values of several arms over seeds and items, with all shared random effects."""

import math
from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.scenarios import TOKENS, Scenario
from neftune_cli.evidence.measurements import Floats

TAILS = 4
"""Degrees of freedom of the t distribution of the noise. Its kurtosis is infinite; measured values are 5 to 17."""


@dataclass(frozen=True)
class SimulatedSweep:
    """Values of one sweep without true effects, the baseline first."""

    scenario: Scenario
    latent: Floats
    """(arms, seeds, items)."""
    weights: Floats
    """(items,)."""

    @property
    def baseline(self) -> Floats:
        """Return the values of the baseline, (seeds, items)."""
        return self._measured(self.latent[0])

    def treated(self, shift: float = 0.0) -> Floats:
        """Return the values of the treated arms, each shifted by a true effect, (arms - 1, seeds, items)."""
        return self._measured(self.latent[1:] + shift)

    def _measured(self, latent: Floats) -> Floats:
        return latent if self.scenario.level is None else (latent > 0).astype(np.float64)


def simulate(
    scenario: Scenario, *, arms: int, seeds: int, draws: np.random.Generator, own_seeds: bool = False
) -> SimulatedSweep:
    """Draw one sweep. With `own_seeds` every arm has different seeds, so the arms are not paired by seed."""
    variances, clusters = scenario.variances, scenario.clusters

    def effects(variance: float, *shape: int) -> Floats:
        return math.sqrt(variance) * draws.standard_normal(shape)

    weights = np.ones(scenario.items) if scenario.level is not None else draws.choice(TOKENS, scenario.items) * 1.0
    latent = (
        (scenario.level or 0.0)
        + effects(variances.seed, arms if own_seeds else 1, seeds, 1)
        + effects(variances.item, 1, 1, scenario.items)
        + effects(variances.arm_seed, arms, seeds, 1)
        + effects(variances.arm_cluster, arms, 1, len(set(clusters)))[..., np.array(clusters)]
        + _noise(scenario, (arms, seeds, scenario.items), draws) * np.sqrt(weights.mean() / weights)
    )
    return SimulatedSweep(scenario, latent, weights)


def seed_means(sweep: SimulatedSweep, shift: float = 0.0) -> Floats:
    """Return the score of each arm by seed, (arms, seeds). Treated arms are shifted by a true effect."""
    arms = np.concatenate([sweep.baseline[None], sweep.treated(shift)])
    return np.average(arms, axis=2, weights=sweep.weights)


def _noise(scenario: Scenario, shape: tuple[int, ...], draws: np.random.Generator) -> Floats:
    if scenario.level is not None:
        return math.sqrt(scenario.variances.noise) * draws.standard_normal(shape)
    return math.sqrt(scenario.variances.noise * (TAILS - 2) / TAILS) * draws.standard_t(TAILS, shape)
