"""Sizes of batches: sequences of similar length are computed together, limited by tokens and by memory."""

from collections.abc import Iterator, Sequence

_TOKENS_AT_ONCE = {"cpu": 512}
"""Kind of device to the default of `tokens_at_once`."""
_TOKENS_AT_ONCE_ON_GPUS = 2**14
"""The default for all other devices."""
CACHE_BYTES = 2**30
"""Memory for the keys and values of the prompts that are decoded together: 1 GiB."""
MOST_PROMPTS = 256
"""Largest number of prompts that are decoded together."""


def tokens_at_once(device: str, chosen: int | None = None) -> int:
    """Return the number of tokens, padding included, in one pass through a model: the chosen one, or the default.

    On processors, more tokens are slower, because their activations exceed the caches. GPUs need more tokens to reach
    their full speed.
    """
    return _TOKENS_AT_ONCE.get(device, _TOKENS_AT_ONCE_ON_GPUS) if chosen is None else chosen


def batches_by_length(lengths: Sequence[int], tokens: float) -> Iterator[list[int]]:
    """Yield batches of indices of sequences, longest first, with at most `tokens` tokens each, padding included.

    A sequence of more tokens is a batch of its own. Every index occurs once.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded_tokens(lengths: Sequence[int], tokens: float) -> int:
    """Return the number of tokens, padding included, in all batches of `batches_by_length`."""
    return sum(len(batch) * lengths[batch[0]] for batch in batches_by_length(lengths, tokens))
