"""One trial, start to record: train a model under noise, measure it without."""

import sys
from collections.abc import Iterator
from typing import cast

from torch import nn

from neftune_cli.config.running import RunSettings
from neftune_cli.errors import TrialStopped
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.models.loading import LoadedModel
from neftune_cli.records import CurvePoint, TrialRecord
from neftune_cli.store import ClaimedTrial
from neftune_cli.training.fine_tuning import FineTuned, fine_tune
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.sft_trainer import micro_batches
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import ReportProgress, Trial, TrialProgress
from neftune_cli.training.trial_metrics import (
    MeasuredAnswers,
    loss_metrics,
    measure_answers,
    measure_losses,
    measure_noise,
)


def run_trial(
    trial: Trial,
    loaded: LoadedModel,
    prepared: PreparedData,
    place: ClaimedTrial,
    watch: ReportProgress,
    *,
    settings: RunSettings,
    stop: StopRequest,
    halvings: int = 0,
) -> TrialRecord:
    """Run one trial, from its newest checkpoint if there is one, and leave its record.

    Args:
        trial: what to run.
        loaded: a fresh model, which is spoilt.
        prepared: what it is trained and measured on.
        place: where everything goes; `begin` was called.
        watch: is told of every step and phase.
        settings: how the trial is run.
        stop: ends the trial, with a checkpoint if it was trained.
        halvings: how often the batch is halved for want of memory; a checkpoint of a training with more decides.

    Raises:
        TrialStopped: it was asked to stop, and everything that is needed to go on is on the disk.
        TrialError: the loss is not finite, or the noise wasn't what it should be.
        ClaimLost: another process has taken the trial over.
    """
    outcome = (
        _measured_base(loaded, prepared, place, stop)
        if trial.is_base
        else fine_tune(trial, loaded, prepared, place, watch, settings=settings, stop=stop, halvings=halvings)
    )
    watch(TrialProgress("generating"))
    answers = _answered(outcome, trial, loaded, prepared, stop)
    if settings.keep_model and not trial.is_base:
        _save(outcome.model, loaded, place)
    record = TrialRecord(
        trial=trial.id,
        arm=trial.arm,
        alpha=trial.alpha,
        seed=trial.seed,
        loss=loss_metrics(outcome.losses, train_loss=outcome.train_loss),
        eval=answers.held_out,
        probe_eval=answers.probe,
        noise=None if trial.is_base else measure_noise(trial.spec.noise, prepared),
        attestation=outcome.attestation,
        identity=trial.identity,
        notes=(
            f"Measured on {len(prepared.probe)} training and {len(prepared.held_out)} held-out examples.",
            *_noise_notes(trial),
            *_memory_notes(trial, outcome.halvings),
        ),
    )
    place.finish(record, outcome.losses, answers.generations)
    return record


def _measured_base(loaded: LoadedModel, prepared: PreparedData, place: ClaimedTrial, stop: StopRequest) -> FineTuned:
    place.rewrite_metrics([])
    with stop.interruptible():
        cast(nn.Module, loaded.model).to(prepared.device)
        sys.audit("neftune.model-loaded")
        losses = measure_losses(loaded.model, prepared, epoch=0)
    mean = loss_metrics(losses, train_loss=None)
    place.append_metrics(
        CurvePoint(step=0, epoch=0.0, eval_loss=mean.eval_loss, train_loss_clean=mean.train_loss_clean)
    )
    return FineTuned(loaded.model, losses)


def _answered(
    outcome: FineTuned, trial: Trial, loaded: LoadedModel, prepared: PreparedData, stop: StopRequest
) -> MeasuredAnswers:
    """Let the model answer; if the trial is stopped meanwhile, its training is kept."""
    try:
        with stop.interruptible():
            answers = measure_answers(outcome.model, loaded.tokenizer, prepared, trial.spec.evaluation)
    except TrialStopped:
        outcome.keep()
        raise
    sys.audit("neftune.answers-generated", trial.id)
    return answers


def _noise_notes(trial: Trial) -> Iterator[str]:
    """Say what the size of the noise alone doesn't."""
    noise = trial.spec.noise
    if noise.alpha and noise.noise_schedule != "constant":
        falling = f"alpha falls to zero over the training ({noise.noise_schedule}); its size is the first step's."
        yield f"{trial.arm}: {falling}"
    if noise.alpha and noise.noise_target != "all":
        yield f"{trial.arm}: only {noise.noise_target} tokens get noise."


def _memory_notes(trial: Trial, halvings: int) -> Iterator[str]:
    if halvings:
        at_once, _ = micro_batches(trial.spec.train, halvings)
        whole = trial.spec.train.batch_size
        yield f"{trial.label}: batches of {whole} as {whole // at_once} x {at_once}, for want of memory."


def _save(model: LanguageModel, loaded: LoadedModel, place: ClaimedTrial) -> None:
    """Save the model (adapters alone, if it has some) and its tokenizer as safetensors."""
    with place.new_model() as folder:
        model.save_pretrained(str(folder))
        loaded.tokenizer.save_pretrained(folder)
