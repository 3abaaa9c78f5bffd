"""Trainer callback that records the learning curve: the loss of every step, and noise-off losses after every epoch."""

import math
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.errors import TrialError
from neftune_cli.evaluation.language_model import LanguageModel, causal_model
from neftune_cli.records import HELD_OUT_SPLIT, PROBE_SPLIT, CurvePoint, ExampleLoss
from neftune_cli.training.mixture_of_experts import ROUTER_LOSS, without_router_loss
from neftune_cli.training.trial_metrics import split_loss

Measure = Callable[[LanguageModel, int, Callable[[str], bool]], list[ExampleLoss]]
"""Return the noise-off losses of a model after an epoch, of the examples whose ids fulfil a condition."""


class LearningCurveCallback(TrainerCallback):
    """Collect the learning curve of one training run.

    With a `subset` only its examples are measured after every epoch. All examples are measured after the last epoch,
    and after each epoch whose held-out loss on the subset is the lowest so far, and so after the best one.

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
        """Measure the noise-off losses.

        Raises:
            TrialError: one of them is not finite.
        """
        assert model is not None
        epoch = math.ceil(state.epoch or 0.0)
        losses = self._measured(model, epoch, is_last=state.global_step >= state.max_steps)
        if not all(math.isfinite(row.loss) for row in losses):
            raise TrialError(f"A noise-off loss is not finite after step {state.global_step}. Lower --learning-rate.")
        self.example_losses += losses
        in_subset = self._in_subset(losses)
        # The last point of an epoch is drawn. It is that of the subset, whose points of all epochs are comparable.
        if len(losses) > len(in_subset):
            self._add_losses(state, losses)
        self._add_losses(state, in_subset)
        sys.audit("neftune.epoch-measured", epoch)

    def _measured(self, model: LanguageModel, epoch: int, *, is_last: bool) -> list[ExampleLoss]:
        """Return the losses after an epoch: those of the probe, followed by those of held-out examples."""
        subset = self._subset
        if subset is None or is_last:
            return self._measure(model, epoch, lambda _: True)
        losses = self._measure(model, epoch, lambda example: example in subset)
        if split_loss(losses, HELD_OUT_SPLIT) < self._lowest_loss:
            losses += self._measure(model, epoch, lambda example: example not in subset)
        return sorted(losses, key=lambda row: row.split != PROBE_SPLIT)

    @property
    def _lowest_loss(self) -> float:
        """Return the lowest held-out loss on the subset after an earlier epoch."""
        rows = groupby(self._in_subset(self.example_losses), key=lambda row: row.epoch)
        return min((split_loss(list(of_epoch), HELD_OUT_SPLIT) for _, of_epoch in rows), default=math.inf)

    def _in_subset(self, losses: Sequence[ExampleLoss]) -> list[ExampleLoss]:
        return [row for row in losses if self._subset is None or row.example in self._subset]

    def _add_losses(self, state: TrainerState, losses: Sequence[ExampleLoss]) -> None:
        self._add(
            CurvePoint(
                step=state.global_step,
                epoch=float(state.epoch or 0.0),
                eval_loss=split_loss(losses, HELD_OUT_SPLIT),
                train_loss_clean=split_loss(losses, PROBE_SPLIT),
                eval_examples=sum(row.split == HELD_OUT_SPLIT for row in losses) if self._subset else None,
            )
        )

    def _add(self, point: CurvePoint) -> None:
        self.points.append(point)
        self._append(point)
