"""Noise-off loss of each example, in nats per completion token."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from neftune_cli.config.choices import IGNORED_LABEL
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.batches import batches_by_length
from neftune_cli.models.language_model import (
    LanguageModel,
    cache_argument,
    causal_model,
    computes_chosen_positions,
    evaluation_mode,
)

LOGITS_AT_ONCE = 2**26
"""Largest number of logits in one batch: 256 MiB in float32, and the same amount for their log-softmax."""


def example_losses(
    model: LanguageModel, examples: Sequence[TokenizedExample], *, pad_token_id: int, tokens: int
) -> list[float]:
    """Return the loss of each example, the mean over its completion tokens in nats, in input order.

    The logits are those that the model returns, including any scaling or softcapping of the architecture, and the
    log-softmax is computed in float32. If the architecture can compute logits for chosen positions, it computes those
    of the completions only. A batch has examples of similar length, and an example is never split. The NaN loss of a
    diverged model is returned unchanged.

    Args:
        model: the model.
        examples: the examples to measure.
        pad_token_id: the id of padding.
        tokens: largest number of tokens in a batch, padding included, unless their logits exceed LOGITS_AT_ONCE.

    Raises:
        TrialError: an example has no token that carries loss, so its mean is undefined.
    """
    require_loss_tokens(examples)
    losses = [math.nan] * len(examples)
    with evaluation_mode(model):
        for indices in batches_by_length(
            [len(one.input_ids) for one in examples], min(tokens, most_tokens_with_logits(model))
        ):
            batch = padded([examples[index] for index in indices], pad_token_id, model.device)
            for index, loss in zip(indices, losses_from_logits(labelled_logits(model, batch), batch), strict=True):
                losses[index] = loss
    return losses


def mean_loss(losses: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the mean loss over all tokens, in nats.

    Args:
        losses: mean loss of each example, (examples,).
        tokens: number of tokens that carry loss in each example, (examples,).

    Raises:
        TrialError: there are no tokens.
    """
    if not sum(tokens):
        raise TrialError("The split has no examples, so its loss is undefined. Add at least one example to the split.")
    return math.fsum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)


@dataclass(frozen=True)
class LossBatch:
    """Right-padded examples."""

    input_ids: Tensor  # (examples, length)
    attention_mask: Tensor  # (examples, length), 1 on real tokens
    targets: Tensor  # (examples, length): the token that each position predicts, or IGNORED_LABEL

    @property
    def labelled(self) -> Tensor:
        """Return the mask of the positions that predict a completion token: (examples, length), boolean."""
        return self.targets != IGNORED_LABEL


def require_loss_tokens(examples: Sequence[TokenizedExample]) -> None:
    """Raise a `TrialError` if an example has no token that carries loss."""
    for tokenized in examples:
        if not tokenized.loss_tokens:
            raise TrialError(
                f"Example {tokenized.example.id} has no completion token, so its loss is undefined: "
                f"its prompt has {tokenized.prompt_length} of {len(tokenized.input_ids)} tokens. "
                "Increase --max-length, or remove the example."
            )


def most_tokens_with_logits(model: LanguageModel) -> int:
    """Return the number of tokens whose logits are LOGITS_AT_ONCE."""
    vocabulary: int = causal_model(model).config.get_text_config().vocab_size
    return LOGITS_AT_ONCE // vocabulary


def padded(examples: Sequence[TokenizedExample], pad_token_id: int, device: torch.device) -> LossBatch:
    """Return a batch of examples."""
    ids = [torch.tensor(example.input_ids) for example in examples]
    # each position predicts the next token; the last position predicts none
    targets = [torch.tensor([*example.labels[1:], IGNORED_LABEL]) for example in examples]
    return LossBatch(
        input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_token_id).to(device),
        attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device),
        targets=pad_sequence(targets, batch_first=True, padding_value=IGNORED_LABEL).to(device),
    )


def labelled_logits(model: LanguageModel, batch: LossBatch, cache: DynamicCache | None = None) -> Tensor:
    """Return the logits of all labelled positions, in the order of the examples: (tokens, vocab).

    Args:
        model: a model in evaluation mode.
        batch: the examples.
        cache: receives the keys and values of all tokens, padding included.
    """
    only_labelled = computes_chosen_positions(model)
    logits: Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        use_cache=cache is not None,
        **({} if cache is None else {cache_argument(model): cache}),
        **({"logits_to_keep": batch.labelled} if only_labelled else {}),
    ).logits
    return logits if only_labelled else logits[batch.labelled]


def losses_from_logits(logits: Tensor, batch: LossBatch) -> list[float]:
    """Return the mean loss of each example in nats, from the logits of the labelled positions: (tokens, vocab)."""
    token_losses = cross_entropy(logits.float(), batch.targets[batch.labelled], reduction="none")
    by_position = torch.zeros_like(batch.targets, dtype=torch.float32).masked_scatter(batch.labelled, token_losses)
    means: list[float] = (by_position.sum(dim=1) / batch.labelled.sum(dim=1)).tolist()
    return means
