"""Token ids of texts in which special tokens of the data are ordinary text."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import Span

if TYPE_CHECKING:
    from transformers import AddedToken, PreTrainedTokenizerBase


_FIRST_PRIVATE = 0xF0000
"""First code point of a range that Unicode leaves to programs, so that texts hardly use it."""


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str] | None:
    """Return a pattern of the special tokens, the longest first; None if there are none."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    tokens = sorted({*added, *map(str, tokenizer.all_special_tokens)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def within(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return the places that lie in a part of a text, relative to its start."""
    return [(first - start, last - start) for first, last in spans if start <= first and last <= end]


class _WholeTexts:
    """Encodes a text as a whole, in which special tokens of the data are ordinary text and those of a template are not.

    A copy of the tokenizer reads all special tokens as ordinary text. Those of the template are replaced by others of
    the same length, so that the places of tokens stay the same.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        special = {index: token for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._pattern = special_tokens(tokenizer)
        self._replacements = {
            str(token): chr(_FIRST_PRIVATE + number) * len(str(token)) for number, token in enumerate(special.values())
        }
        self._tokenizer = deepcopy(tokenizer)
        self._tokenizer.add_tokens([_renamed(token, self._replacements[str(token)]) for token in special.values()])
        vocabulary = self._tokenizer.get_vocab()
        self._ids = {vocabulary[self._replacements[str(token)]]: index for index, token in special.items()}

    def can_encode(self, text: str) -> bool:
        """Return whether no replacement occurs in a text."""
        return not any(replacement in text for replacement in self._replacements.values())

    def encoded(self, text: str, ordinary: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """Return the token ids of a text, and the place of each token in it."""
        segments = _segments(text, ordinary)
        replaced = "".join(segment if is_ordinary else self._replaced(segment) for _, segment, is_ordinary in segments)
        encoded = self._tokenizer(
            replaced, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
        )
        return [self._ids.get(index, index) for index in encoded["input_ids"]], encoded["offset_mapping"]

    def _replaced(self, segment: str) -> str:
        assert self._pattern is not None
        return self._pattern.sub(lambda found: self._replacements.get(found.group(), found.group()), segment)


def _renamed(token: "AddedToken", name: str) -> "AddedToken":
    """Return an added token with another text that is found in the same places and is not special."""
    from transformers import AddedToken

    flags = {flag: getattr(token, flag) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(name, **flags, special=False)


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

    @cached_property
    def _whole_texts(self) -> _WholeTexts | None:
        """Encoder for tokenizers that add a space to the start of every text, as SentencePiece does; None for others.

        They would add one before and after each special token that is ordinary text.
        """
        tokenizer = self._tokenizer
        return _WholeTexts(tokenizer) if tokenizer.is_fast and "".join(tokenizer.tokenize("a")) != "a" else None

    def _encode(self, text: str, ordinary: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """Return the token ids of a text, and the place of each token in it (none with a slow tokenizer)."""
        if ordinary and self._whole_texts and self._whole_texts.can_encode(text):
            return self._whole_texts.encoded(text, ordinary)
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
