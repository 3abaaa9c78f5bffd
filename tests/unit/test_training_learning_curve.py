"""Learning curve of a training run: last-epoch loss, losses that are not finite, checkpoints, and token rate."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.errors import TrialError
from neftune_cli.records import CurvePoint, ExampleLoss
from neftune_cli.training.fine_tuning import TokenRate
from neftune_cli.training.learning_curve import LearningCurveCallback

NAN = float("nan")


def curve(**options: Any) -> LearningCurveCallback:
    def measure(_: Any, epoch: int) -> list[ExampleLoss]:
        return [
            ExampleLoss(split=split, epoch=epoch, example="e", cluster="c", loss=0.1 + 0.2, tokens=3)
            for split in ("probe", "held-out")
        ]

    return LearningCurveCallback(measure=measure, append=lambda _: None, on_step=lambda *_: None, **options)


def train(callback: LearningCurveCallback, *epochs: list[float]) -> None:
    """Log these losses, and measure after each epoch."""
    step, state = 0, SimpleNamespace(max_steps=sum(map(len, epochs)))
    for number, losses in enumerate(epochs):
        for index, loss in enumerate(losses):
            step += 1
            state.global_step, state.epoch = step, number + (index + 1) / len(losses)
            callback.on_log(None, state, None, {"loss": loss, "learning_rate": 0.1, "num_tokens": 7 * step})  # type: ignore[arg-type]
        callback.on_epoch_end(None, state, None, model=SimpleNamespace())  # type: ignore[arg-type]


def test_last_epoch_loss_is_the_mean_over_the_last_epoch() -> None:
    callback = curve()
    train(callback, [9.0, 9.0], [2.0, 4.0])
    assert callback.last_epoch_loss == 3.0
    assert [point.tokens for point in callback.points] == [7, 14, None, 21, 28, None]


def test_loss_that_is_not_finite_ends_the_trial() -> None:
    with pytest.raises(TrialError, match=r"became nan at step 2\. Lower --learning-rate"):
        train(curve(), [1.0, NAN])


def test_loss_that_is_not_finite_leaves_a_gap_if_divergence_is_allowed() -> None:
    callback = curve(stop_on_divergence=False)
    train(callback, [1.0, NAN], [2.0, float("inf"), 4.0])
    assert [point.train_loss for point in callback.points] == [1.0, None, None, 2.0, None, 4.0, None]
    assert callback.last_epoch_loss == 3.0


def test_last_epoch_without_finite_loss_is_an_error() -> None:
    callback = curve(stop_on_divergence=False)
    train(callback, [1.0, 1.0], [NAN, NAN])
    with pytest.raises(TrialError, match="Lower --learning-rate"):
        _ = callback.last_epoch_loss


def test_state_is_restored_exactly() -> None:
    callback, other = curve(), curve()
    train(callback, [0.1, 0.7], [1 / 3, 2e-17])
    other.restore(json.loads(json.dumps(callback.state())))
    assert other.points == callback.points
    assert all(isinstance(point, CurvePoint) for point in other.points)
    assert other.example_losses == callback.example_losses
    assert other.last_epoch_loss == callback.last_epoch_loss


def test_token_rate_covers_the_last_ten_steps() -> None:
    times = iter([0.0, *[1.0 + step for step in range(11)]])
    rate = TokenRate(clock=lambda: next(times))
    assert rate.at(0) is None
    rates = [rate.at(100 * step) for step in range(1, 12)]
    assert rates[0] == 100.0
    assert rates[-1] == 100.0  # 1000 tokens in 10 seconds


def test_token_rate_excludes_pauses() -> None:
    times = iter([0.0, 1.0, 100.0, 101.0])
    rate = TokenRate(clock=lambda: next(times))
    assert [rate.at(0), rate.at(50)] == [None, 50.0]
    rate.pause()
    assert [rate.at(60), rate.at(90)] == [50.0, 30.0]
