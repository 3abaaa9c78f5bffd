"""Noise-off losses: how badly the model predicts each example when nothing disturbs it."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from neftune_cli.data.examples import TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation.measured_model import LanguageModel, causal_model, measuring

IGNORED = -100
LOGITS_AT_ONCE = 2**25
"""Vocabulary scores computed in one go: 128 MiB in float32, and as much again for their log-softmax."""


def example_losses(
    model: LanguageModel, examples: Sequence[TokenizedExample], *, pad_token_id: int, batch_size: int = 32
) -> list[float]:
    """Return each example's loss in mean nats per completion token, in input order, with noise and dropout off.

    The logits are the model's own (scaled or softcapped where the architecture does so), wherever it can be asked for
    single positions only those of the completions, and the log-softmax is float32. A batch holds up to `batch_size`
    examples of similar length, fewer where their logits would exceed LOGITS_AT_ONCE; one example is never split.
    A diverged model's loss comes back as it is, NaN included.

    Raises:
        TrialError: an example has no predicted token, so its mean isn't defined.

    """
    _require_predicted_tokens(examples)
    losses = [math.nan] * len(examples)
    with measuring(model):
        for indices in _batches(model, examples, batch_size):
            batch = _padded([examples[index] for index in indices], pad_token_id, model.device)
            for index, loss in zip(indices, _mean_losses(model, batch).tolist(), strict=True):
                losses[index] = loss
    return losses


def predicted_tokens(example: TokenizedExample) -> int:
    """Return how many tokens the example's loss is averaged over: the completion, or a plain text but for its first."""
    return max(0, len(example.input_ids) - max(example.prompt_length, 1))


def mean_loss(losses: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the mean over all tokens, in nats: `losses` and `tokens` are (examples,), means and counts.

    Raises:
        TrialError: there are no tokens to average over.

    """
    if not sum(tokens):
        raise TrialError("There is no example to measure the loss on. Give the split at least one example.")
    return math.fsum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)


@dataclass(frozen=True)
class _Batch:
    """Right-padded examples."""

    input_ids: Tensor  # (examples, length)
    attention_mask: Tensor  # (examples, length), 1 on real tokens
    targets: Tensor  # (examples, length): the token each position predicts, or IGNORED

    @property
    def scored(self) -> Tensor:
        """Return which positions predict a completion token: (examples, length), boolean."""
        return self.targets != IGNORED


def _require_predicted_tokens(examples: Sequence[TokenizedExample]) -> None:
    for row, tokenized in enumerate(examples):
        if not predicted_tokens(tokenized):
            raise TrialError(
                f"Example {tokenized.example.id} (row {row}) has no completion token left to measure the loss on: "
                f"its prompt takes {tokenized.prompt_length} of {len(tokenized.input_ids)} tokens. "
                "Raise --max-length, or drop the example."
            )


def _batches(model: LanguageModel, examples: Sequence[TokenizedExample], batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of examples by length, cut where a batch has enough examples or enough logits."""
    allowed = LOGITS_AT_ONCE // causal_model(model).config.get_text_config().vocab_size
    only_scored = _computes_chosen_positions(model)
    batch: list[int] = []
    positions = 0
    for index in sorted(range(len(examples)), key=lambda index: len(examples[index].input_ids)):
        needed = predicted_tokens(examples[index]) if only_scored else len(examples[index].input_ids)
        if batch and (len(batch) == batch_size or positions + needed > allowed):
            yield batch
            batch, positions = [], 0
        batch.append(index)
        positions += needed
    if batch:
        yield batch


def _padded(examples: Sequence[TokenizedExample], pad_token_id: int, device: torch.device) -> _Batch:
    ids = [torch.tensor(example.input_ids) for example in examples]
    # a position predicts the token after it, and the last one nothing
    targets = [torch.tensor([*example.labels[1:], IGNORED]) for example in examples]
    return _Batch(
        input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_token_id).to(device),
        attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device),
        targets=pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(device),
    )


def _mean_losses(model: LanguageModel, batch: _Batch) -> Tensor:
    """Return the mean loss of each example: (examples,), in nats."""
    logits = _scored_logits(model, batch).float()
    token_losses = cross_entropy(logits, batch.targets[batch.scored], reduction="none")
    by_position = torch.zeros_like(batch.targets, dtype=torch.float32).masked_scatter(batch.scored, token_losses)
    return by_position.sum(dim=1) / batch.scored.sum(dim=1)


def _scored_logits(model: LanguageModel, batch: _Batch) -> Tensor:
    """Return the logits of all scored positions, example by example: (tokens, vocab)."""
    only_scored = _computes_chosen_positions(model)
    logits: Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        use_cache=False,
        **({"logits_to_keep": batch.scored} if only_scored else {}),
    ).logits
    return logits if only_scored else logits[batch.scored]


def _computes_chosen_positions(model: LanguageModel) -> bool:
    """Return whether the architecture takes a boolean mask as `logits_to_keep`.

    Such architectures call transformers' `slice_logits_to_keep`. Remote code and older releases of transformers take
    a number of trailing positions, if anything, under the same name.
    """
    return hasattr(sys.modules[type(causal_model(model)).__module__], "slice_logits_to_keep")
