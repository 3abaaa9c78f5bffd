"""Measures what a kind of trial costs here: a few real steps, a few batches of noise-off losses, some answers."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import cast

from torch import nn

from neftune_cli.config.spec import TrialSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.losses import example_losses
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.models.loading import LoadedModel
from neftune_cli.training.answer_timing import time_answers
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.hardware import forget_peak_memory, peak_memory_bytes
from neftune_cli.training.material import EVALUATION_BATCH_SIZE, Material
from neftune_cli.training.step_timing import time_training
from neftune_cli.training.timing import Clock, affordable, around_median, device_clock

MEASUREMENTS = 3


def calibrate(loaded: LoadedModel, material: Material, trial: TrialSpec) -> Calibration:
    """Measure a trial's parts on a model that is spoilt by it; the rest is multiplication.

    The steps are the trial's own: its trainer, noise and data order. Before them go two on the longest examples: the
    first warms up, and in the second the memory peaks, as the optimizer's state is there by then. Medians are taken, as
    in so short a time a passing disturbance would weigh too much. It takes half a minute at most, unless two steps do.

    Raises:
        TrialError: a prompt leaves no room for an answer in the model's context.
    """
    clock = device_clock(material.device)
    forget_peak_memory(material.device)
    cast(nn.Module, loaded.model).to(material.device)
    model, training = time_training(loaded, material, trial, clock)
    per_token = _time_measurement(model, material, training.per_token, clock)
    answering = time_answers(model, loaded.tokenizer, material, trial.evaluation, per_token, clock)
    return Calibration(
        recipe=recipe_key(trial.train),
        setup=training.setup,
        step=training.per_token * training.padded_per_epoch / training.steps_per_epoch,
        measurement=per_token * sum(map(_padded_tokens, (material.probe, material.held_out))),
        answers=answering.price(material, model, trial.evaluation, as_references=True),
        longest_answers=answering.price(material, model, trial.evaluation, as_references=False),
        steps_per_epoch=training.steps_per_epoch,
        tokens_per_epoch=training.tokens_per_epoch,
        peak_memory=peak_memory_bytes(material.device),
    )


def _time_measurement(model: LanguageModel, material: Material, training_per_token: float, clock: Clock) -> float:
    """Return seconds a token (padding included) of noise-off losses, from batches of middling lengths.

    A forward takes about a third of a training step, which tells how large a batch may be.
    """
    measured = (*material.probe, *material.held_out)
    lengths = [len(one.input_ids) for one in measured]
    rows = affordable(EVALUATION_BATCH_SIZE, training_per_token / 3, lengths, times=MEASUREMENTS)
    batch = around_median(measured, rows, lambda one: len(one.input_ids))

    def losses(examples: Sequence[TokenizedExample]) -> float:
        example_losses(model, examples, pad_token_id=material.pad_token_id, batch_size=EVALUATION_BATCH_SIZE)
        return clock()

    stamps = [losses(batch[:1]), *(losses(batch) for _ in range(MEASUREMENTS))]
    return median(end - begin for begin, end in pairwise(stamps)) / _padded_tokens(batch)


def _padded_tokens(examples: Sequence[TokenizedExample]) -> int:
    """Return the tokens of examples that are measured in batches by length, each padded to its longest."""
    lengths = sorted(len(one.input_ids) for one in examples)
    batches = [
        lengths[start : start + EVALUATION_BATCH_SIZE] for start in range(0, len(lengths), EVALUATION_BATCH_SIZE)
    ]
    return sum(batch[-1] * len(batch) for batch in batches)
