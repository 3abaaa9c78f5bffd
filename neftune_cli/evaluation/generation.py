"""Greedy generation of responses to prompts, in batches, and the scores of the responses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.language_model import LanguageModel, causal_model, evaluation_mode
from neftune_cli.metrics import TRUNCATED, Metric, response_metrics
from neftune_cli.records import EvalMetrics, Generation


@dataclass(frozen=True)
class Response:
    """The response of a model to one prompt."""

    text: str
    """Text without special tokens and surrounding white space."""
    tokens: int
    """Number of generated tokens, without the end token."""
    truncated: bool
    """Whether generation reached the token limit before an end token."""


def generate_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    batch_size: int = 64,
) -> list[Response]:
    """Return the greedy response to each example's prompt, in input order.

    Each response is the same as in a batch with one prompt. Generation ends at the end tokens of model and tokenizer,
    at `max_new_tokens`, or at the end of the model's context. The model's other generation settings have no effect.

    The repetition penalty (1: off; the NEFTune paper, appendix A.2, uses 1.2) divides the positive and multiplies the
    negative logits of all tokens in prompt and response, as in transformers.

    Raises:
        TrialError: a prompt is empty, or fills the model's context.

    """
    end_tokens = _end_tokens(model, tokenizer)
    responses: dict[int, Response] = {}
    with evaluation_mode(model):
        for limit, indices in _batches(model, examples, max_new_tokens, batch_size):
            settings = _settings(limit, repetition_penalty, end_tokens)
            generated = _generate(model, [examples[index].prompt_ids for index in indices], settings)
            for index, tokens in zip(indices, generated, strict=True):
                responses[index] = _response(tokens, end_tokens, tokenizer)
    return [responses[index] for index in range(len(examples))]


def _end_tokens(model: LanguageModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    configured = getattr(causal_model(model).generation_config, "eos_token_id", None)
    of_model = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [*of_model, tokenizer.eos_token_id] if token is not None})


def _batches(
    model: LanguageModel, examples: Sequence[TokenizedExample], max_new_tokens: int, batch_size: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield pairs of a token limit and the indices of a batch of examples with this limit, by prompt length."""
    limits = _limits(model, examples, max_new_tokens)
    by_length = sorted(range(len(examples)), key=lambda index: len(examples[index].prompt_ids))
    # the limit never increases with the prompt length, so examples with equal limits are adjacent
    for limit, group in groupby(by_length, key=limits.__getitem__):
        indices = list(group)
        for start in range(0, len(indices), batch_size):
            yield limit, indices[start : start + batch_size]


def _limits(model: LanguageModel, examples: Sequence[TokenizedExample], max_new_tokens: int) -> list[int]:
    """Return the token limit of each response: the smaller of `max_new_tokens` and the rest of the model's context."""
    context = getattr(causal_model(model).config.get_text_config(), "max_position_embeddings", None)
    for row, tokenized in enumerate(examples):
        _require_room(tokenized, row, context)
    return [min(max_new_tokens, context - len(one.prompt_ids)) if context else max_new_tokens for one in examples]


def _require_room(tokenized: TokenizedExample, row: int, context: int | None) -> None:
    name = f"Example {tokenized.example.id} (row {row})"
    if not tokenized.prompt_ids:
        raise TrialError(f"{name} has no prompt. Generation needs examples with prompts.")
    if context and tokenized.prompt_length >= context:
        raise TrialError(
            f"{name} has a prompt of {tokenized.prompt_length} tokens, which fills the model's context of {context} "
            f"tokens. Use --max-length {context} or less to drop longer prompts."
        )


def _settings(limit: int, repetition_penalty: float, end_tokens: list[int]) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        repetition_penalty=repetition_penalty,
        eos_token_id=end_tokens or None,
        # finished rows are padded with this token; _response cuts it off together with the end token
        pad_token_id=end_tokens[0] if end_tokens else None,
    )


def _generate(model: LanguageModel, prompts: Sequence[tuple[int, ...]], settings: GenerationConfig) -> list[list[int]]:
    """Return the new tokens of each prompt, with end token and padding."""
    length = max(len(prompt) for prompt in prompts)
    tokens: list[list[int]] = _output(model, prompts, settings)[:, length:].tolist()
    return tokens


def _output(model: LanguageModel, prompts: Sequence[tuple[int, ...]], settings: GenerationConfig) -> Any:
    """Return what transformers' `generate` returns for left-padded prompts."""
    input_ids, attention_mask = _left_padded(prompts)
    generator: Any = causal_model(model)
    previous_settings = generator.generation_config
    # settings that are passed as an argument are merged with the model's own
    generator.generation_config = settings
    try:
        return generator.generate(
            input_ids=input_ids.to(generator.device), attention_mask=attention_mask.to(generator.device)
        )
    finally:
        generator.generation_config = previous_settings


def effect_of_padding(model: LanguageModel) -> float:
    """Return how much the logits after a prompt change when the prompt is padded to the length of a longer one.

    The value is the largest change divided by the largest logit. Some recurrent architectures ignore the attention
    mask, so that padding changes their responses.
    """
    settings = GenerationConfig(
        max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0
    )
    short, long = (3, 2, 1), (0, 1, 2, 3, 4, 5)
    with evaluation_mode(model):
        alone: Tensor = _output(model, [short], settings).logits[0][0]
        padded: Tensor = _output(model, [short, long], settings).logits[0][0]
    return float((alone - padded).abs().max() / alone.abs().max())


def _left_padded(prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Return input ids and attention mask, (prompts, longest prompt) each.

    A prompt is padded with its own first token. Some releases of transformers apply the repetition penalty to padding
    as well, so padding with the end token would penalize the end of the response.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = [prompt[:1] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def _response(generated: list[int], end_tokens: list[int], tokenizer: PreTrainedTokenizerBase) -> Response:
    end = next((at for at, token in enumerate(generated) if token in end_tokens), None)
    kept = generated[:end]
    text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Response(text=str(text).strip(), tokens=len(kept), truncated=end is None)


def evaluate_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    batch_size: int = 64,
) -> tuple[EvalMetrics, list[Generation]]:
    """Return the metrics of the greedy responses, and the responses in the order of their examples.

    Examples without a prompt (plain texts) are skipped. If no example has a prompt, every metric is None and the list
    is empty.

    Raises:
        TrialError: a prompt fills the model's context.

    """
    prompted = [one for one in examples if one.example.has_prompt]
    responses = generate_responses(
        model,
        tokenizer,
        prompted,
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        batch_size=batch_size,
    )
    generations = [_generation(one, response, tokenizer) for one, response in zip(prompted, responses, strict=True)]
    return response_scores(generations), generations


def _generation(tokenized: TokenizedExample, response: Response, tokenizer: PreTrainedTokenizerBase) -> Generation:
    example = tokenized.example
    prompt = tokenizer.decode(list(tokenized.prompt_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return Generation(
        example=example.id,
        cluster=example.cluster,
        kind=example.kind,
        prompt=str(prompt),
        reference=example.completion,
        response=response.text,
        tokens=response.tokens,
        truncated=response.truncated,
        **item_scores(response.text, example.completion),
    )


def item_scores(response: str, reference: str) -> dict[str, Any]:
    """Return the per-item metrics of one response that are stored in `generations.jsonl`, without `truncated`."""
    stored = (metric for metric in response_metrics() if metric.scored_per_item and metric.key != TRUNCATED)
    return {metric.key: metric.scoring_function()(response, reference) for metric in stored}


def response_scores(generations: Sequence[Generation]) -> EvalMetrics:
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
