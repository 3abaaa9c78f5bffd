"""What the page about one comparison is made from, and the answers of its arms put beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from neftune_cli.analysis.results import Comparison
from neftune_cli.records import Generation
from neftune_cli.reporting.plots.canvas import Plot


@dataclass(frozen=True)
class PromptAnswers:
    """One prompt and what was answered to it."""

    split: str
    """`held-out` or `probe` (training examples)."""
    example: str
    """Content hash of the example."""
    kind: str
    prompt: str
    """As rendered for the model, special tokens included."""
    reference: str
    answers: Mapping[str, Generation]
    """Arm to its answer, the base first if it answered."""


@dataclass(frozen=True)
class PageContent:
    """Everything that the page says about one comparison. Texts are plain: whatever is in them is shown, never run."""

    comparison: Comparison
    advice: str
    """What came out, for somebody in a hurry."""
    footnotes: Sequence[str]
    plots: Mapping[str, Plot]
    """By name, in the order they are shown."""
    answers: Sequence[PromptAnswers]
    answers_seed: int | None
    """Seed of the trained arms whose answers these are; None where there are no answers."""
    spec: str
    """Text of `sweep.yaml`; empty where there is none."""
    manifest: str
    """Text of `manifest.json`; empty where there is none."""
    command: str
    """What to type to get the comparison again, a command a line."""


def side_by_side(generations: Mapping[str, Sequence[Generation]]) -> list[PromptAnswers]:
    """Return the prompts that all of these arms answered, held-out ones first, else in the order of the first arm.

    `generations` has the answers of one trial an arm: arm to answers, the base first.
    """
    by_arm = {arm: {(one.split, one.example): one for one in answers} for arm, answers in generations.items()}
    if not by_arm:
        return []
    shared = [key for key in next(iter(by_arm.values())) if all(key in answers for answers in by_arm.values())]
    shared.sort(key=lambda key: key[0] != "held-out")
    return [_prompt({arm: answers[key] for arm, answers in by_arm.items()}) for key in shared]


def _prompt(answers: Mapping[str, Generation]) -> PromptAnswers:
    first = next(iter(answers.values()))
    return PromptAnswers(first.split, first.example, first.kind, first.prompt, first.reference, answers)


MOST_CHARACTERS = 3_000
"""Longer texts of a model are cut: a page of the same loop teaches nothing."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_DIRECTIONS = {
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
}
"""Characters that reorder the text after them, by their Unicode abbreviation."""
_SHOWN: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
    **dict.fromkeys((0xFFFE, 0xFFFF), _REPLACEMENT),
    **{code: f"\N{LEFT CEILING}{name}\N{RIGHT CEILING}" for code, name in _DIRECTIONS.items()},
}


def visible(text: str) -> str:
    """Return the text with control characters as pictures, and with what UTF-8 can't hold replaced."""
    return text.translate(_SHOWN)


def printed(value: Any) -> Any:
    """Return what a template prints for a value: text is made visible, markup is left as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def cut(text: str, most: int = MOST_CHARACTERS) -> tuple[str, int]:
    """Return the beginning of the text and how many characters were left out."""
    return text[:most], max(0, len(text) - most)
