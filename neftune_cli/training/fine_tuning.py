"""Fine-tune one model under a trial's noise, from the start or from the newest readable checkpoint."""

import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from torch import nn
from transformers import TrainerCallback, TrainerState

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import TrialSpec
from neftune_cli.errors import TrialError
from neftune_cli.models.language_model import LanguageModel
from neftune_cli.models.loading import LoadedModel
from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.records import Attestation, CurvePoint, ExampleLoss, Phase
from neftune_cli.store import Checkpoint, LeasedTrial
from neftune_cli.training.checkpointing import CheckpointCallback, RankCallback
from neftune_cli.training.data_parallel import RankRequest, broadcast_from_rank_0, data_parallel, raise_on_every_rank
from neftune_cli.training.learning_curve import LearningCurveCallback, loss_not_finite
from neftune_cli.training.model_settings import trainer_settings_undone, unwrapped
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.resumable_trainer import ResumableTrainer
from neftune_cli.training.sft_trainer import build_trainer, sft_config
from neftune_cli.training.snapshots import UnreadableCheckpoint, read_snapshot
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import Trial, TrialOutput, TrialProgress, halvings_of
from neftune_cli.training.trial_metrics import curve_subset, measure_losses


@dataclass(frozen=True)
class FinalModel:
    """The model of a trial before its last measurements: the trained model, or the base model."""

    model: LanguageModel
    not_finite_message: str
    """Message of the error if a noise-off loss of the model is not finite."""
    step: int = 0
    epoch: float = 0.0
    losses: Sequence[ExampleLoss] = ()
    """Noise-off losses after the epochs before the last one."""
    train_loss: Callable[[], float | None] = lambda: None
    """Return the mean training loss over the last epoch, in nats per completion token, noise on. It raises a
    `TrialError` if the loss is undefined. It is called after the noise-off losses are checked, because their error
    explains the reason better."""
    attestation: Attestation | None = None
    write_checkpoint: Callable[[], None] = lambda: None
    """Write a checkpoint of the finished training run, unless there is one. A trial resumed from it does not train."""


def fine_tune(
    trial: Trial,
    loaded: LoadedModel,
    prepared: PreparedData,
    output: TrialOutput,
    *,
    settings: TrialSettings,
    stop: StopRequest,
    halvings: int,
) -> FinalModel:
    """Train under the trial's noise. Optimizer, data order and dropout are TRL's and do not depend on the noise.

    Args:
        trial: the trial to train.
        loaded: a fresh model, which training modifies.
        prepared: tokenized examples to train and measure on.
        output: receives every step, the learning curve and checkpoints; training resumes from a checkpoint in its
            folder.
        settings: checkpoint intervals, and the reaction to a loss that is not finite.
        stop: ends training after the current step, with a checkpoint.
        halvings: number of times to halve the batch size (`halvings_to_resume`). Checkpoints with another number are
            ignored.

    Raises:
        TrialStopped: a stop was requested; training can be resumed from its checkpoint.
        TrialError: a loss is not finite, the applied noise does not match the formula, or another process of the trial
            has failed.
    """
    leased = output.leased
    checkpoints = [one for one in leased.intact_checkpoints() if halvings_of(one) == halvings]
    curve, noise = _curve(trial, prepared, output, settings), noise_callback(trial.spec)
    callback = CheckpointCallback(leased, settings, stop, curve=curve, noise=noise, halvings=halvings)
    other_ranks = data_parallel(RankRequest(trial.spec, halvings, settings), leased.folder.log_path)
    with tempfile.TemporaryDirectory(prefix="neftune-") as work, trainer_settings_undone(loaded.model), other_ranks:
        with stop.interruptible():
            callbacks = [curve, callback, noise, *([output.live] if output.live else [])]
            callback.trainer = _trainer(trial.spec, loaded, prepared, Path(work), settings, halvings, callbacks)
            curve.whole_model = callback.trainer.whole_model
        sys.audit("neftune.model-loaded", trial.id)
        _train(callback, leased, checkpoints)
    sys.audit("neftune.training-ended", trial.id)
    return _final_model(callback, stop)


def train_as_other_rank(
    spec: TrialSpec,
    loaded: LoadedModel,
    prepared: PreparedData,
    work: Path,
    *,
    settings: TrialSettings,
    halvings: int,
) -> None:
    """Train a trial together with rank 0, from the checkpoint that rank 0 chooses, and write nothing.

    Args:
        spec: the trial.
        loaded: a fresh model, which training modifies.
        prepared: tokenized examples to train on.
        work: a folder that the trainer may write to.
        settings: how the trial is run.
        halvings: number of times to halve the batch size.

    Raises:
        TrialError: a rank cannot read the checkpoint. Rank 0 raises the same error.
    """
    callback = RankCallback()
    trainer = _trainer(spec, loaded, prepared, work, settings, halvings, [callback, noise_callback(spec)])
    callback.trainer = trainer
    if (checkpoint := broadcast_from_rank_0(None)) is None:
        trainer.train()
        return
    try:
        snapshot = read_snapshot(Path(checkpoint), cast(nn.Module, trainer.model))
        callback.restore(snapshot)
    except UnreadableCheckpoint as error:
        raise_on_every_rank(f"Another process of the trial cannot resume. {error}")
        raise
    raise_on_every_rank(None)
    trainer.resume(snapshot, Path(checkpoint))


