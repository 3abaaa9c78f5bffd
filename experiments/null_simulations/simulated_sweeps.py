"""Simulated sweeps in scenarios: three with the variance components of a measured sweep, and five extreme ones."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.stats import norm

from neftune_cli.evidence.measurements import Floats

TOKENS = (6, 8, 8, 8, 10, 18, 18, 24, 28, 29)
"""Tokens of held-out completions in results/ablation: medians of ten equal groups. Each weight is one of them."""

HELD_OUT_SIZES = ((1, 100), (2, 34), (3, 8), (4, 2))
PROBE_SIZES = ((1, 97), (2, 10), (3, 1))
"""Number of examples about one person in results/ablation, and number of such persons."""


@dataclass(frozen=True)
class Variances:
    """Variances of the effects that add up to a value. Effects that arms do not share count twice in a difference."""

    seed: float = 0.0
    """Effect of a seed on all arms, which pairing removes."""
    item: float = 0.0
    """Effect of an item on all arms and seeds."""
    treated_seed: float = 0.0
    """Effect of a seed on all treated arms; the baseline has an effect of its own with this variance."""
    arm_seed: float = 0.0
    """Effect of a seed on one arm."""
    arm_cluster: float = 0.0
    """Effect of an arm on a cluster in all seeds. More seeds do not average it out."""
    noise: float = 0.0
    """Residual of one value, for an item of mean weight."""

    @property
    def without_noise(self) -> float:
        """Return the sum of all variances except the noise."""
        return self.of_seed + self.item + self.arm_cluster

    @property
    def of_seed(self) -> float:
        """Return the variance of an arm over seeds."""
        return self.seed + self.treated_seed + self.arm_seed


@dataclass(frozen=True)
class Scenario:
    """One kind of simulated sweeps. Without a shift all arms have the same true value."""

    name: str
    """Title of the scenario, and the seed of its draws."""
    variances: Variances
    shift: float
    """A realistic effect. For a binary metric it is an effect on latent values."""
    cluster_sizes: tuple[tuple[int, int], ...] = HELD_OUT_SIZES
    """Number of items of a cluster, and number of such clusters."""
    level: float | None = None
    """Mean latent value of a binary metric, whose noise is normal with variance 1. None for other metrics, whose noise
    has heavy tails."""
    realistic: bool = False
    """Whether its variances were measured."""
    length_sigma: float | None = None
    """Standard deviation of the logarithm of the weights, which are lognormal. None for weights of `TOKENS`, and for
    the equal weights of a binary metric."""

    @property
    def items(self) -> int:
        """Return the number of items."""
        return sum(size * count for size, count in self.cluster_sizes)

    @cached_property
    def clusters(self) -> tuple[int, ...]:
        """Return the cluster of each item, (items,)."""
        sizes = [size for size, count in self.cluster_sizes for _ in range(count)]
        return tuple(int(cluster) for cluster in np.repeat(np.arange(len(sizes)), sizes))

    def effect(self, shift: float) -> float:
        """Return the true difference of a shift, in the metric's unit."""
        if self.level is None:
            return shift
        spread = math.sqrt(self.variances.without_noise + self.variances.noise)
        return float(norm.cdf((self.level + shift) / spread) - norm.cdf(self.level / spread))


