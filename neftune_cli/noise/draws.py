"""Unit noise, which alpha scales: seeded draws in float32 with mean 0 and variance 1/3 for every distribution."""

import hashlib
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Generator, Tensor

from neftune_cli.config.noises import DISTRIBUTIONS, Draw, NoiseDistribution
from neftune_cli.config.registry import imported
from neftune_cli.errors import Problem, UsageError, with_type

STANDARD_DEVIATION = math.sqrt(1 / 3)
"""Standard deviation of U[-1, 1]. All distributions have it, so that alpha has the same meaning for all of them."""

_SEEDS = 2**32
"""Number of distinct seeds of torch's CPU generator."""
_STRIDE = 0x9E3779B1
"""Odd, so that the seeds of the draws of one stream repeat after 2**32 draws and not before."""
_SAMPLE = (128, 128)
_LARGEST_MEAN = 0.05
_LARGEST_VARIANCE_ERROR = 0.1
"""Relative error. Six standard errors at this sample size for a kurtosis of up to 5."""


class NoiseStream:
    """Unit noise from a separate generator.

    Distribution, seed, rank, shape, index of the draw and kind of device determine each draw. The generator is reseeded
    for each one. A checkpoint therefore stores `draws` alone, and a resumed training continues at the right draw.

    Args:
        noise: name of the distribution.
        seed: the same for all processes of a training run.
        rank: index of the process among those that train together on different data.

    Raises:
        UsageError: `noise` is unknown, its draws do not have mean 0 and variance 1/3, or the seed alone does not
            determine them.
    """

    draws: int
    """Number of draws so far. Set it to continue from another draw."""

    def __init__(self, noise: str = "uniform", seed: int = 0, rank: int = 0) -> None:
        _draw_function(DISTRIBUTIONS[noise])  # raises UsageError here and not at the first draw
        self.distribution = noise
        self.seed = seed
        self.draws = 0
        self._first_seed = int.from_bytes(hashlib.sha256(f"{seed} {rank}".encode()).digest()[:4])
        self._generator = torch.Generator()

    def draw(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the next unit noise: `shape`, float32, on `device`.

        Raises:
            UsageError: the backward pass is running, so that a forward is computed again and would get other noise.
        """
        if torch._C._current_graph_task_id() != -1:
            raise UsageError(_COMPUTED_AGAIN)
        source = torch.device("cpu") if device.type == "mps" else device  # MPS draws 32-bit integers only
        if self._generator.device != source:
            self._generator = torch.Generator(source)
        self._generator.manual_seed((self._first_seed + self.draws * _STRIDE) % _SEEDS)
        self.draws += 1
        return unit_noise(self.distribution, shape, self._generator).to(device)

    def draw_for(
        self,
        embeddings: Tensor,  # (..., dim)
        half_widths: Tensor,  # (...), float32, on the embeddings' device
    ) -> Tensor:
        """Return the product of the next unit noise and the half-widths, in the embeddings' dtype: (..., dim)."""
        unit = self.draw(embeddings.shape, embeddings.device)
        return unit.mul_(half_widths.unsqueeze(-1)).to(embeddings.dtype)


_COMPUTED_AGAIN = Problem(
    "The embeddings are computed a second time, in the backward pass, where they would get other noise: the gradients "
    "would be wrong.",
    "Do not pass the whole model to torch.utils.checkpoint. Checkpoint its layers instead: "
    "model.gradient_checkpointing_enable().",
)


def unit_noise(noise: str, shape: Sequence[int], generator: Generator) -> Tensor:
    """Return independent draws of mean 0 and variance 1/3: `shape`, float32, on the generator's device.

    All distributions have the variance of U[-1, 1], so that a comparison of distributions does not compare magnitudes.
    A standard normal in place of U[-1, 1] at the same alpha, as in the paper's ablation with Gaussian noise, has three
    times that variance: its alpha 5 is `gaussian` with alpha 5 * sqrt(3) = 8.7 here. Likewise, +1 and -1, the draws of
    SymNoise, are `bernoulli` with sqrt(3) times the alpha.

    Source: section 2 of arXiv 2310.05914; arXiv 2312.01523 for SymNoise.

    Raises:
        UsageError: `noise` is unknown, its draws do not have mean 0 and variance 1/3, or the seed alone does not
            determine them.
    """
    return _draw_function(DISTRIBUTIONS[noise])(tuple(shape), generator)


def uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw from the midpoints of 2**16 equal intervals of [-1, 1]."""
    return _random_integers(torch.int16, shape, generator).float().add_(0.5).mul_(2**-15)


def gaussian(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw from the normal distribution."""
    values = torch.empty(shape, dtype=torch.float32, device=generator.device)
    return values.normal_(0, STANDARD_DEVIATION, generator=generator)


def bernoulli(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw plus or minus `STANDARD_DEVIATION` with equal probability."""
    return (_random_integers(torch.int8, shape, generator) < 0).float().sub_(0.5).mul_(2 * STANDARD_DEVIATION)


def _random_integers(dtype: torch.dtype, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Return random integers over the whole range of `dtype`, viewed from 64-bit draws: drawing is the slow part."""
    count = math.prod(shape)
    words = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(dtype)[:count].view(shape)


@cache
def _draw_function(distribution: NoiseDistribution) -> Draw:
    """Import a distribution's draw function, and check the draws of two seeds: type, shape, moments and repetition."""
    try:
        draw = imported(distribution.draw)
        first, again, other = (_sample(distribution, draw, seed) for seed in (0, 0, 1))
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        what = f"The draw function of noise {distribution.name!r} fails: {with_type(error)}."
        raise UsageError(Problem(what, "Correct it. It is called as draw(shape, generator).")) from error
    mean, variance = first.mean().item(), first.var().item()
    if not (abs(mean) <= _LARGEST_MEAN and abs(3 * variance - 1) <= _LARGEST_VARIANCE_ERROR):
        raise UsageError(
            Problem(
                f"The draws of noise {distribution.name!r} have mean {mean:.3g} and variance {variance:.3g}.",
                "Scale them to mean 0 and variance 1/3, so that alpha has the same meaning for every distribution.",
            )
        )
    if not torch.equal(first, again) or torch.equal(first, other):
        which = "are equal for two seeds" if torch.equal(first, other) else "differ for one seed"
        what = f"The draws of noise {distribution.name!r} {which} of the generator."
        raise UsageError(Problem(what, "Draw all random numbers from the generator that the function receives."))
    return draw


def _sample(distribution: NoiseDistribution, draw: Draw, seed: int) -> Tensor:
    sample: object = draw(_SAMPLE, torch.Generator().manual_seed(seed))
    fix = f"Return a float32 tensor of the shape that the function receives, here {_SAMPLE}."
    if not isinstance(sample, Tensor):
        what = f"The draws of noise {distribution.name!r} are a {type(sample).__name__}, not a tensor."
        raise UsageError(Problem(what, fix))
    if sample.shape != _SAMPLE or sample.dtype != torch.float32:
        what = f"The draws of noise {distribution.name!r} have shape {tuple(sample.shape)} and dtype {sample.dtype}."
        raise UsageError(Problem(what, fix))
    return sample.clone()  # the function may write its next draws into the same tensor
