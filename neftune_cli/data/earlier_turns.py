"""Locate the assistant turns before the last one that carry loss, from their first word to their end-of-turn token."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import CHANGE_TEMPLATE, SAMPLE_TEXTS, Chat, ChatTemplate, Span
from neftune_cli.data.examples import Message
from neftune_cli.data.located_text import LocatedTexts, locate, shared_length, without_opened_reasoning

USE_LAST = "Use --loss last, or a chat template with generation markers."


@dataclass(frozen=True)
class EarlierTurns:
    """The turns of a rendered prompt.

    A template with generation markers says where an assistant turn is. Otherwise it starts where the generation prompt
    of the turns before it ends. It ends where the conversation up to it ends, with its end-of-sequence token. Templates
    may reject a conversation without a user turn, so one is added in front of assistant turns that have none.
    """

    template: ChatTemplate
    chat: Chat
    """The whole conversation."""
    whole: str
    """The rendered conversation."""
    prompt: str
    located: LocatedTexts
    """Places of the texts in the prompt."""
    eos: str
    special: re.Pattern[str] | None = None
    """Special tokens."""

    def spans(self, turns: list[int]) -> Iterator[Span]:
        """Yield the parts of the prompt that belong to assistant turns, in order.

        Raises:
            RowError: the place of a turn cannot be shown, or the template fails.
        """
        marked = self.template.marked(self.chat) if turns else []
        for turn in turns:
            if not self.located.spans_of(turn):
                raise RowError(f"{self.chat.turn_name(turn)} is not rendered before the completion.", CHANGE_TEMPLATE)
            yield from self._marked(turn, marked) or [self._between_prefixes(turn)]

    def _marked(self, turn: int, marked: list[Span]) -> list[Span]:
        """Return the parts between generation markers that lie between the texts of the turns before and after."""
        first, last = self._place(turn)
        before = self._end_before(first)
        after = (start for piece in self.located.pieces if piece.turn > turn for start, _ in piece.spans)
        limit = min([len(self.prompt), *(start for start in after if start >= last)])
        found = [(start, end) for start, end in marked if start >= before and end <= limit]
        return found if all(self.whole[start:end] == self.prompt[start:end] for start, end in found) else []

    def _between_prefixes(self, turn: int) -> Span:
        first, last = self._place(turn)
        opening, closing = self._opening(turn), self._closing(turn)
        before = self._end_before(first)
        start = before + shared_length(opening, self.prompt[before:first])
        is_shown = start == before + len(opening) or not self.prompt[start:first].strip()
        if not is_shown or not self.prompt.startswith(closing, last):
            what = f"{self.chat.turn_name(turn)} is rendered differently when other turns follow"
            raise RowError(f"{what}, and the chat template has no generation markers.", USE_LAST)
        return start, last + len(closing)

    def _place(self, turn: int) -> Span:
        spans = self.located.spans_of(turn)
        return min(start for start, _ in spans), max(end for _, end in spans)

    def _end_before(self, place: int) -> int:
        """Return the end of the text before a place; 0 if there is none."""
        return max((end for _, end in self.located.spans if end <= place), default=0)

    def _opening(self, turn: int) -> str:
        """Return the text of the template between the turn before and this one, as in a generation prompt."""
        before = self._end_before(self._place(turn)[0])
        chat = self._before(turn)
        text = self.template.text(chat, add_generation_prompt=True)
        located = locate(self.template, chat, text, special=self.special, add_generation_prompt=True)
        opening = text[max((end for _, end in located.spans), default=0) :]
        if len(chat.turns) > turn:
            opening = self._without_question(turn, opening, self.template.text(chat))
        return opening if self.prompt.startswith(opening, before) else without_opened_reasoning(opening)[0]

    def _without_question(self, turn: int, opening: str, question: str) -> str:
        """Return the text before a turn without a user turn before it, up to the end of the generation prompt.

        Args:
            turn: index of the turn.
            opening: the text between an added user turn and this one.
            question: the conversation up to the added user turn, without the generation prompt.
        """
        first, _ = self._place(turn)
        own = opening[len(question) - question.rfind(SAMPLE_TEXTS[0]) - len(SAMPLE_TEXTS[0]) :]
        before = self.prompt[self._end_before(first) : first]
        for header in (own, without_opened_reasoning(own)[0]):
            if header.strip() and before.rstrip().endswith(header.rstrip()):
                start = before.rindex(header.rstrip())
                return before[: start + len(header)] if before.startswith(header, start) else before
        what = f"{self.chat.turn_name(turn)} comes before any user turn, so that its start cannot be located"
        raise RowError(f"{what}, and the chat template has no generation markers.", USE_LAST)

    def _before(self, turn: int) -> Chat:
        """Return the turns before a turn, with a user turn at the end if there is none."""
        chat = self.chat.start(turn)
        if any(one["role"] == "user" for one in chat.turns):
            return chat
        return replace(chat, turns=(*chat.turns, Message(role="user", content=SAMPLE_TEXTS[0])))

    def _closing(self, turn: int) -> str:
        """Return the text of the template after a turn, up to its end-of-sequence token."""
        before = self._before(turn)
        chat = replace(before, turns=(*before.turns, self.chat.turns[turn]))
        text = self.template.text(chat)
        spans = locate(self.template, chat, text, special=self.special).spans_of(len(before.turns))
        closing = text[max((end for _, end in spans), default=0) :]
        return closing[: closing.index(self.eos) + len(self.eos)] if self.eos in closing else closing.rstrip()
