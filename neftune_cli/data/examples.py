"""Types of the data pipeline: messages, examples, split data sets, and tokenized examples."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Required, TypedDict

from neftune_cli.config.choices import IGNORED_LABEL
from neftune_cli.data.bad_rows import NO_BAD_ROWS, BadRowCount


class Message(TypedDict, total=False):
    """One turn of a conversation, in the format of chat templates. Only `role` and `content` are always there."""

    role: Required[str]
    """`system`, `user`, `assistant` or `tool`."""
    content: Required[str]
    """Text of the turn; may be empty in an assistant turn with tool calls."""
    tool_calls: list[dict[str, Any]]
    """Tool calls of an assistant turn; the arguments are an object, not JSON text."""
    name: str
    """Name of the tool that a tool turn answers for."""
    tool_call_id: str
    reasoning_content: str
    """Reasoning of an assistant turn, if the data keep it apart from the content."""
    weight: int
    """0 for an assistant turn without loss."""


@dataclass(frozen=True)
class Example:
    """A prompt and its reference completion.

    There are three forms. A conversation has turns in `prompt` and ends with the assistant turn `completion`. A raw
    prompt and its completion are texts that no chat template changes. A plain text (layout `text`) is a raw completion
    without a prompt: its loss covers all tokens, and no response is generated.
    """

    id: str
    """Content hash of everything that is trained on, 16 hex digits. It does not depend on the file or the machine."""
    prompt: tuple[Message, ...]
    """Turns before the last assistant turn; empty for raw and plain text."""
    completion: str
    """Text of the last assistant turn, or the raw completion."""
    cluster: str
    """Examples with the same cluster, for example about the same person, are not independent. By default the id."""
    kind: str = ""
    """Kind of question, if the data set has kinds."""
    final_turn: Message | None = None
    """The last assistant turn, if it has more than text, for example tool calls."""
    tools: str = ""
    """Definitions of the tools that the model may call: a list as JSON; empty without tools."""
    raw_prompt: str = ""
    """Prompt of a raw example."""
    place: str = ""
    """File and line or row that the example comes from, for messages."""
    completion_turns: int = 1
    """Number of last turns that the data mark as the completion. Their assistant turns always have loss."""

    @property
    def has_prompt(self) -> bool:
        """Return whether a response can be generated."""
        return bool(self.prompt or self.raw_prompt)

    @property
    def turns(self) -> tuple[Message, ...]:
        """Return the whole conversation; nothing for raw and plain text."""
        if not self.prompt:
            return ()
        return (*self.prompt, self.final_turn or Message(role="assistant", content=self.completion))

    def earlier_learned_turns(self, *, all_turns: bool) -> list[int]:
        """Return the assistant turns before the last one that carry loss: all of them, or those of the completion."""
        first = 0 if all_turns else len(self.turns) - self.completion_turns
        return [
            index
            for index, turn in enumerate(self.prompt)
            if index >= first and turn["role"] == "assistant" and turn.get("weight") != 0
        ]


@dataclass(frozen=True)
class GenerationDefaults:
    """Default generation settings of a data set."""

    max_new_tokens: int
    repetition_penalty: float


@dataclass(frozen=True)
class InstructionData:
    """A data set, split into training and held-out examples."""

    name: str
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    probe: tuple[Example, ...]
    """Training examples for the noise-off training loss, the same for every arm."""
    fingerprint: str
    """Hash of the examples of each split, in order: 16 hex digits."""
    generation: GenerationDefaults
    notes: tuple[str, ...]
    """Notes for the user on the layout, the split, and dropped examples; one sentence each."""
    row_count: BadRowCount = NO_BAD_ROWS
    """Numbers of rows that were read, and of those that cannot be used."""


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of an example: prompt tokens, then completion tokens, ending with the end-of-turn token."""

    example: Example
    input_ids: tuple[int, ...]
    prompt_length: int
    """Number of tokens at the start of `input_ids` before the completion. Generation starts after them."""
    earlier: tuple[tuple[int, int], ...] = ()
    """Ranges of tokens before the completion that carry loss: start and end index, in order."""

    @property
    def labels(self) -> list[int]:
        """Return `input_ids` with the tokens without loss replaced by IGNORED_LABEL."""
        labels = [IGNORED_LABEL] * self.prompt_length + list(self.input_ids[self.prompt_length :])
        for start, end in self.earlier:
            labels[start:end] = self.input_ids[start:end]
        return labels

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Return the prompt tokens, from which generation starts."""
        return self.input_ids[: self.prompt_length]

    @property
    def loss_tokens(self) -> int:
        """Return the number of tokens that carry loss. The first token of a sequence is never predicted."""
        return sum(label != IGNORED_LABEL for label in self.labels[1:])


@dataclass(frozen=True)
class TokenizedExamples:
    """Tokenized examples, and counts of those that the maximum length dropped or truncated."""

    examples: tuple[TokenizedExample, ...]
    dropped: int
    """Number of examples dropped because the prompt alone fills the maximum length."""
    truncated: int
    """Number of examples whose completion was truncated to the maximum length."""
    shortest_dropped: int = 0
    """Length in tokens of the shortest dropped example; 0 if none was dropped."""
    bad_rows: int = 0
    """Number of examples dropped because they cannot be rendered or tokenized."""
    notes: tuple[str, ...] = ()
    """Notes for the user on the text of the examples, one sentence each."""


HEX_DIGITS = 16


def content_id(prompt: Sequence[Message], completion: str, *others: object) -> str:
    """Return the hash of everything that is trained on, 16 hex digits.

    Args:
        prompt: turns before the completion.
        completion: text of the completion.
        others: whatever else belongs to the example, such as tools, as JSON values; empty ones do not count.
    """
    extra = [other for other in others if other]
    return _digest([[_identity_of(message) for message in prompt], completion, *extra])


def _identity_of(message: Message) -> list[object]:
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    return [message["role"], message["content"], *([more] if more else [])]


def fingerprint(train: Sequence[Example], held_out: Sequence[Example], probe: Sequence[Example]) -> str:
    """Return the hash of the examples of the three splits, in order, 16 hex digits."""
    return _digest([[example.id for example in split] for split in (train, held_out, probe)])


def _digest(content: object) -> str:
    canonical = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HEX_DIGITS]
