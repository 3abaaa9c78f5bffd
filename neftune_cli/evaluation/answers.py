"""From prompts to scores: let the model answer the held-out prompts, and score each answer and all of them."""

from collections.abc import Sequence
from statistics import fmean

from transformers import PreTrainedTokenizerBase

from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.generation import Answer, generate_answers
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.evaluation.text_metrics import (
    chunk_length,
    corpus_bleu,
    exact_match,
    log_diversity,
    repetition_2gram,
    rouge_l,
)
from neftune_cli.records import EVAL_METRICS, EvalMetrics, Generation


def evaluate_answers(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    *,
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    batch_size: int = 64,
) -> tuple[EvalMetrics, list[Generation]]:
    """Return the metrics over the greedy answers, and the answers themselves in the order of their examples.

    Examples without prompt (plain texts) are left out; where none is left, every metric is None and the list empty.

    Raises:
        TrialError: a prompt leaves no room for an answer in the model's context.

    """
    asked = [one for one in examples if one.example.prompt]
    answers = generate_answers(
        model,
        tokenizer,
        asked,
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        batch_size=batch_size,
    )
    generations = [_generation(one, answer, tokenizer) for one, answer in zip(asked, answers, strict=True)]
    return _metrics(generations), generations


def _generation(tokenized: TokenizedExample, answer: Answer, tokenizer: PreTrainedTokenizerBase) -> Generation:
    example = tokenized.example
    prompt = tokenizer.decode(list(tokenized.prompt_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return Generation(
        example=example.id,
        cluster=example.cluster,
        kind=example.kind,
        prompt=str(prompt),
        reference=example.completion,
        response=answer.text,
        tokens=answer.tokens,
        truncated=answer.truncated,
        exact_match=exact_match(answer.text, example.completion),
        rouge_l=rouge_l(answer.text, example.completion),
    )


def _metrics(generations: Sequence[Generation]) -> EvalMetrics:
    if not generations:
        return EvalMetrics(**dict.fromkeys(EVAL_METRICS))
    responses = [generation.response for generation in generations]
    references = [generation.reference for generation in generations]
    chunk_words = chunk_length(references)
    return EvalMetrics(
        exact_match=fmean(generation.exact_match for generation in generations),
        rouge_l=fmean(generation.rouge_l for generation in generations),
        bleu=corpus_bleu(responses, references),
        response_chars=fmean(len(response) for response in responses),
        repetition_2gram=repetition_2gram(responses, chunk_words),
        log_diversity=log_diversity(responses, chunk_words),
        truncated=fmean(generation.truncated for generation in generations),
    )
