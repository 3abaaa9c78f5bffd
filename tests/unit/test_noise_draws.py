"""The unit noise: each distribution against scipy's, and a stream that depends on its seed alone."""

import math

import pytest
import torch
from scipy import stats

from neftune_cli.errors import UsageError
from neftune_cli.noise.draws import Noise, NoiseStream

CPU = torch.device("cpu")
NOISES: tuple[Noise, ...] = ("uniform", "gaussian", "bernoulli")


def draw(noise: Noise, seed: int = 0, count: int = 40_000) -> torch.Tensor:
    return NoiseStream(noise, seed).draw((count,), CPU)


@pytest.mark.parametrize("noise", NOISES)
def test_every_distribution_has_the_moments_of_the_uniform_one(noise: Noise) -> None:
    values = draw(noise)
    assert values.dtype == torch.float32
    assert values.mean().item() == pytest.approx(0, abs=0.015)
    assert values.var().item() == pytest.approx(1 / 3, rel=0.03)


def test_uniform_is_uniform_between_minus_one_and_one() -> None:
    assert stats.kstest(draw("uniform").numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_gaussian_is_normal() -> None:
    assert stats.kstest(draw("gaussian").numpy(), stats.norm(0, math.sqrt(1 / 3)).cdf).pvalue > 0.001


def test_bernoulli_is_plus_or_minus_one_value_equally_often() -> None:
    values = draw("bernoulli")
    torch.testing.assert_close(values.abs(), torch.full_like(values, 0.57735027))
    assert stats.binomtest(int((values > 0).sum()), len(values)).pvalue > 0.001


@pytest.mark.parametrize("noise", NOISES)
def test_the_seed_alone_decides(noise: Noise) -> None:
    torch.manual_seed(1)
    first = draw(noise, seed=3)
    torch.manual_seed(2)
    assert torch.equal(draw(noise, seed=3), first)
    assert not torch.equal(draw(noise, seed=4), first)


@pytest.mark.parametrize("noise", NOISES)
def test_the_global_generator_is_not_touched(noise: Noise) -> None:
    before = torch.get_rng_state()
    draw(noise)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_are_float32_whatever_the_default_is() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert draw("uniform", count=4).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_stream_goes_on_from_the_draws_it_had_made() -> None:
    stream = NoiseStream("gaussian", seed=3)
    stream.draw((5,), CPU)
    saved = stream.draws
    expected = stream.draw((5,), CPU)

    resumed = NoiseStream("gaussian", seed=3)
    resumed.draws = saved
    assert torch.equal(resumed.draw((5,), CPU), expected)


def test_no_draw_depends_on_the_shapes_before_it() -> None:
    streams = NoiseStream(), NoiseStream()
    for stream, length in zip(streams, (2, 700), strict=True):
        stream.draw((length,), CPU)
    first, second = (stream.draw((9,), CPU) for stream in streams)
    assert torch.equal(first, second)


def test_processes_of_one_training_draw_apart_and_reproducibly() -> None:
    draws = [NoiseStream(seed=seed, rank=rank).draw((1000,), CPU) for seed, rank in ((0, 0), (0, 1), (1, 0), (0, 1))]
    assert torch.equal(draws[1], draws[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(stats.pearsonr(draws[one], draws[other]).statistic) < 0.15


def test_neighbouring_draws_are_independent() -> None:
    stream = NoiseStream()
    draws = torch.stack([stream.draw((2000,), CPU) for _ in range(40)])
    correlation = torch.corrcoef(draws) - torch.eye(40)
    assert correlation.abs().max() < 5 / math.sqrt(2000)
    assert stats.kstest(draws[:, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(UsageError, match=r"noise 'cauchy' is unknown\. Use one of: uniform, gaussian, bernoulli"):
        NoiseStream("cauchy")  # type: ignore[arg-type]
