"""Render conversations with a chat template, and divide the text into a prompt and its completion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import CHANGE_TEMPLATE, Chat, ChatTemplate, Span
from neftune_cli.data.earlier_turns import EarlierTurns
from neftune_cli.data.examples import Example
from neftune_cli.data.located_text import (
    REASONING_TAG,
    LocatedTexts,
    locate,
    shared_length,
    texts_around_tags,
    without_opened_reasoning,
)
from neftune_cli.data.rendering_checks import StructureCheck, check_texts
from neftune_cli.data.token_ids import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. Generation starts after the prompt."""

    prompt: str
    completion: str
    """The completion up to its end-of-turn token, which is missing if the template writes none."""
    earlier: tuple[Span, ...] = ()
    """Parts of the prompt with loss: earlier assistant turns with their end-of-turn tokens."""
    contents: tuple[Span, ...] = ()
    """Parts of prompt and completion that come from the data, not from the template."""
    opened: str = ""
    """Start of a reasoning block that the template's generation prompt opens and `prompt` leaves out."""
    drops_reasoning: bool = False
    """Whether the template leaves out the reasoning of an earlier turn with loss."""


@dataclass(frozen=True)
class _Divided:
    """A rendered conversation, and the places of the texts of the data in it."""

    prompt: str
    completion: str
    located: LocatedTexts
    contents: tuple[Span, ...]
    opened: str = ""


@dataclass(frozen=True)
class _Completion:
    """The last turn with its end-of-turn token, and the places of the texts of the data in it."""

    text: str
    contents: tuple[Span, ...]


