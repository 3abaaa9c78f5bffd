"""Many simulated sweeps at once with one value per arm and seed, as of a metric without values per item."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neftune_cli.evidence.measurements import Floats

Shape = Literal["normal", "t, 3 degrees", "lognormal"]

BETWEEN_ARMS = 0.75
"""Correlation over seeds between two arms with noise, as of the noise-off training loss in the measured sweep. Other
metrics have smaller ones."""
WITH_BASELINE = 0.35
"""Correlation over seeds between an arm with noise and the baseline; 0.02 to 0.46 in the measured sweep."""


@dataclass(frozen=True)
class SeedModel:
    """Distribution of the values of a sweep without effects. The baseline has the standard deviation 1."""

    arms: int = 3
    """Number of arms with noise."""
    spreads: tuple[float, ...] = (1.0,)
    """Standard deviation of each arm with noise; one number for all arms."""
    between_arms: float = BETWEEN_ARMS
    with_baseline: float = WITH_BASELINE
    """Correlation with the baseline; its square is at most `between_arms`."""
    shape: Shape = "normal"

    def values(self, sweeps: int, seeds: int, draws: np.random.Generator) -> Floats:
        """Return values in standard deviations of the baseline, (sweeps, arms + 1, seeds), the baseline first."""
        baseline, common = (self._draw((sweeps, 1, seeds), draws) for _ in range(2))
        own = self._draw((sweeps, self.arms, seeds), draws)
        treated = (
            self.with_baseline * baseline
            + math.sqrt(self.between_arms - self.with_baseline**2) * common
            + math.sqrt(1 - self.between_arms) * own
        )
        return np.concatenate([baseline, self._spreads[:, None] * treated], axis=1)

    def differences(self, sweeps: int, seeds: int, draws: np.random.Generator) -> Floats:
        """Return treated minus baseline in standard deviations of a difference of one seed, (sweeps, arms, seeds)."""
        values = self.values(sweeps, seeds, draws)
        return (values[:, 1:] - values[:, :1]) / self.difference_sd

    @property
    def difference_sd(self) -> float:
        """Return the standard deviation of a difference; with unequal spreads the root mean square over the arms."""
        spreads = self._spreads
        return math.sqrt(np.mean(1 + spreads**2 - 2 * self.with_baseline * spreads))

    @property
    def _spreads(self) -> Floats:
        return np.broadcast_to(np.array(self.spreads), self.arms)

    def _draw(self, shape: tuple[int, ...], draws: np.random.Generator) -> Floats:
        """Return independent values with mean 0 and variance 1."""
        if self.shape == "normal":
            return draws.standard_normal(shape)
        if self.shape == "lognormal":
            return (draws.lognormal(size=shape) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
        return draws.standard_t(3, shape) / math.sqrt(3)


def seed_generator(*key: object) -> np.random.Generator:
    """Return a generator seeded with the text of a key, so that new rows do not change the results of others."""
    return np.random.default_rng(list(repr(key).encode()))
