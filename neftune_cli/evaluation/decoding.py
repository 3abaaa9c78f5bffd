"""Greedy decoding of prompts in batches: a preallocated cache, without finished rows and with little padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from neftune_cli.evaluation.language_model import LanguageModel, causal_model

CACHE_BYTES = 2**30
"""Memory for the keys and values of one batch. It limits the number of prompts that are decoded together."""
PREFILL_TOKENS = {"cpu": 2048}
"""Prompt tokens, with padding, in one forward, by device. On processors, small batches stay in the cache of the CPU."""
_PREFILL_TOKENS = 2**14
_ROWS = 256
_LIBRARY_ROWS = 64


@dataclass(frozen=True)
class Decoding:
    """Settings of greedy decoding."""

    end_tokens: frozenset[int]
    """Tokens that end a response."""
    repetition_penalty: float = 1.0
    """Divides the positive and multiplies the negative logits of all earlier tokens, as in transformers; 1: off."""


def greedy_tokens(
    model: LanguageModel, prompts: Sequence[tuple[int, ...]], limits: Sequence[int], decoding: Decoding
) -> list[list[int]]:
    """Return the generated tokens of each prompt, up to an end token, which is included, or up to the prompt's limit.

    The tokens are those of transformers' `generate` for one prompt. The model must be in evaluation mode. Models with
    a cache of keys and values of all tokens are decoded by this module, others by `generate`.

    Args:
        model: the model.
        prompts: token ids of each prompt, at least one.
        limits: largest number of generated tokens, (prompts,).
        decoding: end tokens and repetition penalty.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    bytes_per_token = _cache_bytes_per_token(causal_model(model))
    generated: dict[int, list[int]] = {}
    if bytes_per_token is None:
        for batch in _library_batches(by_length, limits):
            found = _library_tokens(model, [prompts[at] for at in batch], limits[batch[0]], decoding)
            generated |= zip(batch, found, strict=True)
    else:
        for batch in _batches(by_length, prompts, limits, CACHE_BYTES // bytes_per_token):
            rows = _Batch(causal_model(model), [prompts[at] for at in batch], [limits[at] for at in batch], decoding)
            generated |= zip(batch, rows.decode(), strict=True)
    return [generated[at] for at in range(len(prompts))]


def _cache_bytes_per_token(model: PreTrainedModel) -> int | None:
    """Return the size of one token's keys and values; None if the cache of the model has anything else."""
    prepares = getattr(type(model), "prepare_inputs_for_generation", None)
    if prepares is not GenerationMixin.prepare_inputs_for_generation:
        return None
    cache = DynamicCache(config=model.config)
    token = torch.zeros((1, 1), dtype=torch.long, device=model.device)
    model(token, attention_mask=torch.ones_like(token), past_key_values=cache, use_cache=True)
    sizes = [_bytes(layer) for layer in cache.layers if type(layer) is DynamicLayer]
    return sum(sizes) if sizes and all(sizes) and len(sizes) == len(cache.layers) else None


def _bytes(layer: DynamicLayer) -> int:
    return layer.keys.nbytes + layer.values.nbytes if layer.get_seq_length() == 1 else 0


def _batches(
    order: Sequence[int], prompts: Sequence[tuple[int, ...]], limits: Sequence[int], tokens: int
) -> Iterator[list[int]]:
    """Yield batches of prompts, each with at most `tokens` tokens in the cache, padding and responses included."""
    batch: list[int] = []
    room = 0
    for at in order:
        room = max(room, limits[at])
        if batch and (len(batch) == _ROWS or (len(prompts[at]) + room) * (len(batch) + 1) > tokens):
            yield batch
            batch, room = [], limits[at]
        batch.append(at)
    if batch:
        yield batch


class _Batch:
    """Prompts that are decoded together. Row i of every tensor is one unfinished prompt; rows are left-padded.

    The tensors have room for all tokens, and the views of them that the model sees have the rows and columns in use.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[tuple[int, ...]],
        limits: Sequence[int],
        decoding: Decoding,
    ) -> None:
        self._model, self._limits, self._decoding = model, limits, decoding
        self._accepted = signature(model.forward).parameters
        self._end = max(len(prompt) for prompt in prompts)
        self._rows = list(range(len(prompts)))  # the prompt of each row
        self._starts = [self._end - len(prompt) for prompt in prompts]  # first column of each row
        capacity = self._end + max(limits)
        self._ids = torch.zeros((len(prompts), capacity), dtype=torch.long)
        self._mask = torch.ones((len(prompts), capacity), dtype=torch.long)
        for row, (prompt, start) in enumerate(zip(prompts, self._starts, strict=True)):
            # Padding repeats the first token, so that the repetition penalty does not reach another token.
            self._ids[row, :start], self._mask[row, :start] = prompt[0], 0
            self._ids[row, start : self._end] = torch.tensor(prompt)
        self._ids, self._mask = self._ids.to(model.device), self._mask.to(model.device)
        self._cache = DynamicCache(config=model.config)
        self._generated: list[list[int]] = [[] for _ in prompts]

    def decode(self) -> list[list[int]]:
        """Return the generated tokens of each prompt."""
        tokens = self._prefill()
        while self._keep(tokens):
            tokens = self._step()
        return self._generated

    def _prefill(self) -> Tensor:
        """Compute the cache of all prompts, in parts of similar length, and return each row's first token: (rows,)."""
        device = self._model.device.type
        parts: list[tuple[slice, DynamicCache]] = []
        tokens: list[Tensor] = []
        for rows in _parts(self._starts, self._end, PREFILL_TOKENS.get(device, _PREFILL_TOKENS)):
            cache = DynamicCache(config=self._model.config)
            tokens.append(self._next(rows, min(self._starts[rows]), cache))
            parts.append((rows, cache))
        layers = [
            _Layer([(rows, cache.layers[at]) for rows, cache in parts], len(self._rows), self._ids.shape[1], self._end)
            for at in range(len(parts[0][1].layers))
        ]
        self._cache.layers = layers
        return torch.cat(tokens)

    def _step(self) -> Tensor:
        """Return the next token of each row: (rows,)."""
        start = min(self._starts)
        for layer in self._cache.layers:
            layer.show(len(self._rows), start, self._end - 1)
        return self._next(slice(0, len(self._rows)), start, self._cache)

    def _next(self, rows: slice, start: int, cache: DynamicCache) -> Tensor:
        """Extend a cache by the columns from `start` that it lacks, and return the next token of each row."""
        mask = self._mask[rows, start : self._end]
        known = cache.get_seq_length()
        inputs: dict[str, Any] = {}
        if "position_ids" in self._accepted:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, known:]
        if "logits_to_keep" in self._accepted:
            inputs["logits_to_keep"] = 1
        ids = self._ids[rows, start : self._end]
        logits = self._model(
            input_ids=ids[:, known:], attention_mask=mask, past_key_values=cache, use_cache=True, **inputs
        ).logits[:, -1].float()
        return _penalized(logits, ids, self._decoding.repetition_penalty).argmax(dim=1)

    def _keep(self, tokens: Tensor) -> bool:
        """Append the tokens, remove the rows that are finished, and return whether rows are left."""
        finished = []
        for row, token in enumerate(tokens.tolist()):
            generated = self._generated[self._rows[row]]
            generated.append(token)
            if token in self._decoding.end_tokens or len(generated) == self._limits[self._rows[row]]:
                finished.append(row)
        if len(finished) == len(self._rows):
            return False
        self._ids[: len(self._rows), self._end] = tokens
        self._end += 1
        self._remove(finished)
        return True

    def _remove(self, finished: Sequence[int]) -> None:
        """Move the last rows to the places of finished ones."""
        left = len(self._rows) - len(finished)
        last = [row for row in range(left, len(self._rows)) if row not in finished]
        free = [row for row in finished if row < left]
        if free:
            source, target = (torch.tensor(rows, device=self._ids.device) for rows in (last, free))
            for tensor in (self._ids, self._mask, *(each for layer in self._cache.layers for each in layer.stored)):
                tensor[target] = tensor[source]
        for source_row, target_row in zip(last, free, strict=True):
            self._rows[target_row], self._starts[target_row] = self._rows[source_row], self._starts[source_row]
        del self._rows[left:], self._starts[left:]


