"""Selection bias (winner's curse) of the best arm, in simulated sweeps with known true effects.

`python -m experiments.winners_curse [--repetitions N]` takes about four minutes for 1000 repetitions.

The gain of the arm with the best mean is estimated on the data that selected it (naive), on other items of the same
seeds, and on other seeds and other items: over all splits, whichever arm they select (mixture), and over the splits
that select this arm (`best_arm_advantage`). Errors are relative to the true effect of the named arm.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.analysis.best_arm import best_arm_advantage
from neftune_cli.analysis.results import BestArm
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS

BASELINE = "baseline"
CLUSTERS, ITEMS_A_CLUSTER = 50, 2
SEEDS = (3, 5, 10)
HALVINGS = 50
"""Number of random splits of the clusters in the estimate that splits only items."""


@dataclass(frozen=True)
class SweepModel:
    """A distribution of sweeps. A loss is the effect of its arm plus normal effects of seed, cluster and item."""

    name: str
    effects: tuple[float, ...]
    """True difference of each treated arm from the baseline. Negative is an improvement."""
    seed_sd: float
    """Standard deviation of the effect of a seed on an arm, shared by all items."""
    cluster_sd: float
    """Standard deviation of the effect of a cluster on an arm, shared by all seeds."""
    item_sd: float
    """Standard deviation of the residual."""
    baseline_varies: bool = True
    """Whether the baseline has random effects, too."""

    def sweep(self, seeds: int, draws: np.random.Generator) -> AlignedMetric:
        """Return the losses of one sweep, for the baseline and the treated arms."""
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


SCENARIOS = (
    SweepModel("3 equal arms", (0.0,) * 3, 1.0, 3.0, 3.0),
    SweepModel("3 equal arms, large effects of seeds", (0.0,) * 3, 1.0, 0.0, 0.1),
    SweepModel("3 equal arms, small effects of seeds", (0.0,) * 3, 0.1, 3.0, 3.0),
    SweepModel("6 equal arms", (0.0,) * 6, 1.0, 3.0, 3.0),
    SweepModel("6 equal arms, baseline without error", (0.0,) * 6, 1.0, 3.0, 3.0, baseline_varies=False),
    SweepModel("1 arm of 3 better by 1.5", (-1.5, 0.0, 0.0), 1.0, 3.0, 3.0),
    SweepModel("1 arm of 3 better by 3", (-3.0, 0.0, 0.0), 1.0, 3.0, 3.0),
)


@dataclass(frozen=True)
class SimulatedGains:
    """Errors of the estimated gain: estimate minus true effect of the named arm, in each repetition, (repetitions,)."""

    naive: Floats
    other_items: Floats
    mixture: Floats
    """Over all splits, whichever arm they select."""
    own: Floats
    """Over the splits that select the named arm: the estimate of `best_arm_advantage`, where reported, (reported,)."""
    reported: NDArray[np.bool_]
    """Whether enough splits select the named arm for `best_arm_advantage` to report its advantage."""
    covered: NDArray[np.bool_]
    """Whether the interval of a reported gain covers the true effect, (reported,)."""


def main(repetitions: Annotated[int, typer.Option(min=2)] = 1000) -> None:
    """Print a Markdown table with mean errors and their Monte Carlo standard errors."""
    print("| scenario | seeds | naive | other items | mixture | own | coverage | reported |")
    print("|" + "---|" * 8)
    for number, scenario in enumerate(SCENARIOS):
        for seeds in SEEDS:
            print(_row(scenario, seeds, simulate(scenario, seeds, repetitions, seed=number)), flush=True)


def simulate(scenario: SweepModel, seeds: int, repetitions: int, seed: int = 0) -> SimulatedGains:
    """Return the errors of the estimated gains in independent sweeps."""
    draws = np.random.default_rng((seed, seeds))
    sweeps = (scenario.sweep(seeds, draws) for _ in range(repetitions))
    found = [(_gain(sweep), gain_on_other_items(sweep, draws)) for sweep in sweeps]
    bests = [best for best, _ in found]
    truth = np.array([scenario.effects[int(best.arm.split()[1]) - 1] for best in bests])
    own = np.array([best.advantages.get(best.arm, np.nan) for best in bests]) - truth
    bounds = np.array([(best.advantage.ci_low, best.advantage.ci_high) for best in bests])
    reported = np.isfinite(bounds).all(axis=1)
    return SimulatedGains(
        naive=np.array([best.naive for best in bests]) - truth,
        other_items=np.array([other for _, other in found]) - truth,
        mixture=np.array([_mixture(best) for best in bests]) - truth,
        own=own[reported],
        reported=reported,
        covered=((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))[reported],
    )


def _mixture(best: BestArm) -> float:
    return sum(best.chosen[arm] * one for arm, one in best.advantages.items())


def gain_on_other_items(sweep: AlignedMetric, draws: np.random.Generator) -> float:
    """Return the mean gain of the arm selected on half of the clusters of all seeds, measured on the other half."""
    differences = (sweep.values[1:] - sweep.values[0]).mean(axis=1)  # (arms, items)
    by_cluster = differences.reshape(len(differences), CLUSTERS, -1).mean(axis=2)
    orders = np.array([draws.permutation(CLUSTERS) for _ in range(HALVINGS)])
    selection, evaluation = (by_cluster[:, half].mean(axis=2) for half in np.split(orders, 2, axis=1))
    return float(evaluation[selection.argmin(axis=0), np.arange(HALVINGS)].mean())


def _gain(sweep: AlignedMetric) -> BestArm:
    best = best_arm_advantage(sweep, BASELINE, METRICS[HELD_OUT_LOSS], confidence=0.95)
    assert best is not None
    return best


def _row(scenario: SweepModel, seeds: int, found: SimulatedGains) -> str:
    errors = (_mean(values) for values in (found.naive, found.other_items, found.mixture, found.own))
    cells = (scenario.name, seeds, *errors, f"{found.covered.mean():.1%}", f"{found.reported.mean():.0%}")
    return "| " + " | ".join(map(str, cells)) + " |"


def _mean(values: Floats) -> str:
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


if __name__ == "__main__":
    typer.run(main)
