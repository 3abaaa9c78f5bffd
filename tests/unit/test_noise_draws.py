"""Unit noise: distributions compared with scipy, streams, and distributions registered by other packages."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy import stats

from neftune_cli.config.noises import DISTRIBUTIONS, Draw, NoiseDistribution, register_noise
from neftune_cli.errors import UsageError
from neftune_cli.noise.draws import NoiseStream, uniform
from tests.registries import restored

CPU = torch.device("cpu")
NOISES = tuple(DISTRIBUTIONS)


def draw(noise: str, seed: int = 0, count: int = 40_000) -> torch.Tensor:
    return NoiseStream(noise, seed).draw((count,), CPU)


@pytest.mark.parametrize("noise", NOISES)
def test_every_distribution_has_mean_0_and_variance_one_third(noise: str) -> None:
    values = draw(noise)
    assert values.dtype == torch.float32
    assert values.mean().item() == pytest.approx(0, abs=0.015)
    assert values.var().item() == pytest.approx(1 / 3, rel=0.03)


def test_uniform_is_uniform_on_minus_1_to_1() -> None:
    assert stats.kstest(draw("uniform").numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_gaussian_is_normal_with_variance_one_third() -> None:
    assert stats.kstest(draw("gaussian").numpy(), stats.norm(0, math.sqrt(1 / 3)).cdf).pvalue > 0.001


def test_bernoulli_takes_two_opposite_values_with_equal_probability() -> None:
    values = draw("bernoulli")
    torch.testing.assert_close(values.abs(), torch.full_like(values, 0.57735027))
    assert stats.binomtest(int((values > 0).sum()), len(values)).pvalue > 0.001


@pytest.mark.parametrize("noise", NOISES)
def test_the_seed_alone_determines_the_draws(noise: str) -> None:
    torch.manual_seed(1)
    first = draw(noise, seed=3)
    torch.manual_seed(2)
    assert torch.equal(draw(noise, seed=3), first)
    assert not torch.equal(draw(noise, seed=4), first)


@pytest.mark.parametrize("noise", NOISES)
def test_the_global_generator_does_not_change(noise: str) -> None:
    before = torch.get_rng_state()
    draw(noise)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_are_float32_for_any_default_dtype() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert draw("uniform", count=4).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_stream_resumes_at_a_number_of_draws() -> None:
    stream = NoiseStream("gaussian", seed=3)
    stream.draw((5,), CPU)
    saved = stream.draws
    expected = stream.draw((5,), CPU)

    resumed = NoiseStream("gaussian", seed=3)
    resumed.draws = saved
    assert torch.equal(resumed.draw((5,), CPU), expected)


def test_a_draw_does_not_depend_on_earlier_shapes() -> None:
    streams = NoiseStream(), NoiseStream()
    for stream, length in zip(streams, (2, 700), strict=True):
        stream.draw((length,), CPU)
    first, second = (stream.draw((9,), CPU) for stream in streams)
    assert torch.equal(first, second)


def test_ranks_draw_uncorrelated_and_reproducible_noise() -> None:
    draws = [NoiseStream(seed=seed, rank=rank).draw((1000,), CPU) for seed, rank in ((0, 0), (0, 1), (1, 0), (0, 1))]
    assert torch.equal(draws[1], draws[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(stats.pearsonr(draws[one], draws[other]).statistic) < 0.15


def test_consecutive_draws_are_independent() -> None:
    stream = NoiseStream()
    draws = torch.stack([stream.draw((2000,), CPU) for _ in range(40)])
    correlation = torch.corrcoef(draws) - torch.eye(40)
    assert correlation.abs().max() < 5 / math.sqrt(2000)
    assert stats.kstest(draws[:, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_an_unknown_distribution_raises() -> None:
    with pytest.raises(
        UsageError, match=r"noise distribution 'cauchy' is unknown\. Use one of: uniform, gaussian, bernoulli"
    ):
        NoiseStream("cauchy")


def laplace(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float32) - 0.5
    return -uniforms.sign() * (1 - 2 * uniforms.abs()).log() / math.sqrt(6)


FIXED = uniform((128,), torch.Generator().manual_seed(0))


class InPlace:
    """Draw into one tensor. Like many objects with a state, it is not hashable."""

    __hash__ = None  # type: ignore[assignment]
    values = torch.empty(0)

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        self.values = self.values.resize_(shape)
        return self.values.copy_(laplace(shape, generator))


@pytest.fixture
def registered() -> Iterator[Callable[[Draw | str], None]]:
    """Return a function that registers a draw function under the name `laplace` for one test."""

    def register(draw: Draw | str) -> None:
        register_noise(NoiseDistribution("laplace", "double exponential", draw))

    with restored(DISTRIBUTIONS):
        yield register


@pytest.mark.parametrize("by_name", [False, True])
def test_a_registered_distribution_is_drawn(by_name: bool, registered: Callable[[Draw | str], None]) -> None:
    registered(f"{__name__}:laplace" if by_name else laplace)
    assert stats.kstest(draw("laplace").numpy(), stats.laplace(0, math.sqrt(1 / 6)).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *args: laplace(*args) + 1, "have mean 1 "),
        (lambda *args: laplace(*args) * 1.5, "and variance 0.7"),
        (lambda *args: laplace(*args) / 0, "have mean nan"),
        (lambda *args: laplace(*args).double(), "dtype torch.float64"),
        (lambda shape, generator: laplace(shape[:1], generator), r"have shape \(128,\)"),
        (lambda *args: laplace(*args).tolist(), "are a list, not a tensor"),
        (lambda *args: laplace(*args).numpy(), "are a ndarray, not a tensor"),
        (lambda shape, _: laplace(shape, torch.default_generator), "differ for one seed of the generator"),
        (lambda shape, _: FIXED.expand(shape), "are equal for two seeds of the generator"),
    ],
    ids=["mean", "variance", "not finite", "dtype", "shape", "list", "array", "global generator", "no generator"],
)
def test_a_registered_distribution_whose_draws_cannot_be_used_raises(
    wrong: Draw, message: str, registered: Callable[[Draw | str], None]
) -> None:
    registered(wrong)
    with pytest.raises(UsageError, match=f"The draws of noise 'laplace' .*{message}"):
        NoiseStream("laplace")


def test_an_object_that_draws_into_one_tensor_is_a_draw_function(registered: Callable[[Draw | str], None]) -> None:
    registered(InPlace())
    assert stats.kstest(draw("laplace").numpy(), stats.laplace(0, math.sqrt(1 / 6)).cdf).pvalue > 0.001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda _: torch.ones(1), r"TypeError: .*takes 1 positional argument"),
        ("no_such_module:draw", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("math:no_such_name", "AttributeError"),
        (3, "TypeError: 'int' object is not callable"),
    ],
)
def test_a_draw_function_that_fails_is_named(
    wrong: Draw | str, message: str, registered: Callable[[Draw | str], None]
) -> None:
    registered(wrong)
    with pytest.raises(UsageError, match=f"The draw function of noise 'laplace' fails: .*{message}"):
        NoiseStream("laplace")
