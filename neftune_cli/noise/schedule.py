"""How alpha changes over a training: not at all, or down to zero by the last step."""

import math

from neftune_cli.config import spec

NoiseSchedule = spec.NoiseSchedule
"""The paper's noise is constant; `linear` and `cosine` fall to zero like the learning rates of these names."""


def scheduled_share(schedule: NoiseSchedule, progress: float) -> float:
    """Return what share of alpha applies: 1 at the beginning of a training; at its end 0, unless it is constant.

    Args:
        schedule: how it falls.
        progress: share of the steps that are done, 0 to 1. The last step begins a little before 1, so that every step
            has some noise.

    """
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 1.0
