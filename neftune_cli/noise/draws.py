"""The unit noise that alpha scales: seeded, in float32, and of the same variance whichever its distribution."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Generator, Tensor

from neftune_cli.config import spec
from neftune_cli.errors import Problem, UsageError

Noise = spec.NoiseShape
"""The distribution of one coordinate: U[-1, 1] (the paper's), normal, or plus and minus a constant (SymNoise's)."""

STANDARD_DEVIATION = math.sqrt(1 / 3)
"""Of U[-1, 1]; the other distributions are matched to it, so that alpha means the same strength for all of them."""

_SEEDS = 2**32
"""How many seeds torch's generator on the CPU tells apart."""
_STRIDE = 0x9E3779B1
"""Odd, so that the seeds of one stream's draws repeat after 2**32 draws and not before."""


def unit_noise(noise: Noise, shape: Sequence[int], generator: Generator) -> Tensor:
    """Return independent draws of mean 0 and variance 1/3: `shape`, float32, on the generator's device.

    All three have the variance of the uniform one, so that comparing them isn't comparing sizes. A standard normal in
    place of U[-1, 1] at the same alpha, which is what the paper's ablation with Gaussian noise amounts to, has three
    times that variance: its alpha 5 is `gaussian` with alpha 5 * sqrt(3) = 8.7 here. Plus and minus one, SymNoise's
    draw, is `bernoulli` with sqrt(3) times the alpha likewise.

    Source: section 2 of arXiv 2310.05914; arXiv 2312.01523 for SymNoise.

    """
    if noise == "gaussian":
        values = torch.empty(shape, dtype=torch.float32, device=generator.device)
        return values.normal_(0, STANDARD_DEVIATION, generator=generator)
    if noise == "uniform":  # the middles of 2**16 equal steps from -1 to 1
        return _random_integers(torch.int16, shape, generator).float().add_(0.5).mul_(2**-15)
    return (_random_integers(torch.int8, shape, generator) < 0).float().sub_(0.5).mul_(2 * STANDARD_DEVIATION)


def _random_integers(dtype: torch.dtype, shape: Sequence[int], generator: Generator) -> Tensor:
    """Return random integers over the whole range of `dtype`, cut from ones of 64 bits: drawing is what takes time."""
    count = math.prod(shape)
    words = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(dtype)[:count].view(shape)


class NoiseStream:
    """Unit noise on a generator of its own: draw number n is decided by seed, rank, n and shape, and by nothing else.

    The generator is seeded anew for each draw, so that `draws` is all there is to save of it, and a training that is
    resumed on another device still goes on at the right place.

    Args:
        noise: the distribution.
        seed: the same for all processes of a training.
        rank: number of the process among those that train together on different data.

    Raises:
        UsageError: `noise` is unknown.

    """

    draws: int
    """How many draws have been made. Set it to go on from there."""

    def __init__(self, noise: Noise = "uniform", seed: int = 0, rank: int = 0) -> None:
        check_choice("noise", noise, Noise)
        self.noise: Noise = noise
        self.seed = seed
        self.draws = 0
        self._first_seed = int.from_bytes(hashlib.sha256(f"{seed} {rank}".encode()).digest()[:4])
        self._generator = torch.Generator()

    def draw(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the next unit noise: `shape`, float32, on `device`."""
        source = torch.device("cpu") if device.type == "mps" else device  # whose random integers have 32 bits
        if self._generator.device != source:
            self._generator = torch.Generator(source)
        self._generator.manual_seed((self._first_seed + self.draws * _STRIDE) % _SEEDS)
        self.draws += 1
        return unit_noise(self.noise, shape, self._generator).to(device)

    def draw_for(
        self,
        embeddings: Tensor,  # (..., dim)
        scale: Tensor,  # (...), float32, on the embeddings' device
    ) -> Tensor:
        """Return the next noise for embeddings, in their dtype, multiplied in float32: (..., dim)."""
        unit = self.draw(embeddings.shape, embeddings.device)
        return unit.mul_(scale.unsqueeze(-1)).to(embeddings.dtype)


def check_choice(what: str, value: str, literal: Any) -> None:
    """Raise a UsageError unless `value` is one of the values of a Literal type; `what` says what it was to be."""
    if value not in get_args(literal):
        choices = ", ".join(get_args(literal))
        raise UsageError(Problem(f"{what} {value!r} is unknown.", f"Use one of: {choices}."))
