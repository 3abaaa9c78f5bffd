"""The unit noise that alpha scales: seeded, in float32, and of the same variance whichever its distribution."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from neftune_cli.errors import Problem, UsageError

Noise = Literal["uniform", "gaussian", "bernoulli"]
"""The distribution of one coordinate: U[-1, 1] (the paper's), normal, or plus and minus a constant."""

STANDARD_DEVIATION = math.sqrt(1 / 3)
"""Of U[-1, 1]; the other distributions are matched to it, so that alpha means the same strength for all of them."""


def unit_noise(noise: Noise, shape: Sequence[int], generator: Generator) -> Tensor:
    """Return independent draws of mean 0 and variance 1/3: `shape`, float32, on the generator's device."""
    values = torch.empty(shape, dtype=torch.float32, device=generator.device)
    if noise == "uniform":
        return values.uniform_(-1, 1, generator=generator)
    if noise == "gaussian":
        return values.normal_(0, STANDARD_DEVIATION, generator=generator)
    return values.bernoulli_(0.5, generator=generator).sub_(0.5).mul_(2 * STANDARD_DEVIATION)


class NoiseStream:
    """Unit noise on a generator of its own: draw number n depends on the seed, n and the shapes, and on nothing else.

    The generator is made at the first draw, on the device of the embeddings, which may still move before that.
    """

    def __init__(self, noise: Noise = "uniform", seed: int = 0) -> None:
        if noise not in get_args(Noise):
            choices = ", ".join(get_args(Noise))
            raise UsageError(Problem(f"noise {noise!r} is unknown.", f"Use one of: {choices}."))
        self.noise: Noise = noise
        self.seed = seed
        self._generator: Generator | None = None
        self._saved: Tensor | None = None

    def draw(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the next unit noise: `shape`, float32, on `device`."""
        if self._generator is None:
            self._generator = self._start(device)
        return unit_noise(self.noise, shape, self._generator)

    @property
    def state(self) -> Tensor | None:
        """The generator's state, a uint8 tensor on the CPU; None before the first draw. Set it to go on from there."""
        return self._saved if self._generator is None else self._generator.get_state()

    @state.setter
    def state(self, state: Tensor | None) -> None:
        self._saved = state
        self._generator = None

    def _start(self, device: torch.device) -> Generator:
        generator = torch.Generator(device).manual_seed(self.seed)
        if self._saved is not None:
            _restore(generator, self._saved)
        return generator


def _restore(generator: Generator, state: Tensor) -> None:
    try:
        # A checkpoint read with map_location has put every tensor on the device; generators take theirs from the CPU.
        generator.set_state(state.cpu())
    except RuntimeError as error:
        raise UsageError(
            Problem(
                f"The saved state of the noise comes from another kind of device than {generator.device.type}.",
                "Go on with the training on the kind of device it began on, or start it again.",
            )
        ) from error
