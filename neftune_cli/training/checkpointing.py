"""The callback that keeps a training's checkpoints: when one is due or the trial is to stop, and what belongs in it."""

import sys
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.config.running import RunSettings
from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.records import Attestation
from neftune_cli.store import ClaimedTrial
from neftune_cli.training.checkpoint_files import Snapshot, UnreadableCheckpoint, write_snapshot
from neftune_cli.training.curve import CurveCallback
from neftune_cli.training.generators import generator_states, restore_generators
from neftune_cli.training.nesting import NotPlainError
from neftune_cli.training.resumable import ResumableTrainer
from neftune_cli.training.stopping import StopRequest

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
        curve: CurveCallback,
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
        except NotPlainError as error:  # an optimizer of another package, say
            print(f"No checkpoints: {error}. If it is interrupted, this trial begins anew.", file=sys.stderr)
            self._can_write = False
        self._last = self._clock()
