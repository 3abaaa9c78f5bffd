"""Greedy decoding of prompts of similar length, with a preallocated cache from which finished rows are removed."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from neftune_cli.errors import TrialError
from neftune_cli.evaluation.batches import CACHE_BYTES, MOST_PROMPTS, batches_by_length, tokens_at_once
from neftune_cli.models.language_model import LanguageModel, cache_argument, causal_model, evaluation_mode

_PROMPTS_OF_LIBRARY = 64
"""Largest number of prompts that transformers' `generate` decodes together: it pads all of them to the longest."""


@dataclass(frozen=True)
class Decoding:
    """Settings of greedy decoding."""

    end_tokens: frozenset[int] = frozenset()
    """Tokens that end a response."""
    repetition_penalty: float = 1.0
    """Divides the positive and multiplies the negative logits of all earlier tokens, as in transformers; 1: off."""
    preallocated: bool = True
    """False: decode with transformers' `generate`."""


@dataclass(frozen=True)
class ComputedPrompts:
    """The result of the pass of some prompts through a model."""

    rows: Sequence[int]
    """Positions of the prompts in their batch."""
    cache: DynamicCache
    """Keys and values of the prompts, which end in the same column."""
    logits: Tensor  # (rows, vocab), after the last token of each prompt


ComputePrompts = Callable[[Sequence[int]], Iterable[ComputedPrompts]]
"""Compute the prompts with these indices, which are decoded together, in parts. Each prompt is in one part."""


def greedy_tokens(
    model: LanguageModel,
    prompts: Sequence[tuple[int, ...]],
    limits: Sequence[int],
    decoding: Decoding,
    *,
    compute_prompts: ComputePrompts | None = None,
) -> list[list[int]]:
    """Return the generated tokens of each prompt, up to and including its first end token, or up to its limit.

    The tokens are those of transformers' `generate` for one prompt. `generate` itself decodes if
    `decoding.preallocated` is False, and for models whose cache is not the keys and values of all tokens, such as
    recurrent models and models with sliding windows.

    Args:
        model: a model in evaluation mode.
        prompts: token ids of each prompt, at least one.
        limits: largest number of generated tokens of each prompt.
        decoding: settings.
        compute_prompts: compute the prompts of a batch, if the model is decoded with a preallocated cache.
    """
    generated: dict[int, list[int]] = {}
    preallocated = uses_preallocated_cache(model, wanted=decoding.preallocated)
    for batch in decoding_batches(model, [len(one) for one in prompts], limits, preallocated=preallocated):
        batch_prompts, batch_limits = [prompts[index] for index in batch], [limits[index] for index in batch]
        if preallocated:
            together = _PromptBatch(causal_model(model), batch_prompts, batch_limits, decoding)
            tokens = together.decode(compute_prompts(batch) if compute_prompts else together.compute_prompts())
        else:
            tokens = _library_tokens(model, batch_prompts, batch_limits[0], decoding)
        generated |= zip(batch, tokens, strict=True)
    return [generated[index] for index in range(len(prompts))]


def decoding_batches(
    model: LanguageModel,
    lengths: Sequence[int],
    limits: Sequence[int],
    *,
    preallocated: bool,
) -> Iterator[list[int]]:
    """Yield the indices of prompts of similar length that are decoded together.

    Args:
        model: the model.
        lengths: tokens of each prompt.
        limits: largest number of generated tokens of each prompt.
        preallocated: whether the cache is preallocated. It is then limited to CACHE_BYTES, except for a single prompt.
            If false, prompts with different limits are decoded apart.
    """
    most_tokens = most_cached_tokens(model) if preallocated else math.inf
    most_rows = MOST_PROMPTS if preallocated else _PROMPTS_OF_LIBRARY
    batch: list[int] = []
    limit = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        tokens = (lengths[index] + max(limit, limits[index])) * (len(batch) + 1)
        mixed = not preallocated and limits[index] != limit
        if batch and (len(batch) == most_rows or tokens > most_tokens or mixed):
            yield batch
            batch, limit = [], 0
        batch.append(index)
        limit = max(limit, limits[index])
    if batch:
        yield batch


def uses_preallocated_cache(model: LanguageModel, *, wanted: bool) -> bool:
    """Return whether responses are decoded with a preallocated cache: if wanted, and if the model allows it."""
    return wanted and _has_plain_cache(causal_model(model))


