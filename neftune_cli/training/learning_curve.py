"""Trainer callback that records the learning curve: the loss of every step, and noise-off losses after epochs."""

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import groupby
from statistics import fmean
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.errors import TrialError
from neftune_cli.models.language_model import LanguageModel, causal_model
from neftune_cli.records import HELD_OUT_SPLIT, PROBE_SPLIT, CurvePoint, ExampleLoss
from neftune_cli.training.mixture_of_experts import ROUTER_LOSS, without_router_loss
from neftune_cli.training.sharding import WholeModel
from neftune_cli.training.trial_metrics import split_loss

Measure = Callable[[LanguageModel, int, Callable[[str], bool]], list[ExampleLoss]]
"""Return the noise-off losses of a model after an epoch, of the examples whose ids fulfil a condition."""


class LearningCurveCallback(TrainerCallback):
    """Collect the learning curve of one training run, without the noise-off losses after the last epoch.

    These are measured after training, together with the responses (`neftune_cli.training.trial_run`).

    With a `subset` only its examples are measured after every epoch. All examples are measured after each epoch whose
    held-out loss on the subset is the lowest so far, and so after the best one.

    Args:
        measure: return the noise-off losses of a model after an epoch.
        append: receive each point of the curve.
        on_step: receive the point of each training step, and the total number of steps.
        subset: ids of the examples that are measured after every epoch; None for all.
        stop_on_divergence: end the trial at a training loss that is not finite. Otherwise the point has no loss.
    """

    def __init__(
        self,
        *,
        measure: Measure,
        append: Callable[[CurvePoint], None],
        on_step: Callable[[CurvePoint, int], None],
        subset: frozenset[str] | None = None,
        stop_on_divergence: bool = True,
    ) -> None:
        self.points: list[CurvePoint] = []
        self.example_losses: list[ExampleLoss] = []
        self._measure, self._append, self._on_step = measure, append, on_step
        self._subset, self._stop_on_divergence = subset, stop_on_divergence
        self.whole_model: WholeModel | None = None
        """The model to measure if the trainer's model is one rank's shard of it."""

    @property
    def last_epoch_loss(self) -> float:
        """Return the mean training loss over the steps of the last epoch, noise on, in nats per completion token.

        Raises:
            TrialError: none of the losses was finite.
        """
        begin = math.ceil(self.points[-1].epoch) - 1
        losses = [point.train_loss for point in self.points if point.epoch > begin and point.train_loss is not None]
        if not losses:
            raise TrialError("No training loss of the last epoch was finite. Lower --learning-rate.")
        return fmean(losses)

    def state(self) -> dict[str, Any]:
        """Return the collected points and losses, for a checkpoint."""
        return {
            "points": [point.model_dump() for point in self.points],
            "example_losses": [row.model_dump() for row in self.example_losses],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError, ValueError: the state has another format; nothing is changed.
        """
        points = [CurvePoint.model_validate(point) for point in state["points"]]
        losses = [ExampleLoss.model_validate(row) for row in state["example_losses"]]
        self.points, self.example_losses = points, losses

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, float] | None = None,
        model: LanguageModel | None = None,
        **_: Any,
    ) -> None:
        """Record one logged step. The load-balancing loss of a mixture of experts is not part of the recorded loss.

        Raises:
            TrialError: the loss is not finite and `stop_on_divergence` is set.
        """
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if ROUTER_LOSS in logs and model is not None and not args.label_smoothing_factor:  # TRL adds it to other losses
            loss = without_router_loss(loss, logs, causal_model(model))
        if not math.isfinite(loss) and self._stop_on_divergence:
            raise TrialError(f"The training loss became {loss} at step {state.global_step}. Lower --learning-rate.")
        point = CurvePoint(
            step=state.global_step,
            epoch=float(state.epoch or 0.0),
            train_loss=loss if math.isfinite(loss) else None,
            learning_rate=logs.get("learning_rate"),
            tokens=int(logs["num_tokens"]) if "num_tokens" in logs else None,
        )
        self._add(point)
        self._on_step(point, state.max_steps)
        sys.audit("neftune.step-logged", state.global_step)

    def on_epoch_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        model: LanguageModel | None = None,
        **_: Any,
    ) -> None:
        """Measure the noise-off losses after an epoch other than the last.

        Raises:
            TrialError: one of them is not finite.
        """
        assert model is not None
        if state.global_step >= state.max_steps:
            return
        epoch = math.ceil(state.epoch or 0.0)
        with self.whole_model.measured() if self.whole_model else nullcontext(model) as measured:
            losses = self._measured(measured, epoch)
        if not all(math.isfinite(row.loss) for row in losses):
            raise TrialError(loss_not_finite(state.global_step))
        self.example_losses += losses
        for point in loss_points(losses, self._subset, step=state.global_step, epoch=float(state.epoch or 0.0)):
            self._add(point)
        sys.audit("neftune.epoch-measured", epoch)

    def _measured(self, model: LanguageModel, epoch: int) -> list[ExampleLoss]:
        """Return the losses after an epoch: those of the probe, followed by those of held-out examples."""
        subset = self._subset
        if subset is None:
            return self._measure(model, epoch, lambda _: True)
        losses = self._measure(model, epoch, lambda example: example in subset)
        if split_loss(losses, HELD_OUT_SPLIT) < self._lowest_loss:
            losses += self._measure(model, epoch, lambda example: example not in subset)
        return sorted(losses, key=lambda row: row.split != PROBE_SPLIT)

    @property
    def _lowest_loss(self) -> float:
        """Return the lowest held-out loss on the subset after an earlier epoch."""
        rows = groupby(_in_subset(self.example_losses, self._subset), key=lambda row: row.epoch)
        return min((split_loss(list(of_epoch), HELD_OUT_SPLIT) for _, of_epoch in rows), default=math.inf)

    def _add(self, point: CurvePoint) -> None:
        self.points.append(point)
        self._append(point)


def loss_points(
    losses: Sequence[ExampleLoss], subset: frozenset[str] | None, *, step: int, epoch: float
) -> list[CurvePoint]:
    """Return the points of the learning curve for the noise-off losses after an epoch.

    The last point of an epoch is drawn. It is that of the subset, whose points of all epochs are comparable. If other
    examples were measured as well, the point of all examples comes before it.

    Args:
        losses: the losses after the epoch.
        subset: ids of the examples that are measured after every epoch; None for all.
        step: the last step of the epoch.
        epoch: the number of epochs so far.
    """
    in_subset = _in_subset(losses, subset)
    return [
        CurvePoint(
            step=step,
            epoch=epoch,
            eval_loss=split_loss(rows, HELD_OUT_SPLIT),
            train_loss_clean=split_loss(rows, PROBE_SPLIT),
            eval_examples=sum(row.split == HELD_OUT_SPLIT for row in rows) if subset else None,
        )
        for rows in ([losses] if len(losses) > len(in_subset) else []) + [in_subset]
    ]


def _in_subset(losses: Sequence[ExampleLoss], subset: frozenset[str] | None) -> list[ExampleLoss]:
    return [row for row in losses if subset is None or row.example in subset]


def loss_not_finite(step: int) -> str:
    """Return the message of the error for a noise-off loss that is not finite after a step."""
    return f"A noise-off loss is not finite after step {step}. Lower --learning-rate."