class _Layer(DynamicLayer):
    """A layer of the cache with room for all rows and columns, so that a step copies no earlier token."""

    def __init__(self, parts: Sequence[tuple[slice, DynamicLayer]], rows: int, columns: int, end: int) -> None:
        super().__init__()
        first = parts[0][1]
        self.dtype, self.device, self.is_initialized = first.dtype, first.device, True
        self.stored = tuple(
            each.new_zeros((rows, each.shape[1], columns, each.shape[3])) for each in (first.keys, first.values)
        )
        for places, layer in parts:
            for stored, known in zip(self.stored, (layer.keys, layer.values), strict=True):
                stored[places, :, end - known.shape[2] : end] = known
            layer.reset()

    def show(self, rows: int, start: int, end: int) -> None:
        """Show the first `rows` rows and the columns from `start` to `end` to the model."""
        self._rows, self._start, self._end = rows, start, end
        self.keys, self.values = (stored[:rows, :, start:end] for stored in self.stored)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store the keys and values of the next column."""
        for stored, new in zip(self.stored, (key_states, value_states), strict=True):
            stored[: self._rows, :, self._end : self._end + new.shape[2]] = new
        self.show(self._rows, self._start, self._end + key_states.shape[2])
        return self.keys, self.values


def _parts(starts: Sequence[int], end: int, tokens: int) -> Iterator[slice]:
    """Yield slices of rows, by length, of at most `tokens` tokens with padding each."""
    first = 0
    for row in range(1, len(starts) + 1):
        if row == len(starts) or (row + 1 - first) * (end - min(starts[first : row + 1])) > tokens:
            yield slice(first, row)
            first = row


def _penalized(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Apply the repetition penalty in place: (rows, vocab). Source: transformers' RepetitionPenaltyLogitsProcessor."""
    if penalty != 1:
        known = logits.gather(1, ids)
        logits.scatter_(1, ids, torch.where(known < 0, known * penalty, known / penalty))
    return logits