# `python -m experiments.null_simulations components results/ablation12` (4 alphas, 12 seeds) prints the variances of
# differences from the baseline. Half of their mean over the arms is the variance of one arm, without the effect of a
# seed on all arms, which is the covariance with the baseline. The correlation between arms with noise gives the effect
# of a seed on all of these. The mean of arm x cluster is about zero for all three metrics, so the largest estimate of
# an arm is used; for exact match none is positive. Shifts are half the standard deviation of a difference of one seed.
HELD_OUT_LOSS = Scenario(
    "held-out loss",
    Variances(seed=1.7e-5, item=0.02, treated_seed=8e-5, arm_seed=6.5e-4, arm_cluster=3.2e-5, noise=8.8e-3),
    shift=0.019,
    realistic=True,
)
TRAINING_LOSS = Scenario(
    "noise-off training loss",
    Variances(seed=3.6e-5, item=8.2e-4, treated_seed=2.8e-5, arm_seed=1e-5, arm_cluster=8.6e-6, noise=4e-4),
    shift=0.0045,
    cluster_sizes=PROBE_SIZES,
    realistic=True,
)
# Latent variances with which responses have the measured share of correct ones and the measured components.
EXACT_MATCH = Scenario(
    "exact match",
    Variances(seed=0.08, item=5.9, treated_seed=0.02, arm_seed=0.055, noise=1.0),
    shift=0.22,
    level=0.64,
    realistic=True,
)
NOISE_ALONE = Scenario(
    "residual variation only",
    replace(HELD_OUT_LOSS.variances, treated_seed=0.0, arm_seed=0.0, arm_cluster=0.0),
    shift=0.019,
)
# With 144 clusters and 5 seeds, clusters and seeds contribute equally to the variance of the mean.
SEEDS_AND_ITEMS = Scenario(
    "items count as much as seeds",
    replace(HELD_OUT_LOSS.variances, arm_cluster=1.45e-2),
    shift=0.019,
)
ITEMS_ALONE = Scenario(
    "no effect of arms on seeds",
    replace(HELD_OUT_LOSS.variances, treated_seed=0.0, arm_seed=0.0, arm_cluster=6e-3),
    shift=0.019,
)
TEN_CLUSTERS = Scenario(
    "ten clusters of 5 to 40 items",
    replace(HELD_OUT_LOSS.variances, arm_cluster=1e-3),
    shift=0.019,
    cluster_sizes=((5, 2), (10, 2), (20, 2), (25, 2), (40, 2)),
)
RARE_EVENTS = Scenario(
    "events at one item in a hundred",
    Variances(item=1.0, noise=1.0),
    shift=0.63,
    level=-3.29,
)

SCENARIOS = (
    HELD_OUT_LOSS,
    TRAINING_LOSS,
    EXACT_MATCH,
    NOISE_ALONE,
    SEEDS_AND_ITEMS,
    ITEMS_ALONE,
    TEN_CLUSTERS,
    RARE_EVENTS,
)


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

    weights = _weights(scenario, draws)
    latent = (
        (scenario.level or 0.0)
        + effects(variances.seed, arms if own_seeds else 1, seeds, 1)
        + effects(variances.item, 1, 1, scenario.items)
        + _treated(effects(variances.treated_seed, arms, seeds, 1), own_seeds=own_seeds)
        + effects(variances.arm_seed, arms, seeds, 1)
        + effects(variances.arm_cluster, arms, 1, len(set(clusters)))[..., np.array(clusters)]
        + _noise(scenario, (arms, seeds, scenario.items), draws) * np.sqrt(weights.mean() / weights)
    )
    return SimulatedSweep(scenario, latent, weights)


def _weights(scenario: Scenario, draws: np.random.Generator) -> Floats:
    """Return the weight of each item, (items,)."""
    if scenario.level is not None:
        return np.ones(scenario.items)
    if scenario.length_sigma is not None:
        return np.exp(scenario.length_sigma * draws.standard_normal(scenario.items))
    return draws.choice(TOKENS, scenario.items) * 1.0


def _treated(
    effects: Floats,  # (arms, seeds, 1)
    *,
    own_seeds: bool,
) -> Floats:
    """Return effects that all treated arms share, (arms, seeds, 1). With own seeds, arms share no effects."""
    return effects if own_seeds else effects[[0, *[1] * (len(effects) - 1)]]


def seed_means(sweep: SimulatedSweep, shift: float = 0.0) -> Floats:
    """Return the score of each arm by seed, (arms, seeds). Treated arms are shifted by a true effect."""
    arms = np.concatenate([sweep.baseline[None], sweep.treated(shift)])
    return np.average(arms, axis=2, weights=sweep.weights)


def _noise(scenario: Scenario, shape: tuple[int, ...], draws: np.random.Generator) -> Floats:
    if scenario.level is not None:
        return math.sqrt(scenario.variances.noise) * draws.standard_normal(shape)
    return math.sqrt(scenario.variances.noise * (TAILS - 2) / TAILS) * draws.standard_t(TAILS, shape)
