"""Losses and greedy responses of the same examples, whose prompts pass through the model once.

The pass of an example for its loss contains the pass of its prompt, so its keys and values are kept for the response.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from neftune_cli.config.spec import ResolvedEvaluation
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.batches import batches_by_length
from neftune_cli.evaluation.decoding import ComputedPrompts, most_cached_tokens, uses_preallocated_cache
from neftune_cli.evaluation.generation import scored_responses
from neftune_cli.evaluation.losses import (
    example_losses,
    labelled_logits,
    losses_from_logits,
    most_tokens_with_logits,
    padded,
    require_loss_tokens,
)
from neftune_cli.models.language_model import LanguageModel, causal_model
from neftune_cli.records import Generation


def losses_and_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TokenizedExample],
    prompted: Sequence[int],
    evaluation: ResolvedEvaluation,
    *,
    pad_token_id: int,
    tokens: int,
    not_finite_message: str,
) -> tuple[list[float], list[Generation]]:
    """Return the loss of each example as `example_losses` does, and the responses as `scored_responses` does.

    The prompts pass through the model once if `shares_prompts` holds, and otherwise once for each of the two.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        examples: the examples to measure.
        prompted: indices of examples with a prompt, in the order of the responses.
        evaluation: settings of decoding.
        pad_token_id: the id of padding.
        tokens: largest number of tokens in a batch of losses, padding included.
        not_finite_message: message of the error for a loss that is not finite, which no response follows.

    Raises:
        TrialError: a loss is not finite; an example has no token that carries loss; a prompt fills the model's context.
    """
    require_loss_tokens(examples)
    with_response = [examples[index] for index in prompted]
    if not shares_prompts(model, with_response, evaluation):
        losses = example_losses(model, examples, pad_token_id=pad_token_id, tokens=tokens)
        _require_finite(losses, not_finite_message)
        return losses, scored_responses(model, tokenizer, with_response, evaluation)
    others = sorted(set(range(len(examples))) - set(prompted))
    of_others = example_losses(model, [examples[one] for one in others], pad_token_id=pad_token_id, tokens=tokens)
    _require_finite(of_others, not_finite_message)
    loss_pass = LossPass(model, with_response, pad_token_id, tokens, not_finite_message)
    generations = scored_responses(
        model, tokenizer, with_response, evaluation, compute_prompts=loss_pass.compute_prompts
    )
    by_index = {prompted[row]: loss for row, loss in loss_pass.losses.items()} | dict(
        zip(others, of_others, strict=True)
    )
    return [by_index[index] for index in range(len(examples))], generations


def shares_prompts(model: LanguageModel, examples: Sequence[TokenizedExample], evaluation: ResolvedEvaluation) -> bool:
    """Return whether the prompts of these examples pass through the model once for losses and responses.

    That is the case with a preallocated cache, if every example has a completion: the logits after its prompt are
    those of the first token of the completion.
    """
    preallocated = uses_preallocated_cache(model, wanted=evaluation.wants_preallocated)
    return preallocated and all(one.prompt_length < len(one.input_ids) for one in examples)


class LossPass:
    """The pass of examples through a model in evaluation mode for their losses, which computes their prompts."""

    def __init__(
        self,
        model: LanguageModel,
        examples: Sequence[TokenizedExample],
        pad_token_id: int,
        tokens: int,
        not_finite_message: str,
    ) -> None:
        self.losses: dict[int, float] = {}
        """Loss of each example that was measured, by its index."""
        self._model, self._examples = model, examples
        self._pad_token_id, self._tokens, self._not_finite_message = pad_token_id, tokens, not_finite_message

    def compute_prompts(self, indices: Sequence[int]) -> Iterator[ComputedPrompts]:
        """Measure the losses of examples that are decoded together, and yield their prompts in parts."""
        lengths = [len(self._examples[index].input_ids) for index in indices]
        tokens = min(self._tokens, most_tokens_with_logits(self._model), most_cached_tokens(self._model))
        for part in batches_by_length(lengths, tokens):
            losses, cache, logits = self.measured([self._examples[indices[row]] for row in part])
            _require_finite(losses, self._not_finite_message)
            self.losses |= zip((indices[row] for row in part), losses, strict=True)
            yield ComputedPrompts(part, cache, logits)

    def measured(self, examples: Sequence[TokenizedExample]) -> tuple[list[float], DynamicCache, Tensor]:
        """Return the losses, the keys and values of the prompts, and the logits after the prompts: (rows, vocab)."""
        cache = DynamicCache(config=causal_model(self._model).config)
        batch = padded(examples, self._pad_token_id, self._model.device)
        logits = labelled_logits(self._model, batch, cache)
        ends = torch.tensor([one.prompt_length for one in examples], device=logits.device)
        _keep_prompts(cache, ends)
        places = batch.labelled.flatten().cumsum(0).view_as(batch.labelled) - 1  # of labelled positions in the logits
        return losses_from_logits(logits, batch), cache, logits[places.gather(1, ends[:, None] - 1)[:, 0]]


def _keep_prompts(cache: DynamicCache, ends: Tensor) -> None:
    """Reduce right-padded rows of a cache to their prompts, which then end in the same column.

    Args:
        cache: keys and values, changed in place.
        ends: column after each prompt, (rows,).
    """
    width = int(ends.max())
    columns = (ends[:, None] - width + torch.arange(width, device=ends.device)).clamp(min=0)
    for layer in cast(Sequence[Any], cache.layers):
        layer.keys, layer.values = (
            each.gather(2, columns[:, None, :, None].expand(-1, each.shape[1], -1, each.shape[3]))
            for each in (layer.keys, layer.values)
        )


def _require_finite(losses: Sequence[float], not_finite_message: str) -> None:
    if not all(map(math.isfinite, losses)):
        raise TrialError(not_finite_message)