def _has_plain_cache(model: PreTrainedModel) -> bool:
    """Return whether a model caches the keys and values of all tokens, and prepares its inputs as most models do."""
    prepares = getattr(type(model), "prepare_inputs_for_generation", None)
    if prepares is not GenerationMixin.prepare_inputs_for_generation or model.config.is_encoder_decoder:
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def most_cached_tokens(model: LanguageModel) -> int:
    """Return the number of tokens whose keys and values fit into CACHE_BYTES."""
    return CACHE_BYTES // _cache_bytes_per_token(causal_model(model))


def _cache_bytes_per_token(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


class _PromptBatch:
    """Prompts that are decoded together.

    Each row of the tensors is an unfinished prompt with its response. The tensors have room for all tokens; the model
    gets views of the rows and columns in use. Prompts end in the same column, with padding on the left.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], limits: Sequence[int], decoding: Decoding
    ) -> None:
        self._model, self._limits, self._decoding = model, limits, decoding
        self._accepted = signature(model.forward).parameters
        self._cache_argument = cache_argument(model)
        self._rows = list(range(len(prompts)))
        """The prompt of each row."""
        self._ids, self._mask = left_padded(prompts, room=max(limits), device=model.device)
        self._end = self._ids.shape[1] - max(limits)
        """Number of columns in use."""
        self._starts = [self._end - len(prompt) for prompt in prompts]
        """First column of each row without padding."""
        self._cache = DynamicCache(config=model.config)
        self._generated: list[list[int]] = [[] for _ in prompts]

    def decode(self, computed: Iterable[ComputedPrompts]) -> list[list[int]]:
        """Return the generated tokens of each prompt, from the computed prompts in their parts."""
        tokens = self._first_tokens(computed)
        while self._append(tokens):
            tokens = self._next_tokens()
        return self._generated

    def compute_prompts(self) -> Iterator[ComputedPrompts]:
        """Compute the prompts in parts of similar length."""
        lengths = self._lengths
        for part in batches_by_length(lengths, tokens_at_once(self._model.device.type)):
            rows, cache = torch.tensor(part, device=self._ids.device), DynamicCache(config=self._model.config)
            yield ComputedPrompts(part, cache, self._logits_after(rows, self._end - lengths[part[0]], cache))

    @property
    def _lengths(self) -> list[int]:
        return [self._end - start for start in self._starts]

    def _first_tokens(self, computed: Iterable[ComputedPrompts]) -> Tensor:
        """Fill the cache with the prompts, and return the first token of each: (rows,)."""
        parts: list[tuple[Tensor, DynamicCache]] = []
        first_tokens, lengths = self._ids[:, 0].clone(), self._lengths
        for part in computed:
            rows = torch.tensor(part.rows, device=self._ids.device)
            first_tokens[rows] = self._best_tokens(part.logits, self._ids[rows, : self._end])
            _require_full_cache(part.cache, max(lengths[row] for row in part.rows), self._model)
            parts.append((rows, part.cache))
        columns = self._ids.shape[1]
        self._layers = [
            _PreallocatedLayer([(rows, cache.layers[at]) for rows, cache in parts], len(lengths), columns, self._end)
            for at in range(len(self._cache.layers))
        ]
        self._cache.layers[:] = self._layers
        return first_tokens

    def _next_tokens(self) -> Tensor:
        """Return the next token of each row: (rows,)."""
        start = min(self._starts)
        for layer in self._layers:
            layer.show(len(self._rows), start, self._end - 1)
        rows = slice(0, len(self._rows))
        logits = self._logits_after(rows, start, self._cache)
        return self._best_tokens(logits, self._ids[rows, start : self._end])

    def _best_tokens(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Return the token of the largest logit of each row, with the penalty for its tokens: (rows,)."""
        return _penalized(logits.float(), ids, self._decoding.repetition_penalty).argmax(dim=1)

    def _logits_after(self, rows: Tensor | slice, start: int, cache: DynamicCache) -> Tensor:
        """Add the columns from `start` that a cache lacks to it, and return the logits after them: (rows, vocab)."""
        ids, mask = self._ids[rows, start : self._end], self._mask[rows, start : self._end]
        cached = cache.get_seq_length()
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, cached:]
        optional = {"position_ids": positions, "logits_to_keep": 1}
        logits: Tensor = self._model(
            input_ids=ids[:, cached:],
            attention_mask=mask,
            use_cache=True,
            **{self._cache_argument: cache},
            **{name: value for name, value in optional.items() if name in self._accepted},
        ).logits[:, -1]
        return logits

    def _append(self, tokens: Tensor) -> bool:
        """Append a token to each row, remove the finished rows, and return whether rows are left."""
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
        """Remove rows; the last rows take the places of the removed ones, so that no other row is copied."""
        left = len(self._rows) - len(finished)
        free = [row for row in finished if row < left]
        last = sorted(set(range(left, len(self._rows))) - set(finished))
        if free:
            target, source = (torch.tensor(rows, device=self._ids.device) for rows in (free, last))
            for tensor in (self._ids, self._mask, *(one for layer in self._layers for one in layer.stored)):
                tensor[target] = tensor[source]
        for to, row in zip(free, last, strict=True):
            self._rows[to], self._starts[to] = self._rows[row], self._starts[row]
        del self._rows[left:], self._starts[left:]


