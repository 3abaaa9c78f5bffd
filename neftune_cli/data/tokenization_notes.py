"""Notes on tokenized examples: what was changed, cut or dropped, with the number of examples."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from neftune_cli.data.examples import TokenizedExamples
from neftune_cli.formatting import counted


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


@dataclass
class RenderingNotes:
    """Numbers of examples with a property that a user must know about."""

    special: int = 0
    special_tokens: set[str] = field(default_factory=set)
    ended: int = 0
    opened: int = 0
    opening: str = ""
    drops_reasoning: int = 0

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
        if self.opened:
            yield (
                f"The chat template's generation prompt opens '{self.opening}', and the reasoning is missing in "
                f"{counted(self.opened, 'completion')}. Training and generation leave out '{self.opening}' there."
            )
        if self.drops_reasoning:
            where = f"earlier turns that are learned in {counted(self.drops_reasoning, 'conversation')}"
            yield f"The chat template leaves out the reasoning of {where}."
