"""Differences of arms that stop at a planned look because of their difference, relative to the true difference."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.planned_looks import replay
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.config.spec import DEFAULT_LOOKS

EFFECTS = (0.5, 0.75, 1.0, 2.0)
"""True differences in standard deviations of a difference of one seed."""


@dataclass(frozen=True)
class StoppingBias:
    """Measured differences of one arm that is shown to differ, divided by the true difference."""

    effect: float
    shown: float
    """Share of the sweeps in which the arm is shown to differ."""
    ratio: float
    """Mean over these sweeps."""
    by_look: tuple[float | None, ...]
    """Mean over the sweeps in which the arm is shown to differ at each look; None with fewer than 50 of them."""


def stopping_bias(effect: float, sweeps: int) -> StoppingBias:
    """Return the bias for one true difference. Results are deterministic."""
    differences = SeedModel(1, (1.0,), 1.0).differences(sweeps, DEFAULT_LOOKS[-1], seed_generator(effect)) + effect
    found = replay(differences, 0.0)
    shown, stopped_at = found.different[:, 0], found.seeds[:, 0]
    ratios = np.array([row[:seeds].mean() for row, seeds in zip(differences[:, 0], stopped_at, strict=True)]) / effect
    by_look = (ratios[shown & (stopped_at == seeds)] for seeds in DEFAULT_LOOKS)
    return StoppingBias(
        effect,
        shown=float(shown.mean()),
        ratio=float(ratios[shown].mean()),
        by_look=tuple(float(one.mean()) if len(one) >= 50 else None for one in by_look),
    )
