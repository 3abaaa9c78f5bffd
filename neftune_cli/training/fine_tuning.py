"""One fine-tuning under noise: begun, or gone on with from its newest checkpoint, and trained to the end."""

import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from torch import nn

from neftune_cli.config.running import RunSettings
from neftune_cli.config.spec import TrialSpec
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.models.loading import LoadedModel
from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.records import Attestation, CurvePoint, ExampleLoss
from neftune_cli.store import Checkpoint, ClaimedTrial
from neftune_cli.training.checkpointing import CheckpointCallback
from neftune_cli.training.learning_curve import LearningCurveCallback
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.sft_trainer import build_trainer, sft_config
from neftune_cli.training.snapshots import UnreadableCheckpoint, read_snapshot
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import ReportProgress, Trial, TrialProgress
from neftune_cli.training.trial_metrics import measure_losses


@dataclass(frozen=True)
class FineTuned:
    """What a training that has ended leaves, or the base, which had none."""

    model: LanguageModel
    losses: list[ExampleLoss]
    train_loss: float | None = None
    attestation: Attestation | None = None
    halvings: int = 0
    keep: Callable[[], None] = lambda: None
    """Writes a checkpoint of it, if there is none, from which only the answers are to be made again."""


def fine_tune(
    trial: Trial,
    loaded: LoadedModel,
    prepared: PreparedData,
    place: ClaimedTrial,
    watch: ReportProgress,
    *,
    settings: RunSettings,
    stop: StopRequest,
    halvings: int = 0,
) -> FineTuned:
    """Train under the trial's noise; the optimizer, data order and dropout are TRL's and know nothing of it.

    Args:
        trial: what to train.
        loaded: a fresh model, which is spoilt.
        prepared: what it is trained and measured on.
        place: where curve and checkpoints go; a training whose checkpoint is there goes on.
        watch: is told of every step.
        settings: how often there is to be a checkpoint, and what follows a loss that isn't finite.
        stop: ends the training at its next step, with a checkpoint.
        halvings: how often to halve the batch; a checkpoint of fewer is left alone, one of more decides.

    Raises:
        TrialStopped: it was asked to stop, and goes on from its checkpoint.
        TrialError: a loss is not finite, or the noise wasn't what it should be.
    """
    kept = place.checkpoints()
    halvings = max([halvings, *(_halvings(one) for one in kept[:1])])
    curve, noise = _curve(prepared, place, watch, settings), noise_callback(trial.spec)
    checkpoints = CheckpointCallback(place, settings, stop, curve=curve, noise=noise, halvings=halvings)
    with tempfile.TemporaryDirectory(prefix="neftune-") as work:
        with stop.interruptible():
            config = sft_config(
                trial.spec.train, seed=trial.spec.seed, device=prepared.device, work=Path(work), halvings=halvings
            )
            checkpoints.trainer = build_trainer(
                loaded.model,
                loaded.tokenizer,
                prepared.train,
                config,
                lora_rank=trial.spec.train.lora_rank,
                callbacks=[curve, checkpoints, noise],
            )
        sys.audit("neftune.model-loaded", trial.id)
        _train(checkpoints, place, [one for one in kept if _halvings(one) == halvings])
    sys.audit("neftune.training-ended", trial.id)
    return _ended(checkpoints, stop)


def noise_callback(spec: TrialSpec) -> NEFTuneCallback:
    """Return the noise of a trial, to be put on by its trainer."""
    noise = spec.noise
    return NEFTuneCallback(
        noise.alpha,
        seed=spec.seed,
        noise=noise.noise,
        noise_scale=noise.noise_scale,
        schedule=noise.noise_schedule,
        target=noise.noise_target,
    )


def _halvings(checkpoint: Checkpoint) -> int:
    return int(checkpoint.about.get("halvings", 0))


def _curve(
    prepared: PreparedData, place: ClaimedTrial, watch: ReportProgress, settings: RunSettings
) -> LearningCurveCallback:
    rate = TokenRate()

    def measure(model: LanguageModel, epoch: int) -> list[ExampleLoss]:
        rate.pause()
        return measure_losses(model, prepared, epoch=epoch)

    def tell(point: CurvePoint, steps: int) -> None:
        watch(TrialProgress("training", point.step, steps, point.train_loss, rate.at(point.tokens)))

    return LearningCurveCallback(
        measure=measure, append=place.append_metrics, step=tell, stop_on_divergence=settings.stop_on_divergence
    )


def _train(checkpoints: CheckpointCallback, place: ClaimedTrial, kept: list[Checkpoint]) -> None:
    """Train to the end, from the first of the kept checkpoints that can be read, or from the beginning."""
    trainer = checkpoints.trainer
    for checkpoint in kept:
        try:
            snapshot = read_snapshot(checkpoint.path, cast(nn.Module, trainer.model))
            checkpoints.go_on(snapshot)
        except UnreadableCheckpoint as error:
            print(f"{error} Going on from the one before it, or from the beginning.", file=sys.stderr)
            continue
        place.go_on(checkpoint)
        place.rewrite_metrics(checkpoints.curve.points)
        print(f"Going on after step {checkpoint.step}.", file=sys.stderr)
        trainer.go_on(snapshot, checkpoint.path)
        return
    place.drop_checkpoints()
    place.rewrite_metrics([])
    trainer.train()


def _ended(checkpoints: CheckpointCallback, stop: StopRequest) -> FineTuned:
    """Return what a training left, after a checkpoint of it if that is worth its time, or if the trial is to stop."""
    curve, noise, kept = checkpoints.curve, checkpoints.noise, checkpoints.attestation
    if kept is None and noise.deviations:
        raise TrialError(f"The noise was not what the formula says: {'; '.join(noise.deviations)}.")
    attestation = kept or noise.attestation
    assert attestation is not None
    keep = partial(checkpoints.keep_trained, attestation)
    if stop.requested or checkpoints.is_due_at_end:
        keep()
    stop.raise_if_requested()
    return FineTuned(
        model=cast(LanguageModel, checkpoints.trainer.model),
        train_loss=curve.last_epoch_loss,
        losses=curve.example_losses,
        attestation=attestation,
        halvings=checkpoints.halvings,
        keep=keep,
    )


_STEPS = 10


class TokenRate:
    """Training tokens per second over the last steps; where none could be timed yet, what it was before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque(maxlen=_STEPS + 1)
        self._rate: float | None = None

    def at(self, tokens: int | None) -> float | None:
        """Take the tokens trained on so far, at the end of a step, and return the rate."""
        if tokens is not None:
            self._seen.append((self._clock(), tokens))
            (begin, before), (end, after) = self._seen[0], self._seen[-1]
            if end > begin:
                self._rate = (after - before) / (end - begin)
        return self._rate

    def pause(self) -> None:
        """Leave the time until the end of the next step out."""
        self._seen.clear()