def _library_batches(order: Sequence[int], limits: Sequence[int]) -> Iterator[list[int]]:
    """Yield batches of prompts with the same limit, by length."""
    # the limit never increases with the prompt length, so prompts with equal limits are adjacent
    for _, group in groupby(order, key=limits.__getitem__):
        batch = list(group)
        for start in range(0, len(batch), _LIBRARY_ROWS):
            yield batch[start : start + _LIBRARY_ROWS]


def _library_tokens(
    model: LanguageModel, prompts: Sequence[tuple[int, ...]], limit: int, decoding: Decoding
) -> list[list[int]]:
    """Return the tokens that transformers' `generate` returns, without padding."""
    end_tokens = sorted(decoding.end_tokens)
    settings = GenerationConfig(
        max_new_tokens=limit,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=end_tokens or None,
        pad_token_id=end_tokens[0] if end_tokens else None,
    )
    width = max(len(prompt) for prompt in prompts)
    rows: list[list[int]] = generate(model, prompts, settings)[:, width:].tolist()
    return [_until_end(row, decoding.end_tokens) for row in rows]


def _until_end(tokens: list[int], end_tokens: frozenset[int]) -> list[int]:
    end = next((at + 1 for at, token in enumerate(tokens) if token in end_tokens), None)
    return tokens[:end]


def generate(model: LanguageModel, prompts: Sequence[tuple[int, ...]], settings: GenerationConfig) -> Any:
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


def _left_padded(prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Return input ids and attention mask, (prompts, longest prompt) each.

    A prompt is padded with its own first token. Some releases of transformers apply the repetition penalty to padding
    as well, so padding with the end token would penalize the end of the response.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = [prompt[:1] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)
