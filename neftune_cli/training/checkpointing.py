"""The state of every generator that a training may draw from, but for the noise's own, which the noise keeps."""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.config.running import RunSettings
from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.records import Attestation
from neftune_cli.store import ClaimedTrial
from neftune_cli.training.learning_curve import LearningCurveCallback
from neftune_cli.training.snapshots import (
    Snapshot,
    UnreadableCheckpoint,
    UnsupportedStateError,
    changing_tensors,
    write_snapshot,
)
from neftune_cli.training.stop_request import StopRequest


def generator_states() -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's global generators, those of all GPUs included."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Let the generators go on where `generator_states` was called; those of devices that it doesn't see stay.

    A worker may see one GPU where the one before it saw all of them: the first it sees is the one that it trains on.
    """
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for device, state in zip(range(torch.cuda.device_count()), states.get("cuda", ()), strict=False):
        torch.cuda.set_rng_state(state, device)
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


class ResumableTrainer(SFTTrainer):
    """An SFTTrainer whose checkpoints are snapshots: transformers' own are pickled, and leave a part of this out.

    What is overridden are the places where transformers reads a checkpoint; where it does that, and how it finds the
    place in the data, stays its own.
    """

    _resumed: Snapshot | None = None

    def go_on(self, snapshot: Snapshot, folder: Path) -> None:
        """Train from a snapshot to the end; from one of a training that had ended, only prepare the model.

        Args:
            snapshot: what `snapshot` returned.
            folder: where it was read from, since transformers takes the step from its file there.
        """
        self._resumed = snapshot
        self._total_train_tokens = snapshot.state["tokens"]
        self.train(resume_from_checkpoint=str(folder))

    def snapshot(self, **more: Any) -> Snapshot:
        """Return the training's state at the end of a step, with whatever callbacks have to keep beside it."""
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        scaler = getattr(self.accelerator, "scaler", None)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "generators": generator_states(),
        }
        return self._snapshot({**state, **more})

    def trained_snapshot(self, **more: Any) -> Snapshot:
        """Return the state of a training that has ended: the weights, and whatever else is to be kept."""
        return self._snapshot(more)

    def _snapshot(self, state: dict[str, Any]) -> Snapshot:
        noises = [one for one in self.callback_handler.callbacks if isinstance(one, NEFTuneCallback)]
        callbacks: Any = {type(one).__name__: one.state() for one in noises}  # its annotation says a list
        trainer = replace(self.state, log_history=[], stateful_callbacks=callbacks)
        weights = changing_tensors(cast(nn.Module, self.model))
        return Snapshot(weights, trainer, {**state, "tokens": self._total_train_tokens})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step; a loss that isn't finite must not stay in the sum of the next one's."""
        is_step = "loss" in logs
        super().log(logs, start_time)
        if is_step:
            self._tr_loss.zero_()

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        if self.state.global_step < self.state.max_steps:  # in the last epoch there may be more data than steps
            super()._run_epoch(*arguments, **named)  # type: ignore[no-untyped-call]

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        tensors = changing_tensors(cast(nn.Module, self.model))
        with torch.no_grad():
            for name, tensor in self._taken_up.weights.items():
                tensors[name].copy_(tensor)
        self._taken_up.weights.clear()  # they would stay in memory as long as the training lasts

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        state = self._taken_up.state if checkpoint is not None else {}
        if "optimizer" in state:
            assert self.lr_scheduler is not None
            load_optimizer(self.optimizer, state.pop("optimizer"))
            self.lr_scheduler.load_state_dict(state["scheduler"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and (scaler := self._taken_up.state.get("scaler")) is not None:
            self.accelerator.scaler.load_state_dict(scaler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_generators(self._taken_up.state["generators"])

    @property
    def _taken_up(self) -> Snapshot:
        assert self._resumed is not None
        return self._resumed


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Give an optimizer a state in tensors of its own, each in the precision that it was kept in.

    Torch gives each the parameter's, which would round what an optimizer keeps more precisely.
    """
    optimizer.load_state_dict(state)
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    numbers = [one for group in state["param_groups"] for one in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        loaded = optimizer.state.get(parameter, {})
        for name, kept in state["state"].get(number, {}).items():
            if isinstance(kept, Tensor):
                loaded[name] = kept.to(loaded[name].device, copy=True)


WORTH_KEEPING_SECONDS = 30.0
"""Work since the last checkpoint that one at the end of the training saves."""


class CheckpointCallback(TrainerCallback):
    """Writes checkpoints at the ends of steps, and ends the training with one when the trial is asked to stop.

    A step has ended when it is logged, or, if it is the last one of its epoch, when the epoch has been measured: a
    resumed training begins with the next step, and wouldn't make up for either. It comes after `curve` among the
    trainer's callbacks.

    Args:
        place: where checkpoints go.
        settings: when they are due.
        stop: whether the trial is to stop.
        curve: what was measured so far.
        noise: what the noise was so far.
        halvings: how often the batch was halved, which every checkpoint says of itself.
        clock: in seconds.
    """

    trainer: ResumableTrainer
    """Set as soon as there is one: it needs its callbacks first."""

    def __init__(
        self,
        place: ClaimedTrial,
        settings: RunSettings,
        stop: StopRequest,
        *,
        curve: LearningCurveCallback,
        noise: NEFTuneCallback,
        halvings: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._settings, self._stop = place, settings, stop
        self.curve, self.noise, self.halvings = curve, noise, halvings
        self._clock = clock
        self._last = clock()
        self._can_write = True
        self.attestation: Attestation | None = None
        """That of a training that has ended and is in a checkpoint."""
        self._epoch_generators: dict[str, Any] | None = None
        self._resumed_generators: dict[str, Any] | None = None

    def go_on(self, snapshot: Snapshot) -> None:
        """Let curve, noise and data order go on from a snapshot.

        Raises:
            UnreadableCheckpoint: something is missing in it; nothing has changed then.
        """
        state = snapshot.state
        try:
            trained = Attestation.model_validate(state["attestation"]) if "attestation" in state else None
            begun = None if trained else (state["noise"], state["epoch_generators"] or state["generators"])
            self.curve.go_on(state["curve"])
        except (KeyError, ValueError) as error:
            raise UnreadableCheckpoint(f"A checkpoint is of another version ({error}).") from error
        self.attestation = trained
        if begun is not None:
            measurements, self._resumed_generators = begun
            self.noise.go_on_measuring(measurements)

    def keep_trained(self, attestation: Attestation) -> None:
        """Write a checkpoint of a training that has ended, from which only the answers are to be made; once."""
        if self.attestation is None:
            more = {"curve": self.curve.state(), "attestation": attestation.model_dump()}
            self._write(self.trainer.trained_snapshot(**more))
            self.attestation = attestation

    @property
    def is_due_at_end(self) -> bool:
        """Return whether a checkpoint before the answers is worth its time."""
        return self._settings.checkpoint_steps is not None or self._clock() - self._last >= WORTH_KEEPING_SECONDS

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Count the time from here."""
        self._last = self._clock()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Remember what the data order may be drawn from: an epoch that is gone on with has to draw the same again."""
        if self._resumed_generators is not None:
            restore_generators(self._resumed_generators)
            self._resumed_generators = None
        self._epoch_generators = generator_states()

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write what is due, or stop, after a step in the midst of an epoch."""
        ends_epoch = control.should_training_stop or float(state.epoch).is_integer()
        if logs and "loss" in logs and not ends_epoch:
            self._end_step(state.global_step, self._epoch_generators)

    def on_epoch_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Do so after an epoch; what follows the last one isn't training any more."""
        if not control.should_training_stop:
            self._end_step(state.global_step, None)

    def _end_step(self, step: int, epoch_generators: dict[str, Any] | None) -> None:
        if self._can_write and (self._stop.requested or self._is_due(step)):
            curve, noise = self.curve.state(), self.noise.measurements()
            self._write(self.trainer.snapshot(curve=curve, noise=noise, epoch_generators=epoch_generators))
        self._stop.raise_if_requested()

    def _is_due(self, step: int) -> bool:
        every = self._settings.checkpoint_steps
        by_steps = every is not None and step % every == 0
        return by_steps or self._clock() - self._last >= 60 * self._settings.checkpoint_minutes

    def _write(self, snapshot: Snapshot) -> None:
        step = snapshot.trainer.global_step
        try:
            with self._place.new_checkpoint(step, {"halvings": self.halvings}) as folder:
                write_snapshot(snapshot, folder)
                sys.audit("neftune.checkpoint-filled", step)
        except UnsupportedStateError as error:  # an optimizer of another package, say
            print(f"No checkpoints: {error}. If it is interrupted, this trial begins anew.", file=sys.stderr)
            self._can_write = False
        self._last = self._clock()
