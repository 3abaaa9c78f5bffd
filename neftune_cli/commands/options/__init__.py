"""The options that commands share, spelt and explained once."""

from typing import Any

from neftune_cli.commands.options.data import DatasetName, EvalExamples, Format, Model, TrainExamples
from neftune_cli.commands.options.engine import (
    CheckpointMinutes,
    CheckpointSteps,
    DryRun,
    Estimate,
    FailFast,
    HourlyRate,
    Keep,
    OnOom,
    Retry,
    StopOnDivergence,
    Workers,
)
from neftune_cli.commands.options.noise import (
    Alpha,
    Alphas,
    Noises,
    NoiseScale,
    NoiseSchedule,
    NoiseShape,
    NoiseTarget,
    Ratio,
    Seed,
    Seeds,
    Snr,
)
from neftune_cli.commands.options.run import Json, MaxNewTokens, Output, Quiet, RepetitionPenalty
from neftune_cli.commands.options.training import (
    BatchSize,
    Epochs,
    LearningRate,
    LoraRank,
    MaxLength,
    MaxSteps,
    Settings,
)

__all__ = [
    "Alpha",
    "Alphas",
    "BatchSize",
    "CheckpointMinutes",
    "CheckpointSteps",
    "DatasetName",
    "DryRun",
    "Epochs",
    "Estimate",
    "EvalExamples",
    "FailFast",
    "Format",
    "HourlyRate",
    "Json",
    "Keep",
    "LearningRate",
    "LoraRank",
    "MaxLength",
    "MaxNewTokens",
    "MaxSteps",
    "Model",
    "NoiseScale",
    "NoiseSchedule",
    "NoiseShape",
    "NoiseTarget",
    "Noises",
    "OnOom",
    "Output",
    "Quiet",
    "Ratio",
    "RepetitionPenalty",
    "Retry",
    "Seed",
    "Seeds",
    "Settings",
    "Snr",
    "StopOnDivergence",
    "TrainExamples",
    "Workers",
    "experiment",
]

_EXPERIMENT = (
    "model dataset format_ train_examples eval_examples alphas snr noises seeds noise noise_scale noise_schedule "
    "noise_target epochs max_steps learning_rate batch_size max_length lora_rank settings max_new_tokens "
    "repetition_penalty"
).split()


def experiment(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those of a command's arguments that say what is trained, under the names a spec has for them."""
    return {name.rstrip("_"): arguments[name] for name in _EXPERIMENT if name in arguments}
