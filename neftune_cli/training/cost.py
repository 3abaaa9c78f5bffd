"""Cost of a trial in time and tokens, computed from a calibration; without torch."""

import json
import math
from dataclasses import dataclass, replace
from typing import Self

from neftune_cli.config.spec import TrainSpec

CALIBRATION_SECONDS = 30.0
"""Time limit of all calibrations of a command, without the start of the workers."""
FULLY_MEASURED, PARTLY_MEASURED, EXTRAPOLATED = 1.0, 2.0, 4.0
"""Uncertainty of a cost: measured to the end; measured in part, or for another recipe; concluded from a short pass."""


@dataclass(frozen=True)
class TrialCost:
    """Estimated time of one trial, and its training tokens."""

    seconds: float
    """With `curve_examples` an upper bound."""
    tokens: int
    """Tokens trained on over all epochs, padding excluded."""


@dataclass(frozen=True)
class Calibration:
    """Measured durations, in seconds, of the parts of a trial with one recipe on this machine."""

    recipe: str
    """The `recipe_key` of the recipe."""
    setup: float
    """From fresh weights to the first step."""
    step: float
    """One optimizer step on batches of average size."""
    measurement: float
    """One measurement of the noise-off losses of all probe and held-out examples."""
    responses: float
    """All responses and their scores, if each is about as long as its reference."""
    longest_responses: float
    """All responses and their scores, if each reaches the limit of new tokens, as is common before fine-tuning."""
    steps_per_epoch: int
    tokens_per_epoch: int
    """Training tokens, padding excluded."""
    peak_memory: int | None
    """Peak memory in bytes: of the GPU if there is one, otherwise of the process. None without two complete steps."""
    uncertainty: float = FULLY_MEASURED
    """Factor by which the true durations may be longer or shorter; 1 if the time sufficed to measure them."""
    seconds: float = 0.0
    """Duration of the calibration itself."""

    def estimate(self, train: TrainSpec, *, is_base: bool) -> TrialCost:
        """Return the cost of a trial with this recipe and any number of epochs or steps.

        Every epoch, including an incomplete last one, ends with a measurement. Responses of a fine-tuned model are
        assumed to be as long as the references. Responses of the base model are assumed to reach the limit of new
        tokens, which is an upper bound.
        """
        if is_base:
            return TrialCost(self.measurement + self.longest_responses, 0)
        steps = train.steps(self.steps_per_epoch)
        measurements = math.ceil(steps / self.steps_per_epoch)
        return TrialCost(
            seconds=self.setup + steps * self.step + measurements * self.measurement + self.responses,
            tokens=round(self.tokens_per_epoch * steps / self.steps_per_epoch),
        )

    def adapted_to(self, train: TrainSpec) -> Self:
        """Return an estimate for another recipe, whose steps are assumed to cost the same per example."""
        before = TrainSpec.model_validate({**train.model_dump(exclude={"sft"}), **json.loads(self.recipe)})
        ratio = train.examples_per_step / before.examples_per_step
        return replace(
            self,
            recipe=recipe_key(train),
            step=self.step * ratio,
            steps_per_epoch=math.ceil(self.steps_per_epoch / ratio),
            peak_memory=None,
            uncertainty=max(self.uncertainty, PARTLY_MEASURED),
            seconds=0.0,
        )


COSTLY_FIELDS = ("batch_size", "max_length", "lora_rank", "precision", "micro_batch_tokens")
"""Fields of a recipe that change the time or the memory of a step."""


def recipe_key(train: TrainSpec) -> str:
    """Return the fields of a recipe that determine the time and memory of a step, as canonical JSON."""
    costly = {name: value for name, value in train.sft.items() if name not in _COST_FREE}
    own = train.model_dump(include=set(COSTLY_FIELDS))
    return json.dumps({**own, **costly}, sort_keys=True)


_COST_FREE = frozenset(
    "adam_beta1 adam_beta2 adam_epsilon label_smoothing_factor lr_scheduler_kwargs lr_scheduler_type max_grad_norm "
    "warmup_steps weight_decay".split()
)
"""SFTConfig fields that change the numbers of a step but not its duration. All other fields may change it."""
