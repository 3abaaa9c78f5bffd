"""Types of the data pipeline: messages, examples, split data sets, and tokenized examples."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


class Message(TypedDict):
    """One turn of a conversation, in the format of chat templates."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """A prompt and its reference completion.

    A plain text (layout `text`) is an example without a prompt. Its loss covers all tokens, and there is no response
    to it.
    """

    id: str
    """Content hash of prompt and completion, 16 hex digits. It does not depend on the file or the machine."""
    prompt: tuple[Message, ...]
    completion: str
    cluster: str
    """Examples with the same cluster, for example about the same person, are not independent. By default the id."""
    kind: str = ""
    """Kind of question, if the data set has kinds."""


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


IGNORED_LABEL = -100
"""Label of a token that the loss ignores: the convention of torch's cross entropy and of all trainers."""


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of an example: prompt tokens, then completion tokens, ending with the end-of-turn token."""

    example: Example
    input_ids: tuple[int, ...]
    prompt_length: int
    """Number of prompt tokens at the start of `input_ids`. They carry no loss."""

    @property
    def labels(self) -> list[int]:
        """Return `input_ids` with the prompt tokens replaced by IGNORED_LABEL."""
        return [IGNORED_LABEL] * self.prompt_length + list(self.input_ids[self.prompt_length :])

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Return the prompt tokens, from which generation starts."""
        return self.input_ids[: self.prompt_length]


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


HEX_DIGITS = 16


def content_id(prompt: Sequence[Message], completion: str) -> str:
    """Return the hash of a prompt and its completion, 16 hex digits."""
    return _digest([[[message["role"], message["content"]] for message in prompt], completion])


def fingerprint(train: Sequence[Example], held_out: Sequence[Example], probe: Sequence[Example]) -> str:
    """Return the hash of the examples of the three splits, in order, 16 hex digits."""
    return _digest([[example.id for example in split] for split in (train, held_out, probe)])


def _digest(content: object) -> str:
    canonical = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HEX_DIGITS]
