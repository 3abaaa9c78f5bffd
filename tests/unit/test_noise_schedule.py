"""Noise schedules compared with hand-computed values, and changes of alpha on attached noise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neftune_cli.config.noises import SCHEDULES, NoiseSchedule
from neftune_cli.errors import UsageError
from neftune_cli.noise import NEFTuneCallback, attach_noise


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 3 / 4, 1 / 2, 1 / 4]),
        ("cosine", [1, 0.8535533905932737, 1 / 2, 0.14644660940672627]),  # (2 + sqrt(2)) / 4, (2 - sqrt(2)) / 4
    ],
)
def test_factors_in_a_training_of_four_steps(schedule: str, factors: list[float]) -> None:
    assert [SCHEDULES[schedule].factor(step / 4) for step in range(4)] == pytest.approx(factors, abs=1e-12)


@pytest.mark.parametrize(("schedule", "end"), [("constant", 1), ("linear", 0), ("cosine", 0)])
def test_the_factor_at_the_end_of_a_training(schedule: str, end: float) -> None:
    assert SCHEDULES[schedule].factor(1) == end


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000, 100_000])
def test_factors_are_positive_and_do_not_increase(schedule: str, steps: int) -> None:
    factors = [SCHEDULES[schedule].factor(step / steps) for step in range(0, steps, max(1, steps // 500))]
    factors.append(SCHEDULES[schedule].factor((steps - 1) / steps))
    assert factors[0] == 1
    assert min(factors) > 0
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_mean_factor_of_a_decaying_schedule_is_one_half(schedule: str) -> None:
    assert sum(SCHEDULES[schedule].factor((step + 0.5) / 1000) for step in range(1000)) / 1000 == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["", "Linear", "polynomial"])
def test_an_unknown_schedule_raises_with_the_known_names(schedule: str) -> None:
    with pytest.raises(
        UsageError, match=f"noise schedule '{schedule}' is unknown. Use one of: constant, linear, cosine"
    ):
        NEFTuneCallback(schedule=schedule)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (lambda progress: progress - 1, r"is -0\.5 at the progress 0\.5\. Correct the function"),
        (lambda _: float("nan"), r"is nan at the progress 0\.5"),
        (lambda _: "1", r"is '1' at the progress 0\.5"),
        (lambda _: None, r"fails at the progress 0\.5: TypeError"),
        (lambda _: 1 / 0, r"fails at the progress 0\.5: ZeroDivisionError: division by zero"),
        (3, r"fails at the progress 0\.5: TypeError: 'int' object is not callable"),
    ],
)
def test_a_schedule_whose_factor_cannot_be_used_is_named(factor: Callable[[float], float], message: str) -> None:
    with pytest.raises(UsageError, match=f"The factor of the noise schedule 'own' {message}"):
        NoiseSchedule("own", "a schedule", factor).factor_at(0.5)


@pytest.mark.parametrize("number", [0, 0.25, 3, torch.tensor(0.5), np.float32(0.5)])
def test_a_factor_may_be_any_number(number: float) -> None:
    factor = NoiseSchedule("own", "a schedule", lambda _: number).factor_at(0.5)
    assert (type(factor), factor) == (float, number)


class Lookup(nn.Module):
    """A model with zero embeddings, whose output is the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 8)
        nn.init.zeros_(self.embedding.weight)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids)  # type: ignore[no-any-return]


def test_a_change_of_alpha_scales_the_same_noise() -> None:
    outputs = []
    for alphas in ([8.0, 8.0, 8.0], [8.0, 4.0, 2.0]):
        model = Lookup()
        with attach_noise(model) as noise:
            drawn = []
            for alpha in alphas:
                noise.alpha = alpha
                drawn.append(model(torch.ones(1, 3, dtype=torch.long)).detach())
        outputs.append(drawn)
    for factor, constant, falling in zip((1.0, 0.5, 0.25), *outputs, strict=True):
        assert torch.equal(falling, factor * constant)


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf")])
def test_an_invalid_alpha_raises_and_the_previous_alpha_stays(alpha: float) -> None:
    with attach_noise(Lookup(), alpha=5.0) as noise:
        with pytest.raises(UsageError, match=f"alpha must be a finite number, 0 or larger; {alpha} was given"):
            noise.alpha = alpha
        assert noise.alpha == 5.0
