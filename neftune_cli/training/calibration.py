"""Measures what a kind of trial costs here: a few real steps, a few batches of noise-off losses, some answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import cast

from torch import nn
from transformers import PreTrainedTokenizerBase

from neftune_cli.config.spec import ResolvedEvaluation, TrialSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.generation import evaluate_answers
from neftune_cli.evaluation.losses import example_losses
from neftune_cli.evaluation.measured_model import LanguageModel, causal_model
from neftune_cli.models.loading import LoadedModel
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.hardware import peak_memory_bytes, reset_peak_memory
from neftune_cli.training.prepared_data import EVALUATION_BATCH_SIZE, GENERATION_BATCH_SIZE, PROBE_ANSWERS, PreparedData
from neftune_cli.training.timing import Clock, affordable, around_median, device_clock, forwards, time_training

MEASUREMENTS = 3


def calibrate(loaded: LoadedModel, prepared: PreparedData, trial: TrialSpec) -> Calibration:
    """Measure a trial's parts on a model that is spoilt by it; the rest is multiplication.

    The steps are the trial's own: its trainer, noise and data order. Before them go two on the longest examples: the
    first warms up, and in the second the memory peaks, as the optimizer's state is there by then. Medians are taken, as
    in so short a time a passing disturbance would weigh too much. It takes half a minute at most, unless two steps do.

    Raises:
        TrialError: a prompt leaves no room for an answer in the model's context.
    """
    clock = device_clock(prepared.device)
    reset_peak_memory(prepared.device)
    cast(nn.Module, loaded.model).to(prepared.device)
    model, training = time_training(loaded, prepared, trial, clock)
    per_token = _time_measurement(model, prepared, training.per_token, clock)
    answering = time_answers(model, loaded.tokenizer, prepared, trial.evaluation, per_token, clock)
    return Calibration(
        recipe=recipe_key(trial.train),
        setup=training.setup,
        step=training.per_token * training.padded_per_epoch / training.steps_per_epoch,
        measurement=per_token * sum(map(_padded_tokens, (prepared.probe, prepared.held_out))),
        answers=answering.price(prepared, model, trial.evaluation, as_references=True),
        longest_answers=answering.price(prepared, model, trial.evaluation, as_references=False),
        steps_per_epoch=training.steps_per_epoch,
        tokens_per_epoch=training.tokens_per_epoch,
        peak_memory=peak_memory_bytes(prepared.device),
    )


def _time_measurement(model: LanguageModel, prepared: PreparedData, training_per_token: float, clock: Clock) -> float:
    """Return seconds a token (padding included) of noise-off losses, from batches of middling lengths.

    A forward takes about a third of a training step, which tells how large a batch may be.
    """
    measured = (*prepared.probe, *prepared.held_out)
    lengths = [len(one.input_ids) for one in measured]
    rows = affordable(EVALUATION_BATCH_SIZE, training_per_token / 3, lengths, times=MEASUREMENTS)
    batch = around_median(measured, rows, lambda one: len(one.input_ids))

    def losses(examples: Sequence[TokenizedExample]) -> float:
        example_losses(model, examples, pad_token_id=prepared.pad_token_id, batch_size=EVALUATION_BATCH_SIZE)
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


NEW_TOKENS = 8


@dataclass(frozen=True)
class AnswerTime:
    """What answering takes, in seconds."""

    per_prompt_token: float = 0.0
    per_step: float = 0.0
    """One more token for all rows of a batch, however few they are."""
    per_row: float = 0.0
    """What each row adds to that."""
    per_score: float = 0.0
    """The scores of one answer."""

    def price(
        self, prepared: PreparedData, model: LanguageModel, chosen: ResolvedEvaluation, *, as_references: bool
    ) -> float:
        """Return the time of all answers that a trial asks for.

        A batch goes on until its last answer ends: with the longest reference in it, or with the limit.
        """
        context = getattr(causal_model(model).config.get_text_config(), "max_position_embeddings", None)
        total = 0.0
        for examples in (_asked(prepared.held_out), _asked(prepared.probe[:PROBE_ANSWERS])):
            for batch in _batches(examples):
                prompt = batch[-1].prompt_length
                limit = min(chosen.max_new_tokens, context - prompt) if context else chosen.max_new_tokens
                reference = max(len(one.input_ids) - one.prompt_length for one in batch)
                steps = min(limit, reference) if as_references else limit
                total += len(batch) * (self.per_prompt_token * prompt + self.per_score)
                total += (steps - 1) * (self.per_step + self.per_row * len(batch))  # the first comes with the prompt
        return total


def time_answers(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: PreparedData,
    chosen: ResolvedEvaluation,
    per_token: float,
    clock: Clock,
) -> AnswerTime:
    """Answer a batch of prompts of middling length and a quarter of it, a few tokens each."""
    asked = _asked(prepared.held_out) or _asked(prepared.probe[:PROBE_ANSWERS])
    if not asked:
        return AnswerTime()
    rows = affordable(GENERATION_BATCH_SIZE, per_token, [one.prompt_length for one in asked], times=1)
    batch = around_median(asked, rows, lambda one: one.prompt_length)

    def answered(examples: Sequence[TokenizedExample]) -> tuple[list[float], float]:
        """Return the seconds of each forward, and those of the scores."""
        with forwards(causal_model(model), clock) as calls:
            evaluate_answers(
                model,
                tokenizer,
                examples,
                max_new_tokens=min(chosen.max_new_tokens, 1 + NEW_TOKENS),
                repetition_penalty=chosen.repetition_penalty,
                batch_size=GENERATION_BATCH_SIZE,
            )
        spans = [after.begin - before.begin for before, after in pairwise(calls)]
        last = median(spans[1:] or spans or [0.0])
        return [*spans, last], clock() - calls[-1].begin - last

    answered(batch[:1])
    few = batch[: max(1, len(batch) // 4)]
    (prefill, *steps), scoring = answered(batch)
    (few_prefill, *few_steps), _ = answered(few)
    step, few_step = median(steps or [prefill]), median(few_steps or [few_prefill])
    per_row = max(0.0, (step - few_step) / max(1, len(batch) - len(few)))
    return AnswerTime(
        # the lesser of two: a passing disturbance can only add
        per_prompt_token=min(prefill / _prompt_tokens(batch), few_prefill / _prompt_tokens(few)),
        per_step=max(0.0, step - per_row * len(batch)),
        per_row=per_row,
        per_score=max(0.0, scoring) / len(batch),
    )


def _prompt_tokens(batch: Sequence[TokenizedExample]) -> int:
    return len(batch) * max(one.prompt_length for one in batch)


def _asked(examples: Sequence[TokenizedExample]) -> list[TokenizedExample]:
    return [one for one in examples if one.example.prompt]


def _batches(examples: Sequence[TokenizedExample]) -> Iterator[Sequence[TokenizedExample]]:
    """Yield examples as they are answered together: by the length of their prompts."""
    by_length = sorted(examples, key=lambda one: one.prompt_length)
    for start in range(0, len(by_length), GENERATION_BATCH_SIZE):
        yield by_length[start : start + GENERATION_BATCH_SIZE]
