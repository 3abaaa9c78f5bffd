"""Calibrate the cost of a trial on this machine: a few training steps, a few loss batches, and a few responses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import median

import torch
from transformers import PreTrainedTokenizerBase

from neftune_cli.config.spec import ResolvedEvaluation, TrialSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.batches import MOST_PROMPTS, padded_tokens, tokens_at_once
from neftune_cli.evaluation.decoding import decoding_batches, uses_preallocated_cache
from neftune_cli.evaluation.generation import response_limits, scored_responses, with_prompt
from neftune_cli.evaluation.losses import example_losses
from neftune_cli.evaluation.shared_prompts import shares_prompts
from neftune_cli.models.language_model import LanguageModel, causal_model, evaluation_mode
from neftune_cli.models.loading import LoadedModel, move_to
from neftune_cli.training.cost import (
    CALIBRATION_SECONDS,
    EXTRAPOLATED,
    FULLY_MEASURED,
    PARTLY_MEASURED,
    Calibration,
    recipe_key,
)
from neftune_cli.training.hardware import peak_memory_bytes, reset_peak_memory
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.timing import Clock, TimeLimit, device_clock, forward_calls, time_training

SHORT_TOKENS, SHORT_PASSES = 8, 3
"""Tokens of the first pass, which shows the order of magnitude, and its repetitions, because the first one is slow."""
FIRST_SHARE = 0.1
"""Largest share of the time limit for a larger pass before the training steps."""
PASSES_PER_STEP = 3
"""Forward passes that take as long as a training step on the same tokens."""
TRAINING_SHARE = 2 / 3
"""Share of the time limit after which training steps end."""
LOSS_BATCHES, LOSS_ROWS = 3, 32
"""Number of timed measurements of noise-off losses, and the largest number of examples in each."""
NEW_TOKENS = 8
"""Number of timed generation steps after the prompt."""
SAMPLE_SECONDS = 5.0
"""Time limit for the losses, and for the responses, as far as it can be estimated beforehand."""
MIN_ROWS = 4


def calibrate(
    loaded: LoadedModel, prepared: PreparedData, spec: TrialSpec, seconds: float = CALIBRATION_SECONDS
) -> Calibration:
    """Measure how long the parts of a trial take; the model is modified.

    The steps are those of the trial: same trainer, noise and data order. Two warm-up steps on the longest examples
    come first. Memory peaks in the second one, when the optimizer state has been allocated. Medians limit the effect
    of short disturbances.

    Short passes come before everything else. They show which measurements end within the time limit. The other
    durations are concluded from those that were measured, and the uncertainty of the result says so.

    Args:
        loaded: the model.
        prepared: the data.
        spec: the trial.
        seconds: time limit.

    Raises:
        TrialError: a prompt leaves no room for a response in the model's context.
    """
    clock = device_clock(prepared.device)
    begin = clock()
    reset_peak_memory(prepared.device)
    move_to(loaded.model, prepared.device)
    first = _time_first_passes(loaded.model, prepared, clock, seconds)
    limit = TimeLimit(begin + TRAINING_SHARE * seconds, PASSES_PER_STEP * first.per_token)
    model, training = time_training(loaded, prepared, spec, clock, limit)
    left = _TimeLeft(clock, begin + seconds, training.per_token / PASSES_PER_STEP, first.shortest)
    losses = _time_losses(model, prepared, left)
    left = replace(left, per_token=losses.per_token)
    if training.uncertainty == EXTRAPOLATED:  # the losses are measured on more tokens than the first passes
        training = replace(training, per_token=PASSES_PER_STEP * losses.per_token)
    responses = _time_responses(model, loaded.tokenizer, prepared, spec.evaluation, left)
    measured = _lengths((*prepared.probe, *prepared.held_out))
    return Calibration(
        recipe=recipe_key(spec.train),
        setup=training.setup,
        step=training.per_token * training.padded_per_epoch / training.steps_per_epoch,
        measurement=losses.per_token * padded_tokens(measured, tokens_at_once(prepared.device)),
        responses=responses.estimate(prepared, model, spec.evaluation, as_references=True),
        longest_responses=responses.estimate(prepared, model, spec.evaluation, as_references=False),
        steps_per_epoch=training.steps_per_epoch,
        tokens_per_epoch=training.tokens_per_epoch,
        peak_memory=peak_memory_bytes(prepared.device) if training.shows_peak_memory else None,
        uncertainty=max(training.uncertainty, losses.uncertainty, responses.uncertainty),
        seconds=clock() - begin,
    )


@dataclass(frozen=True)
class _FirstPasses:
    """Durations of forward passes before any other measurement, in seconds."""

    shortest: float
    per_token: float
    """Seconds per token of the pass with the lowest value, usually the largest pass."""


def _time_first_passes(model: LanguageModel, prepared: PreparedData, clock: Clock, limit: float) -> _FirstPasses:
    """Time a few tokens, then an example and a small batch, unless these take more than FIRST_SHARE of the limit."""
    (example,) = _around_median(prepared.train, 1, _length)
    few, whole = example.input_ids[:SHORT_TOKENS], example.input_ids
    found: list[tuple[float, int]] = []
    with evaluation_mode(model):
        for rows in [[few]] * SHORT_PASSES + [[whole], [whole] * MIN_ROWS]:
            tokens = len(rows) * len(rows[0])
            if found and found[-1][0] / found[-1][1] * tokens > FIRST_SHARE * limit:
                break
            begin = clock()
            model(input_ids=torch.tensor(rows, device=model.device), use_cache=False)
            found.append((clock() - begin, tokens))
    return _FirstPasses(min(seconds for seconds, _ in found), min(seconds / tokens for seconds, tokens in found))


@dataclass(frozen=True)
class _TimeLeft:
    """The time that is left for a measurement, and what is known about its duration."""

    clock: Clock
    end: float
    """Time on the clock."""
    per_token: float
    """Seconds per token of a forward pass."""
    short_pass: float
    """Seconds of a pass of a few tokens."""

    def rows(self, maximum: int, lengths: Sequence[int], *, times: int) -> int:
        """Return the batch size for which `times` batches take at most SAMPLE_SECONDS and half of the time left.

        It is at most `maximum`, and at least MIN_ROWS even if that exceeds the other limits.
        """
        seconds = min(SAMPLE_SECONDS, (self.end - self.clock()) / 2)
        return max(MIN_ROWS, min(maximum, int(seconds / times / (self.per_token * median(lengths)))))

    def suffices_for(self, tokens: float, passes: int = 0) -> bool:
        """Return whether there is time for this number of tokens and of short passes."""
        return self.clock() + self.per_token * tokens + self.short_pass * passes <= self.end


@dataclass(frozen=True)
class _LossTime:
    """Measured duration of noise-off losses."""

    per_token: float
    """Seconds per token, padding included."""
    uncertainty: float = FULLY_MEASURED


def _time_losses(model: LanguageModel, prepared: PreparedData, left: _TimeLeft) -> _LossTime:
    """Time the losses of examples of medium length, if there is time for it.

    The first example is timed alone, because losses are computed in float32, unlike training.
    """
    tokens = tokens_at_once(prepared.device)
    measured = (*prepared.probe, *prepared.held_out)

    def end_of_losses(examples: Sequence[TokenizedExample]) -> float:
        """Compute the losses of the examples, and return the time at which they are computed."""
        example_losses(model, examples, pad_token_id=prepared.pad_token_id, tokens=tokens)
        return left.clock()

    (one,) = _around_median(measured, 1, _length)
    if not left.suffices_for(_length(one)):
        return _LossTime(left.per_token, PARTLY_MEASURED)
    begin = left.clock()
    of_one = (end_of_losses([one]) - begin) / _length(one)
    left = replace(left, per_token=max(left.per_token, of_one))
    batch = _around_median(measured, left.rows(LOSS_ROWS, _lengths(measured), times=LOSS_BATCHES), _length)
    in_batch = padded_tokens(_lengths(batch), tokens)
    if not left.suffices_for(LOSS_BATCHES * in_batch):
        return _LossTime(of_one, PARTLY_MEASURED)
    stamps = [left.clock(), *(end_of_losses(batch) for _ in range(LOSS_BATCHES))]
    return _LossTime(median(end - begin for begin, end in pairwise(stamps)) / in_batch)


def _length(example: TokenizedExample) -> int:
    return len(example.input_ids)


def _prompt_lengths(examples: Sequence[TokenizedExample]) -> list[int]:
    return [one.prompt_length for one in examples]


def _lengths(examples: Sequence[TokenizedExample]) -> list[int]:
    return [_length(one) for one in examples]


@dataclass(frozen=True)
class _ResponseTime:
    """Measured durations of generating and scoring responses, in seconds."""

    per_prompt_token: float = 0.0
    per_step: float = 0.0
    """One more token for all rows of a batch: the part that does not depend on the number of rows."""
    per_row: float = 0.0
    """One more token for all rows of a batch: the part that each row adds."""
    per_score: float = 0.0
    """The scores of one response."""
    uncertainty: float = FULLY_MEASURED

    def estimate(
        self, prepared: PreparedData, model: LanguageModel, evaluation: ResolvedEvaluation, *, as_references: bool
    ) -> float:
        """Return the time of all responses of a trial.

        A response has the length of its reference, or the limit of new tokens if that is smaller or if `as_references`
        is false. The longest response of a batch determines its number of steps. Transformers' `generate` computes
        every row until then. Prompts that are computed together with the losses have no time of their own.
        """
        prompts = with_prompt([*prepared.held_out, *prepared.probe_prompts])
        lengths = _prompt_lengths(prompts)
        limits = response_limits(model, prompts, evaluation.max_new_tokens)
        references = [len(one.input_ids) - one.prompt_length for one in prompts]
        steps = [min(pair) for pair in zip(limits, references, strict=True)] if as_references else limits
        preallocated = _uses_preallocated_cache(model, evaluation)
        per_prompt_token = 0.0 if shares_prompts(model, prompts, evaluation) else self.per_prompt_token
        total = self.per_score * len(prompts)
        for batch in decoding_batches(model, lengths, limits, preallocated=preallocated):
            further = [steps[index] - 1 for index in batch]  # the prompt yields the first token
            # a preallocated cache is computed without the rows that have finished
            passes = sum(further) if preallocated else len(further) * max(further)
            total += per_prompt_token * _prompt_tokens([lengths[at] for at in batch], model, evaluation)
            total += self.per_step * max(further) + self.per_row * passes
        return total


def _uses_preallocated_cache(model: LanguageModel, evaluation: ResolvedEvaluation) -> bool:
    return uses_preallocated_cache(model, wanted=evaluation.wants_preallocated)


def _prompt_tokens(lengths: Sequence[int], model: LanguageModel, evaluation: ResolvedEvaluation) -> int:
    """Return the tokens of prompts that are decoded together; transformers pads all of them to the longest prompt."""
    at_once = tokens_at_once(model.device.type) if _uses_preallocated_cache(model, evaluation) else math.inf
    return padded_tokens(lengths, at_once)


def _time_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: PreparedData,
    evaluation: ResolvedEvaluation,
    left: _TimeLeft,
) -> _ResponseTime:
    """Time a few response tokens for a batch of prompts of medium length, and for a quarter of the batch."""
    prompts = with_prompt(prepared.held_out) or with_prompt(prepared.probe_prompts)
    if not prompts:
        return _ResponseTime()
    rows = left.rows(MOST_PROMPTS, _prompt_lengths(prompts), times=1)
    batch = _decoded_at_once(model, _around_median(prompts, rows, lambda one: one.prompt_length), evaluation)
    few = batch[: max(1, len(batch) // 4)]
    short = evaluation.model_copy(update={"max_new_tokens": min(evaluation.max_new_tokens, 1 + NEW_TOKENS)})
    tokens = sum(_prompt_tokens(_prompt_lengths(some), model, evaluation) for some in (batch, few))
    in_steps = short.max_new_tokens * (len(batch) + len(few))
    generations = 3  # of one prompt, of the batch, and of a few prompts
    if not left.suffices_for(batch[0].prompt_length + tokens + in_steps, generations * short.max_new_tokens):
        return _ResponseTime(left.per_token, left.short_pass, left.per_token, uncertainty=EXTRAPOLATED)
    timed = partial(_time_generation, model, tokenizer, short, left.clock)
    timed(batch[:1])  # warm-up
    return _response_time(timed(batch), timed(few))


@dataclass(frozen=True)
class _GenerationTime:
    """Durations of generating and scoring the responses of one batch, in seconds."""

    rows: int
    prompt_tokens: int
    """Tokens of the prompts, padding included."""
    prefill: float
    """Of the prompts, with the first token of each response."""
    steps: Sequence[float]
    """Of each further token of all rows; empty with one token for each prompt."""
    scoring: float

    @property
    def step(self) -> float:
        """Return the median duration of a further token; that of the prompts if there is none."""
        return median(self.steps or [self.prefill])


def _time_generation(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    evaluation: ResolvedEvaluation,
    clock: Clock,
    batch: Sequence[TokenizedExample],
) -> _GenerationTime:
    """Generate and score the responses to a batch of prompts, and return the durations."""
    with forward_calls(causal_model(model), clock) as calls:
        scored_responses(model, tokenizer, batch, evaluation)
    end = clock()
    timed = partial(_GenerationTime, len(batch), _prompt_tokens(_prompt_lengths(batch), model, evaluation))
    first_step = next((at for at, one in enumerate(calls) if at and one.length == 1), len(calls))
    begins = [one.begin for one in calls[first_step:]]
    if not begins:
        return timed(end - calls[0].begin, [], 0.0)
    steps = [after - before for before, after in pairwise(begins)]
    last = median(steps or [0.0])
    return timed(begins[0] - calls[0].begin, steps, end - begins[-1] - last)


def _response_time(batch: _GenerationTime, few: _GenerationTime) -> _ResponseTime:
    """Divide the duration of a step into the part of each row and the rest, from batches of two sizes."""
    per_row = max(0.0, (batch.step - few.step) / max(1, batch.rows - few.rows))
    return _ResponseTime(
        # the smaller of two measurements, since disturbances only add time
        per_prompt_token=min(one.prefill / one.prompt_tokens for one in (batch, few)),
        per_step=max(0.0, batch.step - per_row * batch.rows),
        per_row=per_row,
        per_score=max(0.0, batch.scoring) / batch.rows,
    )


def _decoded_at_once(
    model: LanguageModel, prompts: Sequence[TokenizedExample], evaluation: ResolvedEvaluation
) -> list[TokenizedExample]:
    """Return the largest batch of these prompts that are decoded together in a trial."""
    lengths, limits = _prompt_lengths(prompts), response_limits(model, prompts, evaluation.max_new_tokens)
    batches = decoding_batches(model, lengths, limits, preallocated=_uses_preallocated_cache(model, evaluation))
    return [prompts[index] for index in max(batches, key=len)]


def _around_median(
    examples: Sequence[TokenizedExample], rows: int, length: Callable[[TokenizedExample], int]
) -> list[TokenizedExample]:
    """Return `rows` examples whose lengths are nearest to the median in rank."""
    begin = max(0, (len(examples) - rows) // 2)
    return sorted(examples, key=length)[begin : begin + rows]
