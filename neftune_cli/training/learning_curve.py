"""The callback that watches a training: every step's loss, and the noise-off losses after every epoch."""

import math
import sys
from collections.abc import Callable
from statistics import fmean
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.errors import TrialError
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.records import HELD_OUT, PROBE, CurvePoint, ExampleLoss
from neftune_cli.training.trial_metrics import split_loss


class LearningCurveCallback(TrainerCallback):
    """Collects the curve of one training and hands every point on as it comes.

    Args:
        measure: returns the noise-off losses of a model after an epoch.
        append: takes each point of the curve.
        step: takes each training step's point, and the number of steps in all.
        stop_on_divergence: whether a training loss that isn't finite ends the trial; otherwise its point has none.
    """

    def __init__(
        self,
        *,
        measure: Callable[[LanguageModel, int], list[ExampleLoss]],
        append: Callable[[CurvePoint], None],
        step: Callable[[CurvePoint, int], None],
        stop_on_divergence: bool = True,
    ) -> None:
        self.points: list[CurvePoint] = []
        self.example_losses: list[ExampleLoss] = []
        self._measure, self._append, self._step = measure, append, step
        self._stop_on_divergence = stop_on_divergence

    @property
    def last_epoch_loss(self) -> float:
        """Return the mean training loss over the last epoch's steps, as the optimizer saw it (noise on).

        Raises:
            TrialError: not one of them was finite.
        """
        begin = math.ceil(self.points[-1].epoch) - 1
        losses = [point.train_loss for point in self.points if point.epoch > begin and point.train_loss is not None]
        if not losses:
            raise TrialError("No training loss of the last epoch was finite; lower --learning-rate.")
        return fmean(losses)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: everything that was collected."""
        return {
            "points": [point.model_dump() for point in self.points],
            "example_losses": [row.model_dump() for row in self.example_losses],
        }

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on where `state` was called.

        Raises:
            KeyError, ValueError: it was something else, and nothing has changed.
        """
        points = [CurvePoint.model_validate(point) for point in state["points"]]
        losses = [ExampleLoss.model_validate(row) for row in state["example_losses"]]
        self.points, self.example_losses = points, losses

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Take one logged step; a loss that isn't finite ends the trial, unless it is to be borne."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss) and self._stop_on_divergence:
            raise TrialError(f"The training loss became {loss} at step {state.global_step}; lower --learning-rate.")
        point = CurvePoint(
            step=state.global_step,
            epoch=float(state.epoch or 0.0),
            train_loss=loss if math.isfinite(loss) else None,
            learning_rate=logs.get("learning_rate"),
            tokens=int(logs["num_tokens"]) if "num_tokens" in logs else None,
        )
        self._take(point)
        self._step(point, state.max_steps)
        sys.audit("neftune.step-logged", state.global_step)

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
        self._take(
            CurvePoint(
                step=state.global_step,
                epoch=float(state.epoch or 0.0),
                eval_loss=split_loss(losses, HELD_OUT),
                train_loss_clean=split_loss(losses, PROBE),
            )
        )
        sys.audit("neftune.epoch-measured", epoch)

    def _take(self, point: CurvePoint) -> None:
        self.points.append(point)
        self._append(point)
