"""One trial, start to record: load the model, train it under noise, measure it without."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import nn

from neftune_cli.config.spec import TrialSpec
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.records import Attestation, CurvePoint, ExampleLoss, TrialRecord
from neftune_cli.store import TrialFolder
from neftune_cli.training.curve import CurveCallback
from neftune_cli.training.material import Material
from neftune_cli.training.measure import loss_metrics, measure_answers, measure_losses, measure_noise
from neftune_cli.training.sft import build_trainer, sft_config
from neftune_cli.training.trial import Trial, TrialProgress, Watch


@dataclass(frozen=True)
class _Outcome:
    """What training (or, for the base, no training) left."""

    model: LanguageModel
    train_loss: float | None
    losses: list[ExampleLoss]
    attestation: Attestation | None = None


def run_trial(
    trial: Trial, material: Material, folder: TrialFolder, watch: Watch, *, model_to: Path | None = None
) -> TrialRecord:
    """Run one trial and leave its record in `folder`, which was started; the model goes to `model_to`, if given.

    Raises:
        TrialError: the loss is not finite, or the noise wasn't what it should be.
    """
    watch(TrialProgress("loading"))
    loaded = load_model(material.source)
    outcome = (
        _measured_base(loaded, material, folder) if trial.is_base else _trained(trial, loaded, material, folder, watch)
    )
    watch(TrialProgress("generating"))
    answers = measure_answers(outcome.model, loaded.tokenizer, material, trial.spec.evaluation)
    if model_to is not None:
        _save(outcome.model, loaded, model_to)
    record = TrialRecord(
        trial=trial.id,
        arm=trial.arm,
        alpha=trial.alpha,
        seed=trial.seed,
        loss=loss_metrics(outcome.losses, train_loss=outcome.train_loss),
        eval=answers.held_out,
        probe_eval=answers.probe,
        noise=None if trial.is_base else measure_noise(trial.spec.noise, material),
        attestation=outcome.attestation,
        identity=trial.identity,
        notes=(
            f"Measured on {len(material.probe)} training and {len(material.held_out)} held-out examples.",
            *_noise_notes(trial),
        ),
    )
    folder.finish(record, outcome.losses, answers.generations)
    return record


def _measured_base(loaded: LoadedModel, material: Material, folder: TrialFolder) -> _Outcome:
    cast(nn.Module, loaded.model).to(material.device)
    losses = measure_losses(loaded.model, material, epoch=0)
    mean = loss_metrics(losses, train_loss=None)
    folder.append_metrics(
        CurvePoint(step=0, epoch=0.0, eval_loss=mean.eval_loss, train_loss_clean=mean.train_loss_clean)
    )
    return _Outcome(loaded.model, None, losses)


def _trained(trial: Trial, loaded: LoadedModel, material: Material, folder: TrialFolder, watch: Watch) -> _Outcome:
    """Train under the trial's noise; the optimizer, data order and dropout are TRL's and know nothing of it."""
    spec, noise = trial.spec, _noise_callback(trial.spec)
    curve = CurveCallback(
        measure=lambda model, epoch: measure_losses(model, material, epoch=epoch),
        append=folder.append_metrics,
        step=lambda step, steps, loss: watch(TrialProgress("training", step, steps, loss)),
    )
    with tempfile.TemporaryDirectory(prefix="neftune-") as work:
        config = sft_config(spec.train, seed=spec.seed, device=material.device, work=Path(work))
        trainer = build_trainer(
            loaded.model,
            loaded.tokenizer,
            material.train,
            config,
            lora_rank=spec.train.lora_rank,
            callbacks=[curve, noise],
        )
        trainer.train()
    if noise.deviations:
        raise TrialError(f"The noise was not what the formula says: {'; '.join(noise.deviations)}.")
    trained = cast(LanguageModel, trainer.model)
    return _Outcome(trained, curve.last_epoch_loss, curve.example_losses, noise.attestation)


def _noise_callback(spec: TrialSpec) -> NEFTuneCallback:
    noise = spec.noise
    return NEFTuneCallback(
        noise.alpha,
        seed=spec.seed,
        noise=noise.noise,
        noise_scale=noise.noise_scale,
        schedule=noise.noise_schedule,
        target=noise.noise_target,
    )


def _noise_notes(trial: Trial) -> Iterator[str]:
    """Say what the size of the noise alone doesn't."""
    noise = trial.spec.noise
    if noise.alpha and noise.noise_schedule != "constant":
        falling = f"alpha falls to zero over the training ({noise.noise_schedule}); its size is the first step's."
        yield f"{trial.arm}: {falling}"
    if noise.alpha and noise.noise_target != "all":
        yield f"{trial.arm}: only {noise.noise_target} tokens get noise."


def _save(model: LanguageModel, loaded: LoadedModel, folder: Path) -> None:
    """Save the model (adapters alone, if it has some) and its tokenizer as safetensors."""
    model.save_pretrained(str(folder))
    loaded.tokenizer.save_pretrained(folder)
