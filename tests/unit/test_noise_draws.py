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


def test_a_stream_goes_on_from_a_saved_state() -> None:
    stream = NoiseStream("gaussian", seed=0)
    stream.draw((5,), CPU)
    saved = stream.state
    expected = stream.draw((5,), CPU)

    resumed = NoiseStream("gaussian", seed=99)
    resumed.state = saved
    assert resumed.state is saved
    assert torch.equal(resumed.draw((5,), CPU), expected)


def test_a_state_from_before_the_first_draw_starts_over() -> None:
    stream = NoiseStream("uniform", seed=5)
    fresh = stream.state
    assert fresh is None
    expected = stream.draw((3,), CPU)
    stream.state = fresh
    assert torch.equal(stream.draw((3,), CPU), expected)


def test_a_state_from_another_kind_of_device_is_refused() -> None:
    stream = NoiseStream()
    stream.state = torch.zeros(16, dtype=torch.uint8)  # as long as a CUDA generator's
    with pytest.raises(UsageError, match="another kind of device than cpu"):
        stream.draw((1,), CPU)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(UsageError, match=r"noise 'cauchy' is unknown\. Use one of: uniform, gaussian, bernoulli"):
        NoiseStream("cauchy")  # type: ignore[arg-type]
