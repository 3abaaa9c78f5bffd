"""Declarations of noise distributions and noise schedules.

This module does not import torch, so that the command line, the specs and the analysis can list and check the names.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neftune_cli.config.registry import Registry
from neftune_cli.errors import Problem, UsageError, with_type

if TYPE_CHECKING:
    from torch import Generator, Tensor

Draw = Callable[[tuple[int, ...], "Generator"], "Tensor"]
"""Return independent draws of mean 0 and variance 1/3: (shape, generator) -> float32 tensor of that shape."""


@dataclass(frozen=True)
class NoiseDistribution:
    """Distribution of one noise coordinate before it is scaled by alpha.

    Every distribution has mean 0 and variance 1/3, the variance of U[-1, 1], so that alpha has the same meaning for all
    of them. `neftune_cli.noise.draws` checks this on a sample when a distribution is first used, and that the generator
    alone determines the draws.
    """

    name: str
    """Value of `--noise`."""
    description: str
    """One line for help texts and docs."""
    draw: str | Draw = field(hash=False)  # an object with a state need not be hashable
    """The draw function, or `module:function` to import it at first use."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Schedule of alpha during a training run."""

    name: str
    """Value of `--noise-schedule`."""
    description: str
    """One line for help texts and docs."""
    factor: Callable[[float], float]
    """Return the factor on alpha, 0 or larger, at a progress of 0 (first step) to 1 (end of training)."""

    def factor_at(self, progress: float) -> float:
        """Return the factor at a progress from 0 to 1.

        Raises:
            UsageError: the function fails, or the factor is not a finite number, 0 or larger.
        """
        try:
            factor: object = self.factor(progress)
            number = math.nan if isinstance(factor, str) else float(factor)  # type: ignore[arg-type]
        except Exception as error:
            what = f"The factor of the noise schedule {self.name!r} fails at the progress {progress:.3g}"
            raise UsageError(Problem(f"{what}: {with_type(error)}.", _FACTOR_FIX)) from error
        if not (math.isfinite(number) and number >= 0):
            what = f"The factor of the noise schedule {self.name!r} is {factor!r} at the progress {progress:.3g}."
            raise UsageError(Problem(what, _FACTOR_FIX))
        return number


_FACTOR_FIX = "Correct the function: it must return a finite number, 0 or larger, for every progress from 0 to 1."


DISTRIBUTIONS = Registry("noise distribution", "neftune.noises", NoiseDistribution, lambda noise: noise.name)
SCHEDULES = Registry("noise schedule", "neftune.noise_schedules", NoiseSchedule, lambda schedule: schedule.name)


def register_noise(distribution: NoiseDistribution) -> NoiseDistribution:
    """Add a noise distribution in this process; a package uses the entry point group `neftune.noises` instead.

    Raises:
        UsageError: the name is already registered.
    """
    return DISTRIBUTIONS.register(distribution)


def register_schedule(schedule: NoiseSchedule) -> NoiseSchedule:
    """Add a noise schedule in this process; a package uses the entry point group `neftune.noise_schedules` instead.

    Raises:
        UsageError: the name is already registered.
    """
    return SCHEDULES.register(schedule)


DEFAULT_NOISE = "uniform"
register_noise(NoiseDistribution(DEFAULT_NOISE, "U[-1, 1], as in the paper", "neftune_cli.noise.draws:uniform"))
register_noise(NoiseDistribution("gaussian", "normal with variance 1/3", "neftune_cli.noise.draws:gaussian"))
register_noise(
    NoiseDistribution("bernoulli", "+0.577 or -0.577 with equal probability", "neftune_cli.noise.draws:bernoulli")
)

register_schedule(NoiseSchedule("constant", "alpha does not change, as in the paper", lambda _: 1.0))
register_schedule(
    NoiseSchedule("linear", "alpha falls linearly to 0 at the end of training", lambda progress: 1 - progress)
)
register_schedule(
    NoiseSchedule(
        "cosine",
        "alpha falls along a half cosine to 0 at the end of training",
        lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    )
)
