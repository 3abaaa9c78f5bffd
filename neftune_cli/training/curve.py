"""The callback that watches a training: every step's loss, and the noise-off losses after every epoch."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.errors import TrialError
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.records import HELD_OUT, PROBE, CurvePoint, ExampleLoss
from neftune_cli.training.measure import split_loss


class CurveCallback(TrainerCallback):
    """Collects the curve of one training and hands every point on as it comes.

    Args:
        measure: returns the noise-off losses of a model after an epoch.
        append: takes each point of the curve.
        step: takes the step, the number of steps and the loss in nats per completion token.
    """

    def __init__(
        self,
        *,
        measure: Callable[[LanguageModel, int], list[ExampleLoss]],
        append: Callable[[CurvePoint], None],
        step: Callable[[int, int, float], None],
    ) -> None:
        self.example_losses: list[ExampleLoss] = []
        self._measure, self._append, self._step = measure, append, step
        self._logged: list[tuple[float, float]] = []

    @property
    def last_epoch_loss(self) -> float:
        """Return the mean training loss over the last epoch's steps, as the optimizer saw it (noise on)."""
        begin = math.ceil(self._logged[-1][0]) - 1
        return fmean(loss for epoch, loss in self._logged if epoch > begin)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Take one logged step; a loss that isn't finite ends the trial."""
        if not logs or "loss" not in logs:
            return
        loss, epoch = float(logs["loss"]), float(state.epoch or 0.0)
        if not math.isfinite(loss):
            raise TrialError(f"The training loss became {loss} at step {state.global_step}; lower --learning-rate.")
        self._logged.append((epoch, loss))
        self._append(
            CurvePoint(
                step=state.global_step,
                epoch=epoch,
                train_loss=loss,
                learning_rate=logs.get("learning_rate"),
                tokens=int(logs["num_tokens"]) if "num_tokens" in logs else None,
            )
        )
        self._step(state.global_step, state.max_steps, loss)

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: LanguageModel | None = None,
        **_: Any,
    ) -> None:
        """Measure the noise-off losses."""
        assert model is not None
        epoch = math.ceil(state.epoch or 0.0)
        losses = self._measure(model, epoch)
        if not all(math.isfinite(row.loss) for row in losses):
            raise TrialError(f"A noise-off loss isn't finite after step {state.global_step}; lower --learning-rate.")
        self.example_losses += losses
        self._append(
            CurvePoint(
                step=state.global_step,
                epoch=float(state.epoch or 0.0),
                eval_loss=split_loss(losses, HELD_OUT),
                train_loss_clean=split_loss(losses, PROBE),
            )
        )
