"""Learning curve of a training run: last-epoch loss, losses that are not finite, checkpoints, and token rate."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.errors import TrialError
from neftune_cli.records import CurvePoint, ExampleLoss
from neftune_cli.training.fine_tuning import TokenRate
from neftune_cli.training.learning_curve import LearningCurveCallback, loss_points

NAN = float("nan")


def curve(**options: Any) -> LearningCurveCallback:
    def measure(_: Any, epoch: int, __: Any) -> list[ExampleLoss]:
        return [
            ExampleLoss(split=split, epoch=epoch, example="e", cluster="c", loss=0.1 + 0.2, tokens=3)
            for split in ("probe", "held-out")
        ]

    return LearningCurveCallback(measure=measure, append=lambda _: None, on_step=lambda *_: None, **options)


def train(callback: LearningCurveCallback, *epochs: list[float]) -> None:
    """Log these losses, and end each epoch. The last one is not measured."""
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
    assert [point.tokens for point in callback.points] == [7, 14, None, 21, 28]


def test_loss_that_is_not_finite_ends_the_trial() -> None:
    with pytest.raises(TrialError, match=r"became nan at step 2\. Lower --learning-rate"):
        train(curve(), [1.0, NAN])


def test_loss_that_is_not_finite_leaves_a_gap_if_divergence_is_allowed() -> None:
    callback = curve(stop_on_divergence=False)
    train(callback, [1.0, NAN], [2.0, float("inf"), 4.0])
    assert [point.train_loss for point in callback.points] == [1.0, None, None, 2.0, None, 4.0]
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


def test_a_part_of_the_examples_is_measured_after_epochs_that_are_not_the_best_so_far() -> None:
    held_out = {"a": [3.0, 2.0, 2.5, 1.0, 1.5], "b": [9.0, 9.0, 9.0, 9.0, 7.0]}
    """Losses after the five epochs; only a is in the part."""
    asked: list[tuple[int, str]] = []

    def measure(_: Any, epoch: int, is_measured: Callable[[str], bool]) -> list[ExampleLoss]:
        names = [name for name in ("p", "q", "a", "b") if is_measured(name)]
        asked.extend((epoch, name) for name in names)
        return [
            ExampleLoss(
                split="held-out" if name in held_out else "probe",
                epoch=epoch,
                example=name,
                cluster=name,
                loss=held_out.get(name, [0.5] * 5)[epoch - 1],
                tokens=1,
            )
            for name in names
        ]

    appended: list[CurvePoint] = []
    callback = LearningCurveCallback(
        measure=measure, append=appended.append, on_step=lambda *_: None, subset=frozenset({"p", "a"})
    )
    train(callback, *[[1.0]] * 5)
    assert len(asked) == len(set(asked))  # nothing is measured twice
    rows = [(row.epoch, row.split[0], row.example) for row in callback.example_losses]
    part = [("p", "p"), ("h", "a")]
    everything = [("p", "p"), ("p", "q"), ("h", "a"), ("h", "b")]
    measured = {1: everything, 2: everything, 3: part, 4: everything}
    assert rows == [(epoch, *row) for epoch, of_epoch in measured.items() for row in of_epoch]
    last = loss_points(measure(None, 5, lambda _: True), frozenset({"p", "a"}), step=5, epoch=5.0)
    points = [(point.epoch, point.eval_examples, point.eval_loss) for point in appended + last if point.eval_loss]
    assert points == [
        (1.0, 2, 6.0),
        (1.0, 1, 3.0),  # the part comes last, so that it forms the plotted curve
        (2.0, 2, 5.5),
        (2.0, 1, 2.0),
        (3.0, 1, 2.5),
        (4.0, 2, 5.0),
        (4.0, 1, 1.0),
        (5.0, 2, 4.25),
        (5.0, 1, 1.5),
    ]


def test_a_resumed_training_knows_the_lowest_loss_so_far() -> None:
    def measure(_: Any, epoch: int, is_measured: Callable[[str], bool]) -> list[ExampleLoss]:
        losses = {1: 1.0, 2: 2.0}
        return [
            ExampleLoss(split=split, epoch=epoch, example=name, cluster=name, loss=losses[epoch], tokens=1)
            for split, name in (("probe", "p"), ("held-out", "a"), ("held-out", "b"))
            if is_measured(name)
        ]

    first, second = (
        LearningCurveCallback(
            measure=measure, append=lambda _: None, on_step=lambda *_: None, subset=frozenset({"p", "a"})
        )
        for _ in range(2)
    )
    state: Any = SimpleNamespace(global_step=1, max_steps=9, epoch=1.0)
    first.on_epoch_end(None, state, None, model=SimpleNamespace())  # type: ignore[arg-type]
    second.restore(json.loads(json.dumps(first.state())))
    state.epoch = 2.0
    second.on_epoch_end(None, state, None, model=SimpleNamespace())  # type: ignore[arg-type]
    assert [row.example for row in second.example_losses if row.epoch == 2] == ["p", "a"]
