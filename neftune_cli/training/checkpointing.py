"""Checkpoints of a training run: when one is written, and what a resume restores in callbacks."""

import sys
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.records import Attestation
from neftune_cli.store import LeasedTrial
from neftune_cli.training.data_parallel import broadcast_from_rank_0
from neftune_cli.training.learning_curve import LearningCurveCallback
from neftune_cli.training.resumable_trainer import ResumableTrainer, generator_states, restore_generators
from neftune_cli.training.snapshots import (
    Snapshot,
    UnreadableCheckpoint,
    UnsupportedStateError,
    write_snapshot,
)
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import HALVINGS

WORTH_SAVING_SECONDS = 30.0
"""Minimum time since the last checkpoint for which a checkpoint at the end of training is written."""


class StepEndCallback(TrainerCallback):
    """A callback that acts after every step but the last one, once the step is logged and its epoch is measured.

    It keeps the states of random generators at the start of the epoch, which determine the order of the data.
    """

    trainer: "ResumableTrainer"
    """Assigned after construction, because the trainer's constructor takes its callbacks."""

    def __init__(self) -> None:
        self._epoch_generators: dict[str, Any] | None = None
        self._resumed_generators: dict[str, Any] | None = None

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Save the generator states that determine the data order, or restore them when an epoch is resumed."""
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
        """Act after a step within an epoch."""
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
        """Act after an epoch other than the last."""
        if not control.should_training_stop:
            self._end_step(state.global_step, None)

    def _end_step(self, step: int, epoch_generators: dict[str, Any] | None) -> None:
        raise NotImplementedError


class CheckpointCallback(StepEndCallback):
    """Write checkpoints after steps, and end training with a checkpoint when a stop was requested.

    A checkpoint is written once the step is logged. At the last step of an epoch, it is written once the epoch is
    measured. Resumed training starts at the next step and would repeat neither. This callback must come after `curve`
    in the trainer's list of callbacks.

    Args:
        leased: the trial's folder, held under a lease.
        settings: checkpoint intervals.
        stop: the request to stop the trial.
        curve: the learning curve so far.
        noise: the noise, and its measurements so far.
        halvings: number of batch size halvings, stored in every checkpoint.
        clock: time in seconds.
    """

    def __init__(
        self,
        leased: LeasedTrial,
        settings: TrialSettings,
        stop: StopRequest,
        *,
        curve: LearningCurveCallback,
        noise: NEFTuneCallback,
        halvings: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._leased, self._settings, self._stop = leased, settings, stop
        self.curve, self.noise, self.halvings = curve, noise, halvings
        self._clock = clock
        self._last = clock()
        self._can_write = True
        self.attestation: Attestation | None = None
        """Attestation of the finished training run, if a checkpoint holds it."""

    def restore(self, snapshot: Snapshot) -> None:
        """Restore learning curve, noise measurements and data order from a snapshot.

        Raises:
            UnreadableCheckpoint: the snapshot is incomplete; nothing is changed.
        """
        state = snapshot.state
        try:
            trained = Attestation.model_validate(state["attestation"]) if "attestation" in state else None
            unfinished = None if trained else (state["noise"], _generators_of_epoch(state))
            self.curve.restore(state["curve"])
        except (KeyError, ValueError) as error:
            raise _other_version(error) from error
        self.attestation = trained
        if unfinished is not None:
            totals, self._resumed_generators = unfinished
            self.noise.resume_totals(totals)

    def write_trained(self, attestation: Attestation) -> None:
        """Write a checkpoint of a finished training run, unless there is one; a resumed trial does not train."""
        if self.attestation is None:
            more = {"curve": self.curve.state(), "attestation": attestation.model_dump()}
            self._write(self.trainer.trained_snapshot(**more))
            self.attestation = attestation

    @property
    def is_due_at_end(self) -> bool:
        """Return whether a checkpoint between training and responses is worth its time."""
        return self._settings.checkpoint_steps is not None or self._clock() - self._last >= WORTH_SAVING_SECONDS

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start measuring time since the last checkpoint."""
        self._last = self._clock()

    def _end_step(self, step: int, epoch_generators: dict[str, Any] | None) -> None:
        stops = self._stop.requested  # read once: a later request waits for the next step
        is_due = self._can_write and (stops or self._is_due(step))
        if self.trainer.whole_model:
            broadcast_from_rank_0(_GATHER if is_due else None)
        if is_due:
            curve, noise = self.curve.state(), self.noise.totals()
            self._write(self.trainer.snapshot(curve=curve, noise=noise, epoch_generators=epoch_generators))
        if stops:
            self._stop.raise_if_requested()

    def _is_due(self, step: int) -> bool:
        every = self._settings.checkpoint_steps
        by_steps = every is not None and step % every == 0
        return by_steps or self._clock() - self._last >= 60 * self._settings.checkpoint_minutes

    def _write(self, snapshot: Snapshot) -> None:
        step = snapshot.trainer.global_step
        try:
            with self._leased.new_checkpoint(step, {HALVINGS: self.halvings}) as path:
                write_snapshot(snapshot, path)
                sys.audit("neftune.checkpoint-filled", step)
        except UnsupportedStateError as error:  # for example, the state of a third-party optimizer
            print(
                f"Checkpoints are disabled: {error}. If interrupted, this trial starts from the beginning.",
                file=sys.stderr,
            )
            self._can_write = False
        self._last = self._clock()


class RankCallback(StepEndCallback):
    """Take part in the checkpoints that rank 0 writes, and restore the data order of a resumed epoch."""

    def restore(self, snapshot: Snapshot) -> None:
        """Keep the generator states of the start of the epoch, which rank 0 restores as well.

        Raises:
            UnreadableCheckpoint: the snapshot is incomplete.
        """
        state = snapshot.state
        if "attestation" in state:
            return
        try:
            self._resumed_generators = _generators_of_epoch(state)
        except KeyError as error:
            raise _other_version(error) from error

    def _end_step(self, step: int, epoch_generators: dict[str, Any] | None) -> None:  # noqa: ARG002
        if self.trainer.whole_model and broadcast_from_rank_0(None) == _GATHER:
            self.trainer.snapshot()


_GATHER = "gather"
"""Message of rank 0 to ranks that hold shards of the model: a checkpoint needs them after this step."""


def _generators_of_epoch(state: dict[str, Any]) -> dict[str, Any]:
    """Return the generator states at the start of the epoch in which training resumes.

    A checkpoint at the end of an epoch has none of them. The next epoch starts with the states of the checkpoint.
    """
    generators: dict[str, Any] = state["epoch_generators"] or state["generators"]
    return generators


def _other_version(error: Exception) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(f"A checkpoint has the format of another version ({error}).")