class ChatRenderer:
    """Renders conversations with a chat template, and divides them into prompt and completion."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        all_turns: bool = False,
        time: str | None = None,
        allow_special_tokens: bool = False,
    ) -> None:
        """Determine the form in which the template takes its input.

        Args:
            tokenizer: a tokenizer with a chat template.
            all_turns: whether earlier assistant turns carry loss. If TRL has a training variant of the template, that
                variant is used, as SFTTrainer does.
            time: time for templates that write a date, in ISO 8601; the current time if None.
            allow_special_tokens: whether special tokens in the data are the same as those of the template.

        Raises:
            UsageError: the time that the template writes cannot be fixed.
        """
        self._template = ChatTemplate(tokenizer, all_turns=all_turns, time=time)
        self._structure = StructureCheck(self._template)
        self._all_turns = all_turns
        self._eos = str(tokenizer.eos_token)
        self._special = special_tokens(tokenizer)
        self._allow_special_tokens = allow_special_tokens

    def render(self, example: Example) -> Rendered:
        """Render a conversation.

        Raises:
            RowError: the template rejects the conversation, or drops, repeats or reorders a part of it.
        """
        chat = Chat.of(example)
        self._structure.check(chat)
        whole = self._template.text(chat)
        divided = self._divided(chat, whole)
        learned = example.earlier_learned_turns(all_turns=self._all_turns)
        turns = EarlierTurns(self._template, chat, whole, divided.prompt, divided.located, self._eos, self._special)
        pieces = (piece for turn in learned for piece in divided.located.of_turn(turn))
        return Rendered(
            divided.prompt,
            divided.completion,
            earlier=tuple(turns.spans(learned)),
            contents=divided.contents,
            opened=divided.opened,
            drops_reasoning=any(piece.kind == "reasoning" and not piece.spans for piece in pieces),
        )

    def _divided(self, chat: Chat, whole: str) -> _Divided:
        """Divide the whole text where generation starts.

        Some templates render the prompt or the last turn differently in the whole text. Then the last turn of the whole
        text, or if that is not complete its text in the data, is written after the generation prompt.
        """
        last = len(chat.turns) - 1
        prompt = self._template.text(chat.start(last), add_generation_prompt=True)
        start, opened = _start(chat, whole, prompt)
        located = locate(self._template, chat, whole, special=self._special, last_turn=len(start))
        if not start or not located.is_complete(last):
            return self._after(prompt, chat, whole, located)
        check_texts(chat, located, last_turn=last)
        self._require_certain(located)
        end = _end_of_turn(whole, located.spans_of(last), self._eos)
        contents = sorted(span for span in located.spans if span[1] <= end)
        return _Divided(start, whole[len(start) : end], located, tuple(contents), opened)

    def _after(self, prompt: str, chat: Chat, whole: str, located: LocatedTexts) -> _Divided:
        """Write the last turn after the generation prompt: as in the whole text, or else as in the data."""
        last = len(chat.turns) - 1
        before = chat.start(last)
        in_prompt = locate(self._template, before, prompt, special=self._special, add_generation_prompt=True)
        check_texts(before, in_prompt, last_turn=last)
        self._require_certain(in_prompt)
        opening = prompt[max((end for _, end in in_prompt.spans), default=0) :]
        found = self._of_whole_text(last, whole, opening, located) or self._of_data(chat, whole, prompt, located)
        contents = ((start + len(prompt), end + len(prompt)) for start, end in found.contents)
        return _Divided(prompt, found.text, in_prompt, (*sorted(in_prompt.spans), *contents))

    def _of_whole_text(self, last: int, whole: str, opening: str, located: LocatedTexts) -> _Completion | None:
        """Return the last turn of the whole text, if it starts as the generation prompt ends.

        Some templates drop the reasoning of earlier turns in the whole text, so that it has another start.
        """
        own = located.spans_of(last)
        if not located.is_complete(last) or not own:
            return None
        first = min(start for start, _ in own)
        start = max((end for _, end in located.spans if end <= first), default=0) + len(opening)
        if start > first or whole[start - len(opening) : start] != opening:
            return None
        self._require_certain(located)
        contents = tuple((begin - start, end - start) for begin, end in sorted(own))
        return _Completion(whole[start : _end_of_turn(whole, own, self._eos)], contents)

    def _of_data(self, chat: Chat, whole: str, prompt: str, located: LocatedTexts) -> _Completion:
        """Return the last turn of the data with the end-of-turn token, as a model would generate it.

        Some templates drop the reasoning of the last turn, or render its start differently in a generation prompt.
        """
        last = len(chat.turns) - 1
        if {"tool_calls", "reasoning_content"} & chat.turns[last].keys():
            rendered = "renders the last turn, which has tool calls or reasoning, differently after a generation prompt"
            raise RowError(f"the model's chat template {rendered}.", CHANGE_TEMPLATE)
        spans = [span for piece in located.of_turn(last) if piece.kind == "text" for span in piece.spans]
        closing = whole[spans[-1][1] : _end_of_turn(whole, spans, self._eos)] if spans else ""
        opening = without_opened_reasoning(prompt)[1] or prompt[shared_length(prompt, whole) :]
        completion = _without_opening(chat.turns[last]["content"], opening)
        completion = completion.rstrip() if closing else completion
        return _Completion(completion + closing, tuple(_texts(completion)))

    def _require_certain(self, located: LocatedTexts) -> None:
        """Raise RowError if special tokens of the data cannot be told from those of the template."""
        special = self._special
        if located.is_exact or self._allow_special_tokens or special is None:
            return
        if any(special.search(piece.text) for piece in located.pieces):
            what = "the model's chat template depends on the text of a turn, which contains special tokens."
            raise RowError(what, "Remove them from the text, or use --allow-special-tokens.")


def _start(chat: Chat, whole: str, prompt: str) -> tuple[str, str]:
    """Return the start of a text that is the prompt, and the start of a reasoning block that it leaves out.

    The prompt is the generation prompt. If that opens a reasoning block, and the turn has no reasoning, the whole text
    may close the block at once or have none. The start is empty if the whole text starts differently.
    """
    if whole.startswith(prompt):
        return prompt, ""
    without, opened = without_opened_reasoning(prompt)
    if opened and not REASONING_TAG.search(chat.turns[-1]["content"]):
        for start, left_out in ((prompt.rstrip(), ""), (without, opened.strip()), (without.rstrip(), opened.strip())):
            if whole.startswith(start):
                return start, left_out
    return "", ""


def _without_opening(completion: str, opening: str) -> str:
    """Return a completion without the end of the generation prompt, with which it may start too."""
    text, opened = completion.lstrip(), opening.strip()
    if not opened or not text.startswith(opened):
        return completion
    return text.removeprefix(opened).removeprefix("\n" * opening.endswith("\n"))


def _end_of_turn(text: str, spans: Sequence[Span], eos: str) -> int:
    """Return the end of the first end-of-sequence token after the texts of a turn, or the end of the text."""
    end = text.find(eos, max((end for _, end in spans), default=0))
    return len(text) if end < 0 else end + len(eos)


def _texts(completion: str) -> Iterator[Span]:
    """Yield the places of the texts around reasoning tags."""
    start = 0
    for text, tag in texts_around_tags(completion):
        yield start, start + len(text)
        start += len(text) + len(tag)
