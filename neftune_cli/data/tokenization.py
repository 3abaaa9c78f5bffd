"""Tokenize examples: render the chat template, tokenize, mark the tokens with loss, and cut to the maximum length."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import Example, Message, TokenizedExample, TokenizedExamples
from neftune_cli.data.rendering import ChatRenderer, Rendered, Span
from neftune_cli.data.rows import SHOWN_PROBLEMS, RowError
from neftune_cli.errors import Problem, UsageError

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


class _Tokenization:
    """One pass over examples with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", inputs: InputSpec, vocabulary: int | None) -> None:
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._vocabulary = vocabulary
        self._found = _Notes()
        self._special = _special_tokens(tokenizer)

    def tokenized(self, examples: Sequence[Example]) -> list[TokenizedExample]:
        """Return the tokenized examples, without those that cannot be rendered if bad rows are skipped."""
        all_turns = self._inputs.loss == "all-assistant"
        self._renderer = (
            ChatRenderer(self._tokenizer, all_turns=all_turns, time=self._inputs.template_time)
            if any(example.prompt for example in examples)
            else None
        )
        results, problems = [], []
        for example in examples:
            try:
                results.append(self._checked(self._one(example)))
            except RowError as error:
                problems.append(Problem(f"{_named(example)}: {error.what}", error.fix))
        self._report(problems, len(examples))
        return results

    def notes(self) -> Iterator[str]:
        """Yield notes on special tokens, end tokens and reasoning, one sentence each."""
        found = self._found
        if found.special:
            shown = ", ".join(f"'{token}'" for token in sorted(found.special_tokens)[:3])
            what = (
                f"{found.special:,} conversations contain special tokens ({shown}) in the text of a turn. They become"
            )
            fix = "Use --raw for texts that are rendered already, or --allow-special-tokens."
            yield f"{what} ordinary text. {fix}"
        if found.ended:
            yield f"Removed '{self._tokenizer.eos_token}' from the end of {found.ended:,} completions; the template adds it."
        if found.opened:
            what = f"The template's generation prompt opens '{found.opening}', but {found.opened:,} completions have no"
            yield f"{what} reasoning. They are learned, and responses generated, without '{found.opening}'."

    def _one(self, example: Example) -> TokenizedExample:
        if not example.prompt:
            return self._raw(example)
        assert self._renderer is not None
        example = self._without_end_token(example)
        rendered = self._renderer.render(example)
        if rendered.opened:
            self._found.opened += 1
            self._found.opening = rendered.opened
        return self._conversation(example, rendered)

    def _raw(self, example: Example) -> TokenizedExample:
        # Special tokens as in pretraining: models pretrained with a begin-of-sequence token expect it here.
        whole = self._with_bos(example.raw_prompt + example.completion)
        if not example.raw_prompt:
            return TokenizedExample(example, self._closed(whole), prompt_length=0)
        prompt = self._with_bos(example.raw_prompt)
        if whole[: len(prompt)] != prompt:  # a token would span the border
            whole = [*prompt, *self._encode(example.completion)[0]]
        return TokenizedExample(example, self._closed(whole), len(prompt))

    def _with_bos(self, text: str) -> list[int]:
        bos = self._tokenizer.bos_token
        has_bos = bool(bos) and text.startswith(str(bos))
        token_ids: list[int] = self._tokenizer(text, add_special_tokens=not has_bos, verbose=False)["input_ids"]
        eos = self._tokenizer.eos_token_id
        return (
            token_ids[:-1]
            if token_ids[-1:] == [eos] and not text.endswith(str(self._tokenizer.eos_token))
            else token_ids
        )

    def _conversation(self, example: Example, rendered: Rendered) -> TokenizedExample:
        text, border = rendered.prompt + rendered.completion, len(rendered.prompt)
        ordinary = self._ordinary(text, rendered.contents)
        prompt, offsets = self._encode(rendered.prompt, _within(ordinary, 0, border))
        whole, _ = self._encode(text, ordinary)
        if whole[: len(prompt)] != prompt:  # a token would span the border
            whole = [*prompt, *self._encode(rendered.completion, _within(ordinary, border, len(text)))[0]]
        earlier = tuple(self._tokens_of(span, offsets) for span in rendered.earlier)
        return TokenizedExample(example, self._closed(whole), len(prompt), earlier)

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

    def _tokens_of(self, span: Span, offsets: Sequence[Span]) -> Span:
        if not self._tokenizer.is_fast:
            raise RowError("--loss all-assistant requires a fast tokenizer.", "Use --loss last.")
        first = bisect_right([end for _, end in offsets], span[0])
        return first, bisect_left([start for start, _ in offsets], span[1])

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
        final = example.final_turn and Message(**{**example.final_turn, "content": completion})  # type: ignore[typeddict-item]
        return replace(example, completion=completion, final_turn=final)

    def _checked(self, tokenized: TokenizedExample) -> TokenizedExample:
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        if bos is not None and bos != eos and tokenized.example.prompt and tokenized.input_ids.count(bos) > 1:
            what = f"the chat template writes {tokenized.input_ids.count(bos)} begin-of-sequence tokens."
            raise RowError(what, "Remove all but one from chat_template.jinja.")
        highest = max(tokenized.input_ids)
        if self._vocabulary is not None and highest >= self._vocabulary:
            token = self._tokenizer.convert_ids_to_tokens(highest)
            what = f"token {highest} ('{token}') has no embedding: the model has {self._vocabulary} embeddings."
            raise RowError(what, "Use the tokenizer that the model was trained with.")
        return tokenized

    def _report(self, problems: Sequence[Problem], total: int) -> None:
        if not problems or (self._inputs.skip_bad_rows and len(problems) <= self._inputs.max_bad_share * total):
            return
        left = len(problems) - SHOWN_PROBLEMS
        more = (
            [Problem(f"{left:,} more of {total:,} examples cannot be used.", "Fix or remove them.")] if left > 0 else []
        )
        raise UsageError(*problems[:SHOWN_PROBLEMS], *more)


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
