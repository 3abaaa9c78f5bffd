"""Chances of a decision that `compare` states after the first seeds, beside the frequencies of these decisions."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from experiments.null_simulations.error_rates import LEVEL
from experiments.null_simulations.planned_looks import Flags, Replay, TTests, replay
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.analysis.crossed_factors import CrossedMean
from neftune_cli.analysis.planning import outlook
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import Floats

MEASURED_SEEDS = (3, 5)
"""Seeds from which the chances are stated: of a fixed design, and of the first planned look."""
MARGINS = (0.5, 1.0, 2.0)
"""In standard deviations of a difference."""
EFFECTS = (0.0, 1.0, 2.0)
"""Assumed and true effects, in margins."""

STATEMENTS = tuple(product((1, 3), MEASURED_SEEDS, MARGINS, EFFECTS))
"""Numbers of arms and of seeds, margins and effects."""


@dataclass(frozen=True)
class Statement:
    """Chances of a decision in sweeps that were not decided with the measured seeds, 0 to 1."""

    arms: int
    measured: int
    margin: float
    effect: float
    """In margins; of all arms."""
    stated: tuple[float, float]
    """Mean stated chance until the next look and until the last one."""
    happened: tuple[float, float]
    """Share of the same sweeps in which the first arm was decided until then."""
    open: float
    """Share of the sweeps that were not decided with the measured seeds."""

    @property
    def errors(self) -> tuple[float, float]:
        """Return stated minus true chance, for the next look and for the last one."""
        return self.stated[0] - self.happened[0], self.stated[1] - self.happened[1]


def statement(arms: int, measured: int, margin: float, effect: float, sweeps: int) -> Statement:
    """Return the chances in simulated sweeps. Results are deterministic."""
    model = SeedModel(arms) if arms > 1 else SeedModel(1, (1.0,), 1.0)
    draws = seed_generator(arms, measured, margin, effect)
    differences = model.differences(sweeps, DEFAULT_LOOKS[-1], draws) + effect * margin
    coming = [look for look in DEFAULT_LOOKS if look > measured]
    first = replay(differences, margin, (measured,) if measured < DEFAULT_LOOKS[0] else DEFAULT_LOOKS[:1])
    planned = replay(differences, margin)
    is_open = planned.seeds[:, 0] > measured if measured in DEFAULT_LOOKS else ~first.decided[:, 0]
    stated = [
        _stated(of_sweep[0, :measured], margin, effect * margin, arms, (coming[0], coming[-1]))
        for of_sweep in differences[is_open]
    ]
    return Statement(
        arms,
        measured,
        margin,
        effect,
        stated=(float(np.mean([one[0] for one in stated])), float(np.mean([one[1] for one in stated]))),
        happened=(
            float(_decided_until(planned, coming[0])[is_open].mean()),
            float(planned.decided[is_open, 0].mean()),
        ),
        open=float(is_open.mean()),
    )


def _stated(
    differences: Floats,  # (seeds,)
    margin: float,
    effect: float,
    arms: int,
    looks: tuple[int, int],
) -> tuple[float, float]:
    found = TTests.of(differences)
    seeds = len(differences)
    variance = float(found.error**2 * seeds)
    mean = CrossedMean(float(found.mean), variance, 0.0, seeds, 1, seeds - 1, 1.0)
    test = SequentialTest(DEFAULT_LOOKS)
    chances = outlook(mean, effect, margin=margin, test=test, alpha=LEVEL, looks=looks, arms=arms)
    return chances[0].chance, chances[-1].chance


def _decided_until(found: Replay, seeds: int) -> Flags:
    """Return whether the first arm was decided with at most this number of seeds, (sweeps,)."""
    return found.decided[:, 0] & (found.seeds[:, 0] <= seeds)
