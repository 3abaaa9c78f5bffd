"""The identity of examples: content hashes that are the same on every machine and in every file."""

import hashlib
import json
from collections.abc import Sequence

from neftune_cli.data.examples import Example, Message

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
