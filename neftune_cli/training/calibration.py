"""Calibrate the cost of a trial on this machine: a few training steps, a few loss batches, and a few responses."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from transformers import PreTrainedTokenizerBase

from neftune_cli.config.spec import ResolvedEvaluation, TrialSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.generation import evaluate_responses
from neftune_cli.evaluation.language_model import LanguageModel, causal_model
from neftune_cli.evaluation.losses import example_losses
from neftune_cli.models.loading import LoadedModel, place
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.hardware import peak_memory_bytes, reset_peak_memory
from neftune_cli.training.prepared_data import (
    EVALUATION_BATCH_SIZE,
    GENERATION_BATCH_SIZE,
    PROBE_PROMPTS,
    PreparedData,
)
from neftune_cli.training.timing import Clock, device_clock, forward_calls, time_training

LOSS_BATCHES = 3
"""Number of timed batches of noise-off losses."""
NEW_TOKENS = 8
"""Number of timed generation steps after the prompt."""
SAMPLE_SECONDS = 5.0
"""Time limit for the losses, and for the responses, as far as it can be estimated beforehand."""
MIN_ROWS = 4


def calibrate(loaded: LoadedModel, prepared: PreparedData, trial: TrialSpec) -> Calibration:
    """Measure how long the parts of a trial take; the model is modified.

    The steps are those of the trial: same trainer, noise and data order. Two warm-up steps on the longest examples
    come first. Memory peaks in the second one, when the optimizer state has been allocated. Medians limit the effect
    of short disturbances. A calibration takes at most about 30 seconds, or two steps if those take longer.

    Raises:
        TrialError: a prompt leaves no room for a response in the model's context.
    """
    clock = device_clock(prepared.device)
    reset_peak_memory(prepared.device)
    place(loaded.model, prepared.device)
    model, training = time_training(loaded, prepared, trial, clock)
    per_token = _time_losses(model, prepared, training.per_token, clock)
    response_time = _time_responses(model, loaded.tokenizer, prepared, trial.evaluation, per_token, clock)
    return Calibration(
        recipe=recipe_key(trial.train),
        setup=training.setup,
        step=training.per_token * training.padded_per_epoch / training.steps_per_epoch,
        measurement=per_token * sum(map(_padded_tokens, (prepared.probe, prepared.held_out))),
        responses=response_time.estimate(prepared, model, trial.evaluation, as_references=True),
        longest_responses=response_time.estimate(prepared, model, trial.evaluation, as_references=False),
        steps_per_epoch=training.steps_per_epoch,
        tokens_per_epoch=training.tokens_per_epoch,
        peak_memory=peak_memory_bytes(prepared.device),
    )


def _time_losses(model: LanguageModel, prepared: PreparedData, training_per_token: float, clock: Clock) -> float:
    """Return the seconds per token, padding included, of noise-off losses of examples of medium length.

    The batch size is chosen on the assumption that a forward pass takes a third of a training step.
    """
    measured = (*prepared.probe, *prepared.held_out)
    lengths = [len(one.input_ids) for one in measured]
    rows = _affordable_rows(EVALUATION_BATCH_SIZE, training_per_token / 3, lengths, times=LOSS_BATCHES)
    batch = _around_median(measured, rows, lambda one: len(one.input_ids))

    def losses(examples: Sequence[TokenizedExample]) -> float:
        example_losses(model, examples, pad_token_id=prepared.pad_token_id, batch_size=EVALUATION_BATCH_SIZE)
        return clock()

    stamps = [losses(batch[:1]), *(losses(batch) for _ in range(LOSS_BATCHES))]
    return median(end - begin for begin, end in pairwise(stamps)) / _padded_tokens(batch)


def _padded_tokens(examples: Sequence[TokenizedExample]) -> int:
    """Return the number of tokens, padding included, of examples evaluated in batches sorted by length."""
    lengths = sorted(len(one.input_ids) for one in examples)
    batches = [
        lengths[start : start + EVALUATION_BATCH_SIZE] for start in range(0, len(lengths), EVALUATION_BATCH_SIZE)
    ]
    return sum(batch[-1] * len(batch) for batch in batches)


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

    def estimate(
        self, prepared: PreparedData, model: LanguageModel, evaluation: ResolvedEvaluation, *, as_references: bool
    ) -> float:
        """Return the time of all responses of a trial.

        Generation of a batch ends with its longest response: at the length of the longest reference in the batch, or at
        the limit of new tokens.
        """
        context = getattr(causal_model(model).config.get_text_config(), "max_position_embeddings", None)
        total = 0.0
        for examples in (_with_prompt(prepared.held_out), _with_prompt(prepared.probe[:PROBE_PROMPTS])):
            for batch in _generation_batches(examples):
                prompt = batch[-1].prompt_length
                limit = min(evaluation.max_new_tokens, context - prompt) if context else evaluation.max_new_tokens
                reference = max(len(one.input_ids) - one.prompt_length for one in batch)
                steps = min(limit, reference) if as_references else limit
                total += len(batch) * (self.per_prompt_token * prompt + self.per_score)
                total += (steps - 1) * (self.per_step + self.per_row * len(batch))  # the prompt yields the first token
        return total


def _time_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: PreparedData,
    evaluation: ResolvedEvaluation,
    per_token: float,
    clock: Clock,
) -> _ResponseTime:
    """Time a few response tokens for a batch of prompts of medium length, and for a quarter of the batch."""
    prompts = _with_prompt(prepared.held_out) or _with_prompt(prepared.probe[:PROBE_PROMPTS])
    if not prompts:
        return _ResponseTime()
    rows = _affordable_rows(GENERATION_BATCH_SIZE, per_token, [one.prompt_length for one in prompts], times=1)
    batch = _around_median(prompts, rows, lambda one: one.prompt_length)

    def generated(examples: Sequence[TokenizedExample]) -> tuple[list[float], float]:
        """Return the seconds of each forward pass, and those of scoring."""
        with forward_calls(causal_model(model), clock) as calls:
            evaluate_responses(
                model,
                tokenizer,
                examples,
                max_new_tokens=min(evaluation.max_new_tokens, 1 + NEW_TOKENS),
                repetition_penalty=evaluation.repetition_penalty,
                batch_size=GENERATION_BATCH_SIZE,
            )
        spans = [after.begin - before.begin for before, after in pairwise(calls)]
        last = median(spans[1:] or spans or [0.0])
        return [*spans, last], clock() - calls[-1].begin - last

    generated(batch[:1])
    few = batch[: max(1, len(batch) // 4)]
    (prefill, *steps), scoring = generated(batch)
    (few_prefill, *few_steps), _ = generated(few)
    step, few_step = median(steps or [prefill]), median(few_steps or [few_prefill])
    per_row = max(0.0, (step - few_step) / max(1, len(batch) - len(few)))
    return _ResponseTime(
        # the smaller of two measurements, since disturbances only add time
        per_prompt_token=min(prefill / _prompt_tokens(batch), few_prefill / _prompt_tokens(few)),
        per_step=max(0.0, step - per_row * len(batch)),
        per_row=per_row,
        per_score=max(0.0, scoring) / len(batch),
    )


def _prompt_tokens(batch: Sequence[TokenizedExample]) -> int:
    return len(batch) * max(one.prompt_length for one in batch)


def _with_prompt(examples: Sequence[TokenizedExample]) -> list[TokenizedExample]:
    return [one for one in examples if one.example.has_prompt]


def _generation_batches(examples: Sequence[TokenizedExample]) -> Iterator[Sequence[TokenizedExample]]:
    """Yield the batches that generation forms: examples sorted by the length of their prompts."""
    by_length = sorted(examples, key=lambda one: one.prompt_length)
    for start in range(0, len(by_length), GENERATION_BATCH_SIZE):
        yield by_length[start : start + GENERATION_BATCH_SIZE]


def _affordable_rows(maximum: int, per_token: float, lengths: Sequence[int], *, times: int) -> int:
    """Return the batch size, at most `maximum`, for which `times` batches take SAMPLE_SECONDS at seconds per token."""
    return max(MIN_ROWS, min(maximum, int(SAMPLE_SECONDS / times / (per_token * median(lengths)))))


def _around_median(
    examples: Sequence[TokenizedExample], rows: int, length: Callable[[TokenizedExample], int]
) -> list[TokenizedExample]:
    """Return `rows` examples whose lengths are nearest to the median in rank."""
    begin = max(0, (len(examples) - rows) // 2)
    return sorted(examples, key=length)[begin : begin + rows]
