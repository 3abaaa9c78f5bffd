"""Tokenize examples: render the chat template, tokenize, mark the tokens with loss, and cut to the maximum length."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import Example, Message, TokenizedExample, TokenizedExamples
from neftune_cli.data.rendering import ChatRenderer, Span
from neftune_cli.data.rows import BadRow, RowError, in_order, problems_of
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_CHARACTERS = 60


@dataclass
class _Notes:
    """Numbers of examples with a property that a user must know about."""

    special: int = 0
    special_tokens: set[str] = field(default_factory=set)
    ended: int = 0
    opened: int = 0
    opening: str = ""


def tokenize(
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    inputs: InputSpec | None = None,
    vocabulary: int | None = None,
) -> TokenizedExamples:
    """Tokenize examples for training and scoring.

    Generation starts from the same prompt tokens. The last token is `tokenizer.eos_token` unless the completion was
    truncated. A plain text has no prompt tokens and ends with the same token. Special tokens in the text of a turn
    become ordinary tokens unless `inputs.allow_special_tokens`; in raw and plain texts they are special tokens.

    Args:
        examples: conversations, raw and plain texts, mixed in any order.
        tokenizer: a tokenizer with a chat template and an end-of-sequence token.
        max_length: maximum length of an example, in tokens. A longer completion is truncated. An example whose prompt
            leaves no room for the completion is dropped.
        inputs: turns with loss, clock of the template, and treatment of special tokens and of bad rows.
        vocabulary: number of embeddings of the model, if known.

    Raises:
        UsageError: the chat template rejects, drops, repeats or reorders a part of a conversation, or an example has
            two begin-of-sequence tokens or a token without embedding.
    """
    run = _Tokenization(tokenizer, inputs or InputSpec(), vocabulary)
    tokenized = run.tokenized(examples)
    kept = [example for example in tokenized if example.prompt_length < max_length]
    return TokenizedExamples(
        examples=tuple(_cut(example, max_length) for example in kept),
        dropped=len(tokenized) - len(kept),
        truncated=sum(len(example.input_ids) > max_length for example in kept),
        shortest_dropped=min((len(one.input_ids) for one in tokenized if one.prompt_length >= max_length), default=0),
        refused=len(examples) - len(tokenized),
        notes=tuple(run.notes()),
    )


def require_examples(tokenized: TokenizedExamples, split: str, max_length: int) -> None:
    """Check that examples of a split (`training`, `held-out`) are left.

    Raises:
        UsageError: the maximum length dropped all examples.
    """
    if not tokenized.examples:
        dropped = f"All {tokenized.dropped} {split} examples were dropped"
        what = f"{dropped}: the prompt alone fills --max-length {max_length}."
        fix = f"Use --max-length {tokenized.shortest_dropped} or more, or shorten the prompts."
        raise UsageError(Problem(what, fix))


def length_notes(tokenized: TokenizedExamples, split: str, max_length: int) -> tuple[str, ...]:
    """Return notes on the examples of a split that were dropped, truncated or changed, if there are any."""
    total = len(tokenized.examples) + tokenized.dropped + tokenized.refused
    counts = {
        f"dropped: the prompt alone fills --max-length {max_length}": tokenized.dropped,
        f"truncated: the completion was cut at --max-length {max_length}": tokenized.truncated,
        "dropped: the chat template cannot render them (--skip-bad-rows)": tokenized.refused,
    }
    lengths = (f"{number:,} of {total:,} {split} examples {effect}." for effect, number in counts.items() if number)
    return (*lengths, *(f"{note} ({split} examples)" for note in tokenized.notes))


@dataclass(frozen=True)
class _ExampleText:
    """The text of an example, divided where the completion starts."""

    example: Example
    prompt: str
    completion: str
    earlier: tuple[Span, ...] = ()
    """Parts of the prompt with loss."""
    ordinary: tuple[Span, ...] = ()
    """Special tokens that are tokenized as ordinary text."""
    adds_bos: bool = False
    """Whether the tokenizer adds its begin-of-sequence token."""


class _Tokenization:
    """One pass over examples with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", inputs: InputSpec, vocabulary: int | None) -> None:
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._vocabulary = vocabulary
        self._found = _Notes()
        self._special = _special_tokens(tokenizer)
        self._encoded: dict[tuple[str, bool], list[int]] = {}

    @cached_property
    def _renderer(self) -> ChatRenderer:
        all_turns = self._inputs.loss == "all-assistant"
        return ChatRenderer(self._tokenizer, all_turns=all_turns, time=self._inputs.template_time)

    def tokenized(self, examples: Sequence[Example]) -> list[TokenizedExample]:
        """Return the tokenized examples, without those that cannot be rendered if bad rows are skipped."""
        texts, bad_rows = [], []
        for example in examples:
            try:
                texts.append(self._text_of(example))
            except RowError as error:
                bad_rows.append(BadRow(_named(example), error.what, error.fix, error.cause))
        self._encode_all(texts)
        results = []
        for text in texts:
            try:
                results.append(self._checked(self._tokens(text)))
            except RowError as error:
                bad_rows.append(BadRow(_named(text.example), error.what, error.fix, error.cause))
        self._report(bad_rows, len(examples))
        return results

    def notes(self) -> Iterator[str]:
        """Yield notes on special tokens, end tokens and reasoning, one sentence each."""
        found = self._found
        if found.special:
            shown = ", ".join(f"'{token}'" for token in sorted(found.special_tokens)[:3])
            where = f"the text of {counted(found.special, 'conversation')}"
            yield (
                f"Special tokens ({shown}) in {where} become ordinary text. "
                "Use --raw for texts that are rendered already, or --allow-special-tokens."
            )
        if found.ended:
            eos = self._tokenizer.eos_token
            yield f"Removed '{eos}' from the end of {counted(found.ended, 'completion')}: the chat template adds it."
        if found.opened:
            yield (
                f"The chat template's generation prompt opens '{found.opening}', and the reasoning is missing in "
                f"{counted(found.opened, 'completion')}. Training and generation leave out '{found.opening}' there."
            )

    def _text_of(self, example: Example) -> _ExampleText:
        if not example.prompt:
            # Special tokens as in pretraining: models pretrained with a begin-of-sequence token expect it here.
            bos = self._tokenizer.bos_token
            first = example.raw_prompt + example.completion
            return _ExampleText(
                example, example.raw_prompt, example.completion, adds_bos=not (bos and first.startswith(str(bos)))
            )
        example = self._without_end_token(example)
        rendered = self._renderer.render(example)
        if rendered.opened:
            self._found.opened += 1
            self._found.opening = rendered.opened
        ordinary = self._ordinary(rendered.prompt + rendered.completion, rendered.contents)
        return _ExampleText(example, rendered.prompt, rendered.completion, rendered.earlier, tuple(ordinary))

    def _encode_all(self, texts: Sequence[_ExampleText]) -> None:
        """Encode the texts without exceptions in one call, which is several times faster than one call each."""
        for adds_bos in (False, True):
            wanted = (text for text in texts if text.adds_bos == adds_bos and not text.ordinary)
            both = (one for text in wanted for one in (text.prompt, text.prompt + text.completion))
            if unique := list(dict.fromkeys(both)):
                encoded = self._tokenizer(
                    unique, add_special_tokens=adds_bos, return_attention_mask=False, verbose=False
                )
                self._encoded.update(zip(((one, adds_bos) for one in unique), encoded["input_ids"], strict=True))

    def _tokens(self, text: _ExampleText) -> TokenizedExample:
        border, whole = len(text.prompt), text.prompt + text.completion
        prompt = (
            self._ids(text.prompt, _within(text.ordinary, 0, border), adds_bos=text.adds_bos) if text.prompt else []
        )
        token_ids = self._ids(whole, text.ordinary, adds_bos=text.adds_bos)
        if token_ids[: len(prompt)] != prompt:  # a token would span the border
            token_ids = [*prompt, *self._ids(text.completion, _within(text.ordinary, border, len(whole)))]
        earlier = tuple(self._places(text, text.earlier)) if text.earlier else ()
        return TokenizedExample(text.example, self._closed(token_ids), len(prompt), earlier)

    def _ids(self, text: str, ordinary: Sequence[Span] = (), *, adds_bos: bool = False) -> list[int]:
        if (text, adds_bos) in self._encoded and not ordinary:
            return (
                self._without_added_eos(text, self._encoded[text, adds_bos])
                if adds_bos
                else self._encoded[text, adds_bos]
            )
        return self._encode(text, ordinary)[0]

    def _without_added_eos(self, text: str, token_ids: list[int]) -> list[int]:
        """Remove an end-of-sequence token that the tokenizer adds to every text, even to a prompt."""
        eos = self._tokenizer
        is_added = token_ids[-1:] == [eos.eos_token_id] and not text.endswith(str(eos.eos_token))
        return token_ids[:-1] if is_added else token_ids

    def _ordinary(self, text: str, contents: Iterable[Span]) -> list[Span]:
        """Return the special tokens in the text of turns, which are tokenized as ordinary text."""
        if self._inputs.allow_special_tokens or self._special is None:
            return []
        pattern = self._special
        found = [
            (start + match.start(), start + match.end())
            for start, end in contents
            for match in pattern.finditer(text[start:end])
        ]
        if found:
            self._found.special += 1
            self._found.special_tokens.update(text[start:end] for start, end in found)
        return found

    def _encode(self, text: str, ordinary: Sequence[Span] = ()) -> tuple[list[int], list[Span]]:
        """Return the token ids of a text, and the place of each token in it (none with a slow tokenizer)."""
        token_ids: list[int] = []
        offsets: list[Span] = []
        for start, end, is_ordinary in _segments(len(text), ordinary):
            encoded = self._tokenizer(
                text[start:end],
                add_special_tokens=False,
                return_attention_mask=False,
                return_offsets_mapping=self._tokenizer.is_fast,
                split_special_tokens=is_ordinary,
                verbose=False,
            )
            token_ids += encoded["input_ids"]
            offsets += [(start + first, start + last) for first, last in encoded.get("offset_mapping", ())]
        return token_ids, offsets

    def _places(self, text: _ExampleText, spans: Sequence[Span]) -> Iterator[Span]:
        """Yield the first token of each part of the prompt, and the token after its last one."""
        if not self._tokenizer.is_fast:
            raise RowError("loss on all assistant turns requires a fast tokenizer.", "Use --loss last.")
        _, offsets = self._encode(text.prompt, _within(text.ordinary, 0, len(text.prompt)))
        starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
        for start, end in spans:
            yield bisect_right(ends, start), bisect_left(starts, end)

    def _closed(self, token_ids: list[int]) -> tuple[int, ...]:
        """Append the end-of-sequence token, unless it is there, so that the model learns to stop."""
        eos: int = self._tokenizer.eos_token_id
        return tuple(token_ids) if token_ids[-1:] == [eos] else (*token_ids, eos)

    def _without_end_token(self, example: Example) -> Example:
        """Remove the end-of-sequence token that some data sets write at the end of the completion."""
        eos = str(self._tokenizer.eos_token)
        if not example.completion.rstrip().endswith(eos) or example.completion.strip() == eos:
            return example
        self._found.ended += 1
        completion = example.completion.rstrip().removesuffix(eos)
        final: Message | None = {**example.final_turn, "content": completion} if example.final_turn else None
        return replace(example, completion=completion, final_turn=final)

    def _checked(self, tokenized: TokenizedExample) -> TokenizedExample:
        bos = self._tokenizer.bos_token_id
        if bos is not None and tokenized.example.prompt and tokenized.input_ids[:2] == (bos, bos):
            what = "the chat template writes two begin-of-sequence tokens."
            raise RowError(what, "Remove one from chat_template.jinja.")
        highest = max(tokenized.input_ids)
        if self._vocabulary is not None and highest >= self._vocabulary:
            token = self._tokenizer.convert_ids_to_tokens(highest)
            what = f"token {highest} ('{token}') has no embedding: the model has {self._vocabulary} embeddings."
            raise RowError(what, "Use the tokenizer that the model was trained with.")
        return tokenized

    def _report(self, bad_rows: Sequence[BadRow], total: int) -> None:
        """Raise UsageError for rows that cannot be used, unless few enough of them may be skipped."""
        if bad_rows and not (self._inputs.skip_bad_rows and len(bad_rows) <= self._inputs.max_bad_share * total):
            raise UsageError(*problems_of(sorted(bad_rows, key=lambda row: in_order(row.place))))


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str] | None:
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    tokens = sorted({*added, *map(str, tokenizer.all_special_tokens)}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def _segments(length: int, ordinary: Sequence[Span]) -> Iterator[tuple[int, int, bool]]:
    """Yield start and end of the segments of a text, and whether special tokens in it are ordinary text."""
    position = 0
    for start, end in sorted(ordinary):
        if position < start:
            yield position, start, False
        yield start, end, True
        position = end
    if position < length or not length:
        yield position, length, False


def _within(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    return [(first - start, last - start) for first, last in spans if start <= first and last <= end]


def _named(example: Example) -> str:
    first = (example.turns[0]["content"] if example.turns else example.completion)[:SHOWN_CHARACTERS]
    return example.place or f"The conversation that starts with '{first}'"


def _cut(example: TokenizedExample, max_length: int) -> TokenizedExample:
    return replace(example, input_ids=example.input_ids[:max_length])
