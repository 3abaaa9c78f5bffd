"""Calibrate the cost of a trial on this machine: a few training steps, a few loss batches, and a few responses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from transformers import PreTrainedTokenizerBase

from neftune_cli.config.spec import ResolvedEvaluation, TrialSpec
from neftune_cli.data.batches import MOST_PROMPTS, padded_tokens, tokens_at_once
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.decoding import decoded_together
from neftune_cli.evaluation.generation import response_limits, scored_responses, with_prompt
from neftune_cli.evaluation.language_model import LanguageModel, causal_model
from neftune_cli.evaluation.losses import example_losses
from neftune_cli.models.loading import LoadedModel, place
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.hardware import peak_memory_bytes, reset_peak_memory
from neftune_cli.training.prepared_data import PROBE_PROMPTS, PreparedData
from neftune_cli.training.timing import Clock, device_clock, forward_calls, time_training

LOSS_BATCHES, LOSS_ROWS = 3, 32
"""Number of timed measurements of noise-off losses, and the largest number of examples in each."""
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
        measurement=per_token
        * padded_tokens(_lengths((*prepared.probe, *prepared.held_out)), tokens_at_once(prepared.device)),
        responses=response_time.estimate(prepared, model, trial.evaluation, as_references=True),
        longest_responses=response_time.estimate(prepared, model, trial.evaluation, as_references=False),
        steps_per_epoch=training.steps_per_epoch,
        tokens_per_epoch=training.tokens_per_epoch,
        peak_memory=peak_memory_bytes(prepared.device),
    )


def _time_losses(model: LanguageModel, prepared: PreparedData, training_per_token: float, clock: Clock) -> float:
    """Return the seconds per token, padding included, of noise-off losses of examples of medium length.

    The number of examples is chosen on the assumption that a forward pass takes a third of a training step.
    """
    tokens = tokens_at_once(prepared.device)
    measured = (*prepared.probe, *prepared.held_out)
    rows = _affordable_rows(LOSS_ROWS, training_per_token / 3, _lengths(measured), times=LOSS_BATCHES)
    batch = _around_median(measured, rows, lambda one: len(one.input_ids))

    def losses(examples: Sequence[TokenizedExample]) -> float:
        example_losses(model, examples, pad_token_id=prepared.pad_token_id, tokens=tokens)
        return clock()

    stamps = [losses(batch[:1]), *(losses(batch) for _ in range(LOSS_BATCHES))]
    return median(end - begin for begin, end in pairwise(stamps)) / padded_tokens(_lengths(batch), tokens)


def _lengths(examples: Sequence[TokenizedExample]) -> list[int]:
    return [len(one.input_ids) for one in examples]


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

        A response has the length of its reference, or the limit of new tokens if that is smaller or if `as_references`
        is false. The longest response of a batch determines its number of steps.
        """
        prompts = with_prompt([*prepared.held_out, *prepared.probe[:PROBE_PROMPTS]])
        lengths = [one.prompt_length for one in prompts]
        limits = response_limits(model, prompts, evaluation.max_new_tokens)
        references = [len(one.input_ids) - one.prompt_length for one in prompts]
        steps = [min(pair) for pair in zip(limits, references, strict=True)] if as_references else limits
        total = self.per_prompt_token * padded_tokens(lengths, tokens_at_once(prepared.device))
        total += self.per_score * len(prompts)
        for batch in decoded_together(model, lengths, limits):  # the prompt yields the first token
            total += self.per_step * (max(steps[index] for index in batch) - 1)
            total += self.per_row * sum(steps[index] - 1 for index in batch)
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
    prompts = with_prompt(prepared.held_out) or with_prompt(prepared.probe[:PROBE_PROMPTS])
    if not prompts:
        return _ResponseTime()
    rows = _affordable_rows(MOST_PROMPTS, per_token, [one.prompt_length for one in prompts], times=1)
    batch = _around_median(prompts, rows, lambda one: one.prompt_length)

    def generated(examples: Sequence[TokenizedExample]) -> tuple[float, list[float], float]:
        """Return the seconds of the prompts, those of each further token of all rows, and those of scoring."""
        with forward_calls(causal_model(model), clock) as calls:
            scored_responses(
                model,
                tokenizer,
                examples,
                max_new_tokens=min(evaluation.max_new_tokens, 1 + NEW_TOKENS),
                repetition_penalty=evaluation.repetition_penalty,
                preallocated=evaluation.decoding == "preallocated",
            )
        end = clock()
        first_step = next((at for at, one in enumerate(calls) if at and one.length == 1), len(calls))
        begins = [one.begin for one in calls[first_step:]]
        if not begins:  # one token for each prompt
            return end - calls[0].begin, [], 0.0
        steps = [after - before for before, after in pairwise(begins)]
        last = median(steps or [0.0])
        return begins[0] - calls[0].begin, steps, end - begins[-1] - last

    generated(batch[:1])
    few = batch[: max(1, len(batch) // 4)]
    prefill, steps, scoring = generated(batch)
    few_prefill, few_steps, _ = generated(few)
    step, few_step = median(steps or [prefill]), median(few_steps or [few_prefill])
    per_row = max(0.0, (step - few_step) / max(1, len(batch) - len(few)))
    at_once = tokens_at_once(prepared.device)
    return _ResponseTime(
        # the smaller of two measurements, since disturbances only add time
        per_prompt_token=min(
            seconds / padded_tokens([one.prompt_length for one in some], at_once)
            for seconds, some in ((prefill, batch), (few_prefill, few))
        ),
        per_step=max(0.0, step - per_row * len(batch)),
        per_row=per_row,
        per_score=max(0.0, scoring) / len(batch),
    )


def _affordable_rows(maximum: int, per_token: float, lengths: Sequence[int], *, times: int) -> int:
    """Return the batch size, at most `maximum`, for which `times` batches take SAMPLE_SECONDS at seconds per token."""
    return max(MIN_ROWS, min(maximum, int(SAMPLE_SECONDS / times / (per_token * median(lengths)))))


def _around_median(
    examples: Sequence[TokenizedExample], rows: int, length: Callable[[TokenizedExample], int]
) -> list[TokenizedExample]:
    """Return `rows` examples whose lengths are nearest to the median in rank."""
    begin = max(0, (len(examples) - rows) // 2)
    return sorted(examples, key=length)[begin : begin + rows]
