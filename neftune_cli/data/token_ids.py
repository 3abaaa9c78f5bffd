"""Token ids of texts in which special tokens of the data are ordinary text."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str] | None:
    """Return a pattern of the special tokens, the longest first; None if there are none."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    tokens = sorted({*added, *map(str, tokenizer.all_special_tokens)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def within(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return the places that lie in a part of a text, relative to its start."""
    return [(first - start, last - start) for first, last in spans if start <= first and last <= end]


class TokenIds:
    """Encodes texts with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._encoded: dict[tuple[str, bool], list[int]] = {}

    def encode_all(self, texts: Iterable[str], *, adds_bos: bool) -> None:
        """Encode texts in one call, which is several times faster than one call each, and remember them."""
        if unique := [text for text in dict.fromkeys(texts) if (text, adds_bos) not in self._encoded]:
            encoded = self._tokenizer(unique, add_special_tokens=adds_bos, return_attention_mask=False, verbose=False)
            self._encoded.update(zip(((one, adds_bos) for one in unique), encoded["input_ids"], strict=True))

    def of(self, text: str, ordinary: Sequence[Span] = (), *, adds_bos: bool = False) -> list[int]:
        """Return the token ids of a text.

        Args:
            text: a text.
            ordinary: places of special tokens that are ordinary text.
            adds_bos: whether the tokenizer adds its begin-of-sequence token. The text was given to `encode_all`.
        """
        if ordinary or (text, adds_bos) not in self._encoded:
            return self._encode(text, ordinary)[0]
        token_ids = self._encoded[text, adds_bos]
        return self._without_added_eos(text, token_ids) if adds_bos else token_ids

    def places(self, text: str, ordinary: Sequence[Span], spans: Iterable[Span]) -> Iterator[Span]:
        """Yield the index of the first token of each part of a text, and the index after its last token.

        Raises:
            RowError: the tokenizer does not give the places of tokens.
        """
        if not self._tokenizer.is_fast:
            raise RowError("loss on all assistant turns requires a fast tokenizer.", "Use --loss last.")
        _, offsets = self._encode(text, ordinary)
        starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
        for start, end in spans:
            yield bisect_right(ends, start), bisect_left(starts, end)

    def _without_added_eos(self, text: str, token_ids: list[int]) -> list[int]:
        """Remove an end-of-sequence token that the tokenizer adds to every text, even to a prompt."""
        tokenizer = self._tokenizer
        is_added = token_ids[-1:] == [tokenizer.eos_token_id] and not text.endswith(str(tokenizer.eos_token))
        return token_ids[:-1] if is_added else token_ids

    def _encode(self, text: str, ordinary: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """Return the token ids of a text, and the place of each token in it (none with a slow tokenizer)."""
        segments = list(_segments(text, ordinary))
        encoded = {
            is_ordinary: self._by_text(
                [segment for _, segment, ordinary in segments if ordinary is is_ordinary], is_ordinary
            )
            for is_ordinary in (False, True)
        }
        token_ids: list[int] = []
        offsets: list[Span] = []
        for start, segment, is_ordinary in segments:
            ids, places = encoded[is_ordinary][segment]
            token_ids += ids
            offsets += [(start + first, start + last) for first, last in places]
        return token_ids, offsets

    def _by_text(self, texts: Iterable[str], is_ordinary: bool) -> dict[str, tuple[list[int], list[Span]]]:
        """Return the token ids and the places of each text, which may occur many times."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return {}
        encoded = self._tokenizer(
            unique,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=self._tokenizer.is_fast,
            split_special_tokens=is_ordinary,
            verbose=False,
        )
        places = encoded.get("offset_mapping") or [[] for _ in unique]
        return dict(zip(unique, zip(encoded["input_ids"], places, strict=True), strict=True))


def _segments(text: str, ordinary: Sequence[Span]) -> Iterator[tuple[int, str, bool]]:
    """Yield the segments of a text with their start, and whether special tokens in them are ordinary text."""
    position = 0
    for start, end in sorted(ordinary):
        if position < start:
            yield position, text[position:start], False
        yield start, text[start:end], True
        position = end
    if position < len(text) or not text:
        yield position, text[position:], False