def _trainer(
    spec: TrialSpec,
    loaded: LoadedModel,
    prepared: PreparedData,
    work: Path,
    settings: TrialSettings,
    halvings: int,
    callbacks: list[TrainerCallback],
) -> ResumableTrainer:
    config = sft_config(
        spec.train,
        seed=spec.stream_seed,
        device=prepared.device,
        work=work,
        halvings=halvings,
        processes=settings.processes,
        fsdp=settings.sharding.fsdp if settings.sharding else None,
    )
    return build_trainer(
        loaded.model,
        loaded.tokenizer,
        prepared.train,
        config,
        train=spec.train,
        halvings=halvings,
        callbacks=callbacks,
    )


def noise_callback(spec: TrialSpec) -> NEFTuneCallback:
    """Return the trainer callback that applies a trial's noise."""
    return NEFTuneCallback.from_spec(spec.noise, seed=spec.stream_seed)


def _curve(trial: Trial, prepared: PreparedData, output: TrialOutput, settings: TrialSettings) -> LearningCurveCallback:
    rate = TokenRate()

    def measure(model: LanguageModel, epoch: int, is_measured: Callable[[str], bool]) -> list[ExampleLoss]:
        rate.pause()
        return measure_losses(model, prepared, epoch=epoch, is_measured=is_measured)

    def on_step(point: CurvePoint, steps: int) -> None:
        output.report(TrialProgress(Phase.TRAINING, point.step, steps, point.train_loss, rate.at(point.tokens)))

    return LearningCurveCallback(
        measure=measure,
        append=output.append,
        on_step=on_step,
        subset=curve_subset(prepared, trial.spec.evaluation.curve_examples),
        stop_on_divergence=settings.stop_on_divergence,
    )


def _train(callback: CheckpointCallback, leased: LeasedTrial, checkpoints: list[Checkpoint]) -> None:
    """Train to the end, from the first readable checkpoint of the list, or else from the start, on every rank."""
    trainer = callback.trainer
    for checkpoint in checkpoints:
        try:
            snapshot = read_snapshot(checkpoint.path, cast(nn.Module, trainer.model))
            callback.restore(snapshot)
        except UnreadableCheckpoint as error:
            print(f"{error} Trying an earlier checkpoint, or else starting from the beginning.", file=sys.stderr)
            continue
        leased.add_seconds_of(checkpoint)
        leased.rewrite_metrics(callback.curve.points)
        print(f"Resuming after step {checkpoint.step}.", file=sys.stderr)
        broadcast_from_rank_0(str(checkpoint.path.absolute()))
        raise_on_every_rank(None)
        trainer.resume(snapshot, checkpoint.path)
        return
    leased.drop_checkpoints()
    leased.rewrite_metrics([])
    broadcast_from_rank_0(None)  # no checkpoint
    trainer.train()


def _final_model(callback: CheckpointCallback, stop: StopRequest) -> FinalModel:
    """Return the model of a finished training run; write its checkpoint first if one is due or a stop was requested."""
    _check_is_finished(callback.trainer.state, stop)
    curve, noise = callback.curve, callback.noise
    saved = callback.attestation  # None unless the training run had finished before this resume
    if saved is None and noise.deviations:
        raise TrialError(f"The applied noise does not match the formula: {'; '.join(noise.deviations)}.")
    attestation = saved or noise.attestation
    assert attestation is not None
    write_checkpoint = partial(callback.write_trained, attestation)
    if stop.requested or callback.is_due_at_end:
        write_checkpoint()
    stop.raise_if_requested()
    trainer = callback.trainer
    trained = trainer.whole_model.on_device() if trainer.whole_model else trainer.model
    return FinalModel(
        model=cast(LanguageModel, unwrapped(cast(nn.Module, trained))),
        not_finite_message=loss_not_finite(curve.points[-1].step),
        step=curve.points[-1].step,
        epoch=curve.points[-1].epoch,
        losses=curve.example_losses,
        train_loss=lambda: curve.last_epoch_loss,
        attestation=attestation,
        write_checkpoint=write_checkpoint,
    )


def _check_is_finished(state: TrainerState, stop: StopRequest) -> None:
    """Raise an error if the training ended before its last planned step, which would compare unequal arms.

    Raises:
        TrialStopped: a stop was requested; training can be resumed from its checkpoint.
        TrialError: no stop was requested.
    """
    if state.global_step >= state.max_steps:
        return
    stop.raise_if_requested()
    what = f"The training ended after step {state.global_step} of {state.max_steps}, without a request to stop."
    if state.global_step == 0:
        what += " With dataloader_drop_last, an epoch without a full batch has no step."
        what += " Lower --batch-size, or remove dataloader_drop_last."
    raise TrialError(what)


class TokenRate:
    """Training tokens per second over the last 10 steps; during a pause, the last known rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RATE_STEPS + 1)
        self._rate: float | None = None

    def at(self, tokens: int | None) -> float | None:
        """Record the tokens trained on so far, at the end of a step, and return the rate."""
        if tokens is not None:
            self._seen.append((self._clock(), tokens))
            (begin, before), (end, after) = self._seen[0], self._seen[-1]
            if end > begin:
                self._rate = (after - before) / (end - begin)
        return self._rate

    def pause(self) -> None:
        """Exclude the time until the end of the next step."""
        self._seen.clear()


_RATE_STEPS = 10
