"""What the best of several arms seems to gain, and what it gains: simulated trials whose true effects are known.

`python -m experiments.winners_curse [--repetitions N]`, about a minute for 1000.

Three ways of measuring the gain of the best arm: on everything it was chosen on, on other items of the same seeds, and
on other seeds and other items, which is `best_arm_gain`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.analysis.best_arm import best_arm_gain
from neftune_cli.analysis.results import BestArm
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import METRICS

BASELINE = "baseline"
CLUSTERS, ITEMS_A_CLUSTER = 50, 2
SEEDS = (3, 5, 10)
HALVINGS = 50
"""Random halves of the clusters, in the way that splits items alone."""


@dataclass(frozen=True)
class World:
    """Where trials come from: a loss is its arm's effect and normal effects of the seed, the cluster and the item."""

    name: str
    effects: tuple[float, ...]
    """True difference of each treated arm to the baseline; negative is good."""
    seed_sd: float
    """Of the effect of a seed on an arm, shared by all items."""
    cluster_sd: float
    """Of the effect of a cluster on an arm, shared by all seeds."""
    item_sd: float
    baseline_varies: bool = True
    """Whether those effects are those of the baseline as well, or of the treated arms alone."""

    def trials(self, seeds: int, draws: np.random.Generator) -> AlignedMetric:
        """Return one sweep's losses of the baseline and the treated arms."""
        arms, items = len(self.effects) + 1, CLUSTERS * ITEMS_A_CLUSTER
        of_clusters = np.repeat(draws.normal(0, self.cluster_sd, (arms, 1, CLUSTERS)), ITEMS_A_CLUSTER, axis=2)
        random = draws.normal(0, self.seed_sd, (arms, seeds, 1)) + of_clusters
        random = random + draws.normal(0, self.item_sd, (arms, seeds, items))
        if not self.baseline_varies:
            random[0] = 0
        labels = np.repeat(np.arange(CLUSTERS), ITEMS_A_CLUSTER).astype(str)
        return AlignedMetric(
            arms=(BASELINE, *(f"arm {number}" for number in range(1, arms))),
            seeds=tuple(range(seeds)),
            clusters=tuple(labels.tolist()),
            values=random + np.array([0.0, *self.effects])[:, None, None],
            weights=np.ones(items),
        )


WORLDS = (
    World("3 equal arms", (0.0,) * 3, 1.0, 3.0, 3.0),
    World("3 equal arms, large effects of seeds", (0.0,) * 3, 1.0, 0.0, 0.1),
    World("3 equal arms, small effects of seeds", (0.0,) * 3, 0.1, 3.0, 3.0),
    World("6 equal arms", (0.0,) * 6, 1.0, 3.0, 3.0),
    World("6 equal arms, baseline without error", (0.0,) * 6, 1.0, 3.0, 3.0, baseline_varies=False),
    World("1 arm of 3 better by 3", (-3.0, 0.0, 0.0), 1.0, 3.0, 3.0),
)


@dataclass(frozen=True)
class Simulated:
    """What the three ways found in each repetition, (repetitions,) each."""

    naive: Floats
    other_items: Floats
    honest: Floats
    standard_errors: Floats
    """Those that the intervals of `honest` come from."""
    covered: NDArray[np.bool_]
    """Whether that interval holds the effect of the arm that is truly best."""

    @property
    def underestimation(self) -> float:
        """Return how far the honest gain varies, as a multiple of its standard error; 1 where that knows everything."""
        return float(self.honest.std(ddof=1) / np.sqrt(np.square(self.standard_errors).mean()))


def main(repetitions: Annotated[int, typer.Option(min=2)] = 1000) -> None:
    """Simulate and print the table in Markdown: means with their Monte Carlo errors."""
    print("| world | seeds | truth | naive | other items | other seeds and items | sd / standard error | 95% covers |")
    print("|" + "---|" * 8)
    for number, world in enumerate(WORLDS):
        for seeds in SEEDS:
            print(_row(world, seeds, simulate(world, seeds, repetitions, seed=number)), flush=True)


def simulate(world: World, seeds: int, repetitions: int, seed: int = 0) -> Simulated:
    """Return what the three ways find in so many independent sweeps."""
    draws = np.random.default_rng((seed, seeds))
    sweeps = (world.trials(seeds, draws) for _ in range(repetitions))
    found = [(_gain(trials), gain_on_other_items(trials, draws)) for trials in sweeps]
    gains = [best.gain for best, _ in found]
    truth = min(world.effects)
    return Simulated(
        naive=np.array([best.naive for best, _ in found]),
        other_items=np.array([other for _, other in found]),
        honest=np.array([gain.difference for gain in gains]),
        standard_errors=np.array([gain.mean.standard_error for gain in gains]),
        covered=np.array([gain.ci_low <= truth <= gain.ci_high for gain in gains]),
    )


def gain_on_other_items(trials: AlignedMetric, draws: np.random.Generator) -> float:
    """Return the mean gain of the arm chosen on half of the clusters of all seeds, measured on the other half."""
    differences = (trials.values[1:] - trials.values[0]).mean(axis=1)  # (arms, items)
    by_cluster = differences.reshape(len(differences), CLUSTERS, -1).mean(axis=2)
    return float(np.mean(list(_halved(by_cluster, draws))))


def _halved(
    by_cluster: Floats,  # (arms, clusters)
    draws: np.random.Generator,
) -> Iterator[float]:
    for _ in range(HALVINGS):
        chosen_on, measured_on = np.split(draws.permutation(CLUSTERS), 2)
        best = by_cluster[:, chosen_on].mean(axis=1).argmin()
        yield float(by_cluster[best, measured_on].mean())


def _gain(trials: AlignedMetric) -> BestArm:
    best = best_arm_gain(trials, BASELINE, METRICS["eval_loss"], confidence=0.95)
    assert best is not None
    return best


def _row(world: World, seeds: int, found: Simulated) -> str:
    means = (_mean(values) for values in (found.naive, found.other_items, found.honest))
    cells = (world.name, seeds, f"{min(world.effects):g}", *means, f"{found.underestimation:.2f}")
    return "| " + " | ".join(map(str, (*cells, f"{found.covered.mean():.1%}"))) + " |"


def _mean(values: Floats) -> str:
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


if __name__ == "__main__":
    typer.run(main)
