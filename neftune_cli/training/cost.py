"""What a kind of trial costs: plain numbers that a calibration measures and a plan is priced from, without torch."""

import json
import math
from dataclasses import dataclass

from neftune_cli.config.spec import TrainSpec

_FREE = frozenset(
    "adam_beta1 adam_beta2 adam_epsilon label_smoothing_factor lr_scheduler_kwargs lr_scheduler_type max_grad_norm "
    "warmup_ratio warmup_steps weight_decay".split()
)
"""SFTConfig fields that change what a step computes and not how long it takes."""


def recipe_key(train: TrainSpec) -> str:
    """Return what of a recipe decides how long a step takes and how much memory it needs; any other field may."""
    costly = {name: value for name, value in train.sft.items() if name not in _FREE}
    own = train.model_dump(include={"batch_size", "max_length", "lora_rank"})
    return json.dumps({**own, **costly}, sort_keys=True)


@dataclass(frozen=True)
class TrialCost:
    """What one trial takes, in seconds by phase, optimizer steps and training tokens."""

    setup: float
    training: float
    measuring: float
    """All noise-off losses: after each epoch, or once for the base."""
    answering: float
    steps: int
    tokens: int
    """Tokens trained on in all epochs, padding left out."""

    @property
    def seconds(self) -> float:
        """Return the time of all phases."""
        return self.setup + self.training + self.measuring + self.answering


@dataclass(frozen=True)
class Calibration:
    """What the parts of a trial of one recipe take on this machine, in seconds."""

    recipe: str
    """What it speaks for, as `recipe_key` has it."""
    setup: float
    """From fresh weights to the first step."""
    step: float
    """One optimizer step on batches of average size."""
    measurement: float
    """One noise-off measurement of all probe and held-out examples."""
    answers: float
    """All answers and their scores, where each is about as long as its reference."""
    longest_answers: float
    """The same where answers run into the limit of new tokens, as those of a model before fine-tuning often do."""
    steps_per_epoch: int
    tokens_per_epoch: int
    """Training tokens, padding left out."""
    peak_memory: int
    """Bytes of main memory that the process has held at most, or of the GPU's where it is one."""

    def estimate(self, train: TrainSpec, *, is_base: bool) -> TrialCost:
        """Return the cost of a trial with this recipe, however many epochs or steps it trains.

        Every begun epoch ends in a measurement. A fine-tuned model is taken to answer at about the references' length,
        the base to run into the limit: both are assumptions, the second an upper bound.
        """
        if is_base:
            return TrialCost(0.0, 0.0, self.measurement, self.longest_answers, 0, 0)
        steps = train.max_steps or math.ceil(train.epochs * self.steps_per_epoch)
        return TrialCost(
            setup=self.setup,
            training=steps * self.step,
            measuring=math.ceil(steps / self.steps_per_epoch) * self.measurement,
            answering=self.answers,
            steps=steps,
            tokens=round(self.tokens_per_epoch * steps / self.steps_per_epoch),
        )
