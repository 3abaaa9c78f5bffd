"""Tokenize examples: render the chat template, tokenize, mark the tokens with loss, and cut to the maximum length."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.bad_rows import NO_BAD_ROWS, TOO_DEEP, BadRow, BadRowCount, RowError, check_bad_rows
from neftune_cli.data.chat_template import Span
from neftune_cli.data.examples import Example, Message, TokenizedExample, TokenizedExamples
from neftune_cli.data.rendering import ChatRenderer, Rendered
from neftune_cli.data.spellings import ASSISTANT, END_OF_TURN
from neftune_cli.data.token_ids import TokenIds, special_tokens, within
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MAX_LENGTH_OPTION = "--max-length"
"""Name of the maximum length of training, which is also that of evaluation by default."""
START_CHARACTERS = 60
ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")


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
    truncated. A plain text has no prompt tokens and ends with the same token. Special tokens in the data of a
    conversation become ordinary tokens unless `inputs.allow_special_tokens`; in raw and plain texts they are special.

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
    (tokenized,) = tokenize_parts([(examples, max_length)], tokenizer, inputs=inputs, vocabulary=vocabulary)
    return tokenized


def tokenize_parts(
    parts: Sequence[tuple[Sequence[Example], int]],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    inputs: InputSpec | None,
    vocabulary: int | None,
    row_count: BadRowCount = NO_BAD_ROWS,
) -> list[TokenizedExamples]:
    """Tokenize the parts of a data set, each to its own maximum length.

    Bad rows of all parts are reported together. An example in several parts counts once.

    Args:
        parts: examples and maximum length of each part.
        tokenizer: as for `tokenize`.
        inputs: as for `tokenize`.
        vocabulary: as for `tokenize`.
        row_count: counts the rows that the examples were read from. Those that cannot be used count for
            `--max-bad-share`.

    Raises:
        UsageError: as for `tokenize`, with the rows of all parts.
    """
    run = _Tokenization(tokenizer, inputs or InputSpec(), vocabulary)
    tokenized = [run.tokenized(examples, max_length) for examples, max_length in parts]
    check_bad_rows(run.inputs, row_count, run.bad_row_count())
    return tokenized


def require_examples(
    tokenized: TokenizedExamples,
    split: str,
    max_length: int,
    *,
    setting: str = MAX_LENGTH_OPTION,
    context: int | None = None,
    least: int = 1,
) -> None:
    """Check that enough examples of a split are left.

    Args:
        tokenized: the examples.
        split: `training` or `held-out`.
        max_length: their maximum length in tokens.
        setting: name of the maximum length.
        context: tokens in the context of the model; None if they are not limited or not known.
        least: smallest number of examples.

    Raises:
        UsageError: fewer are left, because the maximum length or `--skip-bad-rows` dropped the others.
    """
    left = len(tokenized.examples)
    if left < least and not tokenized.dropped:
        what = f"{left} of {left + tokenized.bad_rows} {split} examples can be rendered and tokenized."
        raise UsageError(Problem(what, f"Correct the others: at least {least} are needed."))
    if left < least:
        total = left + tokenized.dropped + tokenized.bad_rows
        number = f"All {total}" if tokenized.dropped == total else f"{tokenized.dropped} of {total}"
        few = f" At least {least} are needed." if left else ""
        what = f"{number} {split} examples were dropped: the prompt alone fills {setting} {max_length}.{few}"
        fix = f"Use {setting} {tokenized.shortest_dropped} or more, or shorten the prompts."
        if context and tokenized.shortest_prompt >= context:
            fix = f"Shorten the prompts, or use another model: the context of this one is {context} tokens."
        elif context and tokenized.shortest_dropped > context:
            fix = f"Use {setting} {context}, the context of this model, or shorten the prompts."
        raise UsageError(Problem(what, fix))


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
    """One pass over the parts of a data set with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", inputs: InputSpec, vocabulary: int | None) -> None:
        self._tokenizer = tokenizer
        self.inputs = inputs
        self._vocabulary = vocabulary
        self._notes = _RenderingCounts()
        self._bad_rows: list[BadRow] = []
        self._all: Counter[str] = Counter()
        """Ids of the examples. An example in several parts counts once."""
        self._bad: Counter[str] = Counter()
        self._bad_in_part: Counter[str] = Counter()
        self._special = special_tokens(tokenizer)
        self._token_ids = TokenIds(tokenizer)

    @cached_property
    def _renderer(self) -> ChatRenderer:
        all_turns = self.inputs.loss == "all-assistant"
        time, allowed = self.inputs.template_time, self.inputs.allow_special_tokens
        return ChatRenderer(self._tokenizer, all_turns=all_turns, time=time, allow_special_tokens=allowed)

    def tokenized(self, examples: Sequence[Example], max_length: int) -> TokenizedExamples:
        """Return the tokenized examples, without those that cannot be rendered."""
        self._notes, self._bad_in_part = _RenderingCounts(), Counter()
        texts = [text for example in examples if (text := self._attempt(example, self._text_of, example))]
        self._encode_all(texts, max_length)
        step = partial(self._tokens, max_length=max_length)
        tokenized = [one for text in texts if (one := self._attempt(text.example, step, text))]
        self._all |= Counter(example.id for example in examples)
        self._bad |= self._bad_in_part
        kept = [one for one in tokenized if one.prompt_length < max_length]
        dropped = [one for one in tokenized if one.prompt_length >= max_length]
        return TokenizedExamples(
            examples=tuple(replace(one, input_ids=one.input_ids[:max_length]) for one in kept),
            dropped=len(dropped),
            truncated=sum(len(one.input_ids) > max_length for one in kept),
            shortest_dropped=min((len(one.input_ids) for one in dropped), default=0),
            shortest_prompt=min((one.prompt_length for one in dropped), default=0),
            bad_rows=len(examples) - len(tokenized),
            notes=tuple(self._notes.sentences(str(self._tokenizer.eos_token))),
        )

    def bad_row_count(self) -> BadRowCount:
        """Return the numbers of examples of all parts, and those that cannot be used."""
        total, bad, bad_rows = self._all.total(), self._bad.total(), tuple(self._bad_rows)
        return BadRowCount("cannot be rendered or tokenized", "example", total, bad, bad_rows)

    def _attempt(self, example: Example, step: Callable[[ArgumentT], ResultT], argument: ArgumentT) -> ResultT | None:
        """Return the result of a step; None for a bad row."""
        try:
            return step(argument)
        except RowError as error:
            bad_row = BadRow(_named(example), error.what, error.fix, error.cause)
        except RecursionError:
            bad_row = BadRow(_named(example), TOO_DEEP, "Remove the row.", TOO_DEEP)
        if not self._bad[example.id]:  # not in a part before this one
            self._bad_rows.append(bad_row)
        self._bad_in_part[example.id] += 1
        return None

    def _text_of(self, example: Example) -> _ExampleText:
        self._note_other_ends(example)
        if not example.prompt:
            # Special tokens as in pretraining: models pretrained with a begin-of-sequence token expect it here.
            bos = self._tokenizer.bos_token
            first = example.raw_prompt + example.completion
            return _ExampleText(
                example, example.raw_prompt, example.completion, adds_bos=not (bos and first.startswith(str(bos)))
            )
        example = self._without_end_token(example)
        rendered = self._renderer.render(example)
        self._note_rendering(rendered)
        ordinary = self._ordinary(rendered.prompt + rendered.completion, rendered.contents)
        return _ExampleText(example, rendered.prompt, rendered.completion, rendered.earlier, tuple(ordinary))

    def _note_rendering(self, rendered: Rendered) -> None:
        self._notes.drops_reasoning += rendered.drops_reasoning
        if rendered.opened:
            self._notes.opened += 1
            self._notes.opening = rendered.opened

    def _encode_all(self, texts: Sequence[_ExampleText], max_length: int) -> None:
        """Encode prompts, then whole texts, without those whose prompt fills the maximum length: they are dropped."""
        for adds_bos in (False, True):
            wanted = [text for text in texts if text.adds_bos == adds_bos and not text.ordinary]
            self._token_ids.encode_all((text.prompt for text in wanted), adds_bos=adds_bos)
            kept = (text for text in wanted if len(self._prompt_ids(text)) < max_length)
            self._token_ids.encode_all((text.prompt + text.completion for text in kept), adds_bos=adds_bos)

    def _prompt_ids(self, text: _ExampleText) -> list[int]:
        in_prompt = within(text.ordinary, 0, len(text.prompt))
        return self._token_ids.of(text.prompt, in_prompt, adds_bos=text.adds_bos) if text.prompt else []

    def _tokens(self, text: _ExampleText, max_length: int) -> TokenizedExample:
        border, whole, ids = len(text.prompt), text.prompt + text.completion, self._token_ids
        prompt = self._prompt_ids(text)
        is_dropped = len(prompt) >= max_length
        token_ids = [] if is_dropped else ids.of(whole, text.ordinary, adds_bos=text.adds_bos)
        if is_dropped or token_ids[: len(prompt)] != prompt:  # a token would span the border
            token_ids = [*prompt, *ids.of(text.completion, within(text.ordinary, border, len(whole)))]
        in_prompt = within(text.ordinary, 0, border)
        earlier = tuple(ids.places(text.prompt, in_prompt, text.earlier)) if text.earlier and not is_dropped else ()
        return self._checked(TokenizedExample(text.example, self._closed(token_ids), len(prompt), earlier))

    def _ordinary(self, text: str, contents: Iterable[Span]) -> list[Span]:
        """Return the special tokens in texts of the data, which are tokenized as ordinary text."""
        pattern = self._special
        if pattern is None or self.inputs.allow_special_tokens:
            return []
        found = [
            (start + match.start(), start + match.end())
            for start, end in contents
            for match in pattern.finditer(text[start:end])
        ]
        if found:
            self._notes.special += 1
            self._notes.special_tokens.update(text[start:end] for start, end in found)
        return found

    def _closed(self, token_ids: list[int]) -> tuple[int, ...]:
        """Append the end-of-sequence token, unless it is there, so that the model learns to stop."""
        eos: int = self._tokenizer.eos_token_id
        return tuple(token_ids) if token_ids[-1:] == [eos] else (*token_ids, eos)

    def _without_end_token(self, example: Example) -> Example:
        """Remove the end-of-sequence token that some data sets write at the end of the completion."""
        eos = str(self._tokenizer.eos_token)
        if not example.completion.rstrip().endswith(eos) or example.completion.strip() == eos:
            return example
        self._notes.ended += 1
        completion = example.completion.rstrip().removesuffix(eos)
        final: Message | None = {**example.final_turn, "content": completion} if example.final_turn else None
        return replace(example, completion=completion, final_turn=final)

    def _note_other_ends(self, example: Example) -> None:
        """Count an example with an answer that ends with the end token of another model, which is text here."""
        answers = [turn["content"] for turn in example.turns if turn["role"] == ASSISTANT]
        ends = {end for text in (*answers, example.completion) if (end := _end_in(text))}
        self._notes.other_ends.update(
            end for end in sorted(ends) if not (self._special and self._special.fullmatch(end))
        )

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