class _PreallocatedLayer(DynamicLayer):
    """A layer of the cache with room for all rows and columns, so that a step copies no earlier token."""

    def __init__(self, parts: Sequence[tuple[Tensor, Any]], rows: int, columns: int, end: int) -> None:
        """Copy the layer of each part's cache to its rows and to the columns before `end`, and free it.

        Args:
            parts: rows of a part, (rows,), and its layer of the cache.
            rows: number of all rows.
            columns: number of columns, with room for the responses.
            end: column after the prompts.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        first = parts[0][1]
        self.dtype, self.device, self.is_initialized = first.keys.dtype, first.keys.device, True
        self.stored = tuple(
            each.new_zeros((rows, each.shape[1], columns, each.shape[3])) for each in (first.keys, first.values)
        )
        for part, layer in parts:
            for stored, known in zip(self.stored, (layer.keys, layer.values), strict=True):
                stored[part, :, end - known.shape[2] : end] = known
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
        return cast(Tensor, self.keys), cast(Tensor, self.values)


def _require_full_cache(cache: DynamicCache, length: int, model: PreTrainedModel) -> None:
    if any(cache.get_seq_length(at) != length for at in range(len(cache.layers))):
        raise TrialError(
            f"{type(model).__name__} does not cache the keys and values of all tokens. Use --decoding transformers."
        )


def _penalized(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Apply the repetition penalty in place: (rows, vocab). Source: transformers' RepetitionPenaltyLogitsProcessor."""
    if penalty != 1:
        known = logits.gather(1, ids)
        logits.scatter_(1, ids, torch.where(known < 0, known * penalty, known / penalty))
    return logits


def _library_tokens(
    model: LanguageModel, prompts: Sequence[tuple[int, ...]], limit: int, decoding: Decoding
) -> list[list[int]]:
    """Return the tokens that `generate` returns, each row up to and including its first end token."""
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
    rows: list[list[int]] = library_output(model, prompts, settings)[:, width:].tolist()
    ends = (next((at + 1 for at, token in enumerate(row) if token in decoding.end_tokens), None) for row in rows)
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


def library_output(model: LanguageModel, prompts: Sequence[tuple[int, ...]], settings: GenerationConfig) -> Any:
    """Return what transformers' `generate` returns for left-padded prompts."""
    generator: Any = causal_model(model)
    input_ids, attention_mask = left_padded(prompts, device=generator.device)
    previous_settings = generator.generation_config
    # settings that are passed as an argument are merged with the model's own
    generator.generation_config = settings
    try:
        return generator.generate(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        generator.generation_config = previous_settings


def left_padded(prompts: Sequence[tuple[int, ...]], *, device: torch.device, room: int = 0) -> tuple[Tensor, Tensor]:
    """Return input ids and attention mask: (prompts, longest prompt + room) each, with the room on the right.

    A prompt is padded with its own first token. Some releases of transformers apply the repetition penalty to padding
    as well, so padding with the end token would penalize the end of the response.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = [(*prompt[:1] * (width - len(prompt)), *prompt, *[0] * room) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * (len(prompt) + room) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def effect_of_padding(model: LanguageModel) -> float:
    """Return how much the logits after a prompt change when the prompt is padded to the length of a longer one.

    The value is the largest change divided by the largest logit, for the first two tokens of the response; NaN if a
    logit is not finite. Some recurrent architectures ignore the attention mask, so that padding changes their
    responses. Others ignore it after the first token, which is read with a cache.
    """
    settings = GenerationConfig(
        max_new_tokens=2,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=0,
        sequence_bias=[[[4], 1e6]],  # both responses begin with this token; `output_logits` are those before the bias
    )
    short, long = (3, 2, 1), (0, 1, 2, 3, 4, 5)
    with evaluation_mode(model):
        alone, padded = (
            torch.stack([step[0] for step in library_output(model, prompts, settings).logits])
            for prompts in ([short], [short, long])
        )
    return float((alone - padded).abs().max() / alone.abs().max())
