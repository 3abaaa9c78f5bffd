"""What is simulated: the ablation's records as they were measured, and worse."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

TOKENS = (6, 8, 8, 8, 10, 18, 18, 24, 28, 29)
"""Tokens of held-out answers in results/ablation: the middles of ten equal groups. An item's weight is one of them."""

HELD_OUT_SIZES = ((1, 100), (2, 34), (3, 8), (4, 2))
PROBE_SIZES = ((1, 97), (2, 10), (3, 1))
"""Examples about one person in results/ablation, and the number of such people."""


@dataclass(frozen=True)
class Variances:
    """Of effects that add up to a value. What two arms don't share gives their difference twice its variance."""

    seed: float = 0.0
    """Of a seed, in all arms alike: pairing takes it out."""
    item: float = 0.0
    """Of an item, in all arms and seeds alike."""
    arm_seed: float = 0.0
    arm_cluster: float = 0.0
    """Of an arm's effect on a cluster, in all seeds alike: more seeds don't average it out."""
    noise: float = 0.0
    """Of one value; of an item of mean weight, where items have weights."""

    @property
    def but_noise(self) -> float:
        """Return the sum of the others."""
        return self.seed + self.item + self.arm_seed + self.arm_cluster


@dataclass(frozen=True)
class Scenario:
    """One kind of records, in which arms don't differ but by a shift that is put in."""

    name: str
    variances: Variances
    shift: float
    """A realistic effect; of latent values, where the metric is binary."""
    cluster_sizes: tuple[tuple[int, int], ...] = HELD_OUT_SIZES
    """Items of a cluster, and the number of such clusters."""
    level: float | None = None
    """Mean latent value of a binary metric, whose noise is normal with variance 1; None for a metric that isn't binary,
    whose noise has heavy tails."""
    realistic: bool = False
    """Whether it is made from records."""

    @property
    def items(self) -> int:
        """Return the number of items."""
        return sum(size * count for size, count in self.cluster_sizes)

    @property
    def clusters(self) -> tuple[int, ...]:
        """Return each item's cluster, (items,)."""
        sizes = [size for size, count in self.cluster_sizes for _ in range(count)]
        return tuple(int(cluster) for cluster in np.repeat(np.arange(len(sizes)), sizes))

    def effect(self, shift: float) -> float:
        """Return the true difference that a shift makes, in the metric's unit."""
        if self.level is None:
            return shift
        spread = math.sqrt(self.variances.but_noise + self.variances.noise)
        return float(norm.cdf((self.level + shift) / spread) - norm.cdf(self.level / spread))


# `python -m experiments.null_simulations components results/ablation` (4 alphas, 3 seeds, 2 cores) prints the variances
# of the differences to the baseline; halves of their means over the arms are an arm's own. Of arm x cluster, whose mean
# is about zero in all three metrics, the largest of the arms' estimates is taken. What a seed gives all arms alike is
# the covariance. Shifts are about the largest differences to the baseline in those records.
HELD_OUT_LOSS = Scenario(
    "held-out loss",
    Variances(seed=1.1e-4, item=0.04, arm_seed=3.0e-4, arm_cluster=1.6e-4, noise=6.5e-3),
    shift=0.018,
    realistic=True,
)
TRAINING_LOSS = Scenario(
    "training loss, noise off",
    Variances(seed=3.7e-6, item=1.3e-3, arm_seed=1.9e-5, arm_cluster=2e-5, noise=2.3e-4),
    shift=0.0046,
    cluster_sizes=PROBE_SIZES,
    realistic=True,
)
# Latent variances that give right and wrong answers the rate and the components of the records.
EXACT_MATCH = Scenario(
    "exact match",
    Variances(seed=0.034, item=4.0, arm_seed=0.065, arm_cluster=0.065, noise=1.0),
    shift=0.39,
    level=0.54,
    realistic=True,
)
NOISE_ALONE = Scenario(
    "nothing but noise",
    replace(HELD_OUT_LOSS.variances, arm_seed=0.0, arm_cluster=0.0),
    shift=0.018,
)
# At 144 clusters and 5 seeds, clusters give the mean as much variance as seeds do.
SEEDS_AND_ITEMS = Scenario(
    "items count as much as seeds",
    replace(HELD_OUT_LOSS.variances, arm_cluster=6e-3),
    shift=0.018,
)
ITEMS_ALONE = Scenario(
    "no effect of arms on seeds",
    replace(HELD_OUT_LOSS.variances, arm_seed=0.0, arm_cluster=6e-3),
    shift=0.018,
)
TEN_CLUSTERS = Scenario(
    "ten clusters of 5 to 40 items",
    replace(HELD_OUT_LOSS.variances, arm_cluster=4e-4),
    shift=0.018,
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