def _end_in(text: str) -> str:
    """Return the end token at the end of a text; empty if there is none, or if it closes an element of HTML or XML."""
    found = END_OF_TURN.search(text)
    end = found[0].strip() if found else ""
    return "" if end == "</s>" and "<s>" in text else end


def _named(example: Example) -> str:
    first = (example.turns[0]["content"] if example.turns else example.completion)[:START_CHARACTERS]
    return example.place or f"The conversation that starts with '{first}'"


def length_notes(
    tokenized: TokenizedExamples, split: str, max_length: int, *, setting: str = MAX_LENGTH_OPTION
) -> tuple[str, ...]:
    """Return notes on the examples of a split that were dropped, truncated or changed, if there are any.

    `setting` is the name of the maximum length.
    """
    total = len(tokenized.examples) + tokenized.dropped + tokenized.bad_rows
    counts = {
        f"dropped: the prompt alone fills {setting} {max_length}": tokenized.dropped,
        f"truncated: the completion was cut at {setting} {max_length}": tokenized.truncated,
        "dropped: they cannot be rendered or tokenized (--skip-bad-rows)": tokenized.bad_rows,
    }
    lengths = (f"{number:,} of {total:,} {split} examples {effect}." for effect, number in counts.items() if number)
    return (*lengths, *(f"{note} ({split} examples)" for note in tokenized.notes))


