"""The types that data flows through: examples, the split they form, and what was dropped on the way."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One prompt and the completion to learn from, or to score against.

    A plain text (layout `text`) is an example without prompt: its loss is measured on all tokens and nothing is
    generated for it.
    """

    id: str
    """Content hash of prompt and completion, 16 hex digits: the same on every machine and in every file."""
    prompt: tuple[Message, ...]
    completion: str
    cluster: str
    """Examples that share a cluster share a subject (a person, say) and aren't independent; otherwise the id."""
    kind: str = ""
    """What sort of example it is, where the data set says so."""


@dataclass(frozen=True)
class GenerationDefaults:
    """How a data set wants answers generated unless the user says otherwise."""

    max_new_tokens: int
    repetition_penalty: float


@dataclass(frozen=True)
class InstructionData:
    """A data set split into training and held-out examples, ready to tokenize."""

    name: str
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    probe: tuple[Example, ...]
    """Training examples on which the noise-off training loss is measured; the same for every arm."""
    fingerprint: str
    """Hash of the examples in order, split by split."""
    generation: GenerationDefaults
    notes: tuple[str, ...]
    """What was recognised, dropped or chosen, each in one sentence for the user."""


@dataclass(frozen=True)
class TokenizedExample:
    """An example as the model reads it: prompt tokens, then completion tokens with the end-of-turn token."""

    example: Example
    input_ids: tuple[int, ...]
    prompt_length: int
    """Tokens of `input_ids` that belong to the prompt and carry no loss."""

    @property
    def labels(self) -> list[int]:
        """Return the targets: `input_ids` with the prompt masked by -100."""
        return [-100] * self.prompt_length + list(self.input_ids[self.prompt_length :])

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Return the tokens that generation starts from."""
        return self.input_ids[: self.prompt_length]


@dataclass(frozen=True)
class TokenizedExamples:
    """Tokenized examples and how many of them the maximum length cost."""

    examples: tuple[TokenizedExample, ...]
    dropped: int
    """Examples left out because their prompt alone fills the maximum length."""
    truncated: int
    """Examples kept with a completion cut at the maximum length."""
    shortest_dropped: int = 0
    """Tokens of the shortest example that was dropped; 0 if none was."""


HEX_DIGITS = 16


def content_id(prompt: Sequence[Message], completion: str) -> str:
    """Return the hash of what an example says, 16 hex digits."""
    return _digest([[[message["role"], message["content"]] for message in prompt], completion])


def fingerprint(train: Sequence[Example], held_out: Sequence[Example], probe: Sequence[Example]) -> str:
    """Return the hash of the three splits' examples in order, 16 hex digits."""
    return _digest([[example.id for example in split] for split in (train, held_out, probe)])


def _digest(content: object) -> str:
    canonical = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:HEX_DIGITS]
