"""Greedy generation of responses to prompts, in batches, and the scores of the responses."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from neftune_cli.config.spec import ResolvedEvaluation
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.decoding import ComputePrompts, Decoding, greedy_tokens
from neftune_cli.evaluation.text_metrics import exact_match
from neftune_cli.metrics import TRUNCATED, Metric, response_metrics
from neftune_cli.models.language_model import LanguageModel, causal_model, context_length, evaluation_mode
from neftune_cli.records import EvalMetrics, Generation


@dataclass(frozen=True)
class Response:
    """The response of a model to one prompt."""

    text: str
    """Text without special tokens and surrounding white space."""
    tokens: int
    """Number of generated tokens, without the end token."""
    truncated: bool
    """Whether generation reached the token limit, or the end of the model's context, before an end token."""


def generate_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    preallocated: bool = True,
    compute_prompts: ComputePrompts | None = None,
) -> list[Response]:
    """Return the greedy response to each example's prompt, in input order.

    Each response is the same as in a batch with one prompt, except with LongRoPE (see `short_factor_length`).
    Generation ends at the end tokens of model and tokenizer, at `max_new_tokens`, or at the end of the model's context.
    The model's other generation settings have no effect.

    The repetition penalty (1: off; the NEFTune paper, appendix A.2, uses 1.2) divides the positive and multiplies the
    negative logits of all tokens in prompt and response, as in transformers.

    `compute_prompts` computes the prompts with some indices, if they have to be computed for another purpose as well.

    Raises:
        TrialError: a prompt is empty, or fills the model's context.
    """
    if not examples:
        return []
    prompts = [one.prompt_ids for one in examples]
    limits = response_limits(model, examples, max_new_tokens)
    decoding = Decoding(_end_tokens(model, tokenizer), repetition_penalty, preallocated=preallocated)
    with evaluation_mode(model):
        generated = greedy_tokens(model, prompts, limits, decoding, compute_prompts=compute_prompts)
    return [_response(tokens, decoding.end_tokens, tokenizer) for tokens in generated]


def _end_tokens(model: LanguageModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    configured = getattr(causal_model(model).generation_config, "eos_token_id", None)
    of_model = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*of_model, tokenizer.eos_token_id] if token is not None)


def response_limits(model: LanguageModel, examples: Sequence[TokenizedExample], max_new_tokens: int) -> list[int]:
    """Return the token limit of each response: the smaller of `max_new_tokens` and the rest of the model's context.

    Raises:
        TrialError: a prompt is empty, or fills the model's context.
    """
    context = context_length(model)
    for tokenized in examples:
        _require_room(tokenized, context)
    return [min(max_new_tokens, context - len(one.prompt_ids)) if context else max_new_tokens for one in examples]


def _require_room(tokenized: TokenizedExample, context: int | None) -> None:
    name = f"Example {tokenized.example.id}"
    if not tokenized.prompt_ids:
        raise TrialError(f"{name} has no prompt. Generation needs examples with prompts.")
    if context and tokenized.prompt_length >= context:
        raise TrialError(
            f"{name} has a prompt of {tokenized.prompt_length} tokens, which fills the model's context of {context} "
            f"tokens. Use --max-length {context} or less to drop longer prompts."
        )


def _response(generated: list[int], end_tokens: Set[int], tokenizer: PreTrainedTokenizerBase) -> Response:
    truncated = generated[-1] not in end_tokens
    kept = generated if truncated else generated[:-1]
    return Response(text=_response_text(kept, tokenizer), tokens=len(kept), truncated=truncated)


def _response_text(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


def scored_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    evaluation: ResolvedEvaluation,
    *,
    compute_prompts: ComputePrompts | None = None,
) -> list[Generation]:
    """Return the greedy responses with their per-item metrics, in the order of their examples.

    Examples without a prompt (plain texts) are skipped. `evaluation` has the settings of decoding. The indices of
    `compute_prompts` are those of the examples with a prompt.

    Raises:
        TrialError: a prompt fills the model's context.
    """
    examples = with_prompt(examples)
    responses = generate_responses(
        model,
        tokenizer,
        examples,
        max_new_tokens=evaluation.max_new_tokens,
        repetition_penalty=evaluation.repetition_penalty,
        preallocated=evaluation.wants_preallocated,
        compute_prompts=compute_prompts,
    )
    return [_generation(one, response, tokenizer) for one, response in zip(examples, responses, strict=True)]


def with_prompt(examples: Sequence[TokenizedExample]) -> list[TokenizedExample]:
    """Return the examples that have a prompt, for which responses are generated."""
    return [one for one in examples if one.example.has_prompt]


def _generation(tokenized: TokenizedExample, response: Response, tokenizer: PreTrainedTokenizerBase) -> Generation:
    example = tokenized.example
    prompt = tokenizer.decode(list(tokenized.prompt_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    reference = _reference(tokenized, tokenizer)
    return Generation(
        example=example.id,
        cluster=example.cluster,
        kind=example.kind,
        prompt=str(prompt),
        reference=reference,
        response=response.text,
        tokens=response.tokens,
        truncated=response.truncated,
        **item_scores(response.text, reference),
    )


def _reference(tokenized: TokenizedExample, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the completion of the data, or the text of its tokens if a response with these tokens does not match it.

    That is the case with tool calls, with reasoning that the data keep apart or that the generation prompt opens, and
    with special tokens in raw texts.
    """
    completion = tokenized.example.completion
    learned = tokenized.input_ids[tokenized.prompt_length :]
    if learned[-1:] != (tokenizer.eos_token_id,):  # cut at the maximum length
        return completion
    text = _response_text(learned, tokenizer)
    return completion if exact_match(text, completion) else text


def item_scores(response: str, reference: str) -> dict[str, Any]:
    """Return the per-item metrics of one response that are stored in `generations.jsonl`, without `truncated`."""
    stored = (metric for metric in response_metrics() if metric.scored_per_item and metric.key != TRUNCATED)
    return {metric.key: metric.scoring_function()(response, reference) for metric in stored}


def aggregate_scores(generations: Sequence[Generation]) -> EvalMetrics:
    """Return every registered metric of responses; None if there are no responses or the metric is undefined."""
    scores = {metric.key: _score(metric, generations) if generations else None for metric in response_metrics()}
    return EvalMetrics.model_validate(scores)


def _score(metric: Metric, generations: Sequence[Generation]) -> float | None:
    if metric.scored_per_item:
        return fmean(getattr(generation, metric.key) for generation in generations)
    responses = [generation.response for generation in generations]
    references = [generation.reference for generation in generations]
    score = metric.scoring_function()
    if metric.per_item:
        return fmean(map(score, responses, references))
    value: float | None = score(responses, references)
    return value