@dataclass
class _RenderingCounts:
    """Numbers of examples with a property that a user must know about."""

    special: int = 0
    """Conversations whose texts contain special tokens."""
    special_tokens: set[str] = field(default_factory=set)
    """These tokens."""
    ended: int = 0
    """Completions that ended with the end-of-sequence token in the data."""
    other_ends: Counter[str] = field(default_factory=Counter)
    """Numbers of examples with an answer that ends with an end token of another model, by token."""
    opened: int = 0
    """Completions without the reasoning block that the generation prompt opens."""
    opening: str = ""
    """Start of this block."""
    drops_reasoning: int = 0
    """Conversations with learned turns whose reasoning the template leaves out."""

    def sentences(self, eos: str) -> Iterator[str]:
        """Yield notes on special tokens, end-of-sequence tokens and reasoning, one sentence each."""
        if self.special:
            shown = ", ".join(f"'{token}'" for token in sorted(self.special_tokens)[:3])
            where = f"the text of {counted(self.special, 'conversation')}"
            yield (
                f"Special tokens ({shown}) in {where} become ordinary text. "
                "Use --raw for texts that are rendered already, or --allow-special-tokens."
            )
        if self.ended:
            yield f"Removed '{eos}' from the end of {counted(self.ended, 'completion')}: the chat template adds it."
        for end, number in self.other_ends.items():
            yield (
                f"'{end}' at the end of answers in {counted(number, 'example')} is read as text, since it is an end "
                f"token of other models. Remove it from the data: '{eos}' is added."
            )
        if self.opened:
            yield (
                f"The chat template's generation prompt opens '{self.opening}', and the reasoning is missing in "
                f"{counted(self.opened, 'completion')}. Training and generation leave out '{self.opening}' for these."
            )
        if self.drops_reasoning:
            where = f"earlier turns that are learned in {counted(self.drops_reasoning, 'conversation')}"
            yield f"The chat template leaves out the reasoning of {where}."
