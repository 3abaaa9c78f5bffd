"""Preview of training examples: the tokens with their role, as text for a terminal and as a page."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from neftune_cli.reporting.sanitizing import visible_text

if TYPE_CHECKING:
    from rich.text import Text

Part = Literal["prompt", "first", "learned", "cut"]
LABELS: dict[Part, str] = {
    "prompt": "prompt, no loss",
    "first": "first token, no loss",
    "learned": "learned",
    "cut": "cut off",
}
"""Roles of tokens, and their names in outputs."""
STYLES: dict[Part, tuple[str, str]] = {
    "prompt": ("cyan", "bright_cyan"),
    "first": ("cyan", "bright_cyan"),
    "learned": ("bold green", "bold bright_green"),
    "cut": ("strike red", "strike bright_red"),
}
"""Two shades of each role. Neighboring tokens have different shades."""
SHOWN_TOKENS = 600
"""Maximum number of tokens of an example in a preview."""


@dataclass(frozen=True)
class TokenView:
    """One token of an example."""

    text: str
    part: Part
    has_noise: bool


@dataclass(frozen=True)
class ExampleView:
    """The tokens of one training example."""

    place: str
    """File and line or row."""
    tokens: tuple[TokenView, ...]
    length: int
    """Number of tokens that are trained on, prompt included."""
    learned: int
    """Number of tokens that carry loss."""
    left_out: int
    """Number of tokens after `tokens`, which are not shown."""
    noise_norm: float
    """Root mean square of the L2 norm of the noise of one token; 0 without noise."""

    @property
    def parts(self) -> Iterator[tuple[Part, tuple[TokenView, ...]]]:
        """Yield the runs of tokens with the same role."""
        for part, tokens in groupby(self.tokens, key=lambda token: token.part):
            yield part, tuple(tokens)


@dataclass(frozen=True)
class Preview:
    """Examples as they are trained on, and the notes on the data."""

    model: str
    dataset: str
    train: int
    """Number of training examples."""
    held_out: int
    """Number of held-out examples."""
    max_length: int
    alpha: float
    noise: str
    noise_target: str
    embedding_norm: float
    """Median L2 norm of the training tokens' embeddings."""
    notes: tuple[str, ...]
    examples: tuple[ExampleView, ...]

    @property
    def labels(self) -> dict[Part, str]:
        """Return the names of the roles for a legend. Only plain text has a first token outside of a prompt."""
        has_first = any(part == "first" for example in self.examples for part, _ in example.parts)
        return {part: label for part, label in LABELS.items() if part != "first" or has_first}

    def noise_of(self, example: ExampleView) -> str:
        """Describe the noise of an example."""
        if not example.noise_norm:
            return "no noise"
        percents = 100 * example.noise_norm / self.embedding_norm
        share = f"{percents:.0f}%" if percents >= 10 else f"{percents:.2g}%"
        target = "every token" if self.noise_target == "all" else f"{self.noise_target} tokens"
        norm = f"norm {example.noise_norm:.2g} per token, {share} of the median embedding norm"
        return f"{self.noise} noise on {target} at alpha {self.alpha:g}: {norm}"


def preview_json(preview: Preview) -> dict[str, Any]:
    """Return the preview as JSON values."""
    return asdict(preview)


def preview_text(preview: Preview, *, colored: bool) -> "Text":
    """Return the preview for a terminal.

    Args:
        preview: the examples.
        colored: whether colors separate the tokens; otherwise vertical bars do.
    """
    from rich.text import Text

    text = Text()
    text.append(f"{preview.model} on {preview.dataset}: {preview.train:,} training examples, ")
    text.append(f"{preview.held_out:,} held out, at most {preview.max_length} tokens each\n")
    for note in preview.notes:
        text.append(f"- {visible_text(note)}\n")
    if colored:
        text.append("\nColors: ")
        for part, label in preview.labels.items():
            text.append(label, STYLES[part][0]).append("  ")
        text.append("\n")
    for example in preview.examples:
        _append_example(text, preview, example, colored=colored)
    return text


def _append_example(text: "Text", preview: Preview, example: ExampleView, *, colored: bool) -> None:
    counts = f"{example.length:,} tokens, {example.learned:,} learned"
    text.append(f"\n{visible_text(example.place)}", "bold").append(f"  {counts}; {preview.noise_of(example)}\n")
    for part, tokens in example.parts:
        if not colored:
            text.append(f"[{LABELS[part]}] ").append("|".join(_shown(token) for token in tokens)).append("\n")
            continue
        for index, token in enumerate(tokens):
            text.append(_shown(token), STYLES[part][index % 2])
    text.append("\n" if colored else "")
    if example.left_out:
        text.append(f"... {example.left_out:,} more tokens\n")


def _shown(token: TokenView) -> str:
    return visible_text(token.text).replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n")


def preview_page(preview: Preview) -> str:
    """Return the preview as an HTML page that loads no resources and runs no script."""
    from neftune_cli.reporting.page.report import styled_page

    return styled_page("preview.html.jinja", preview=preview)
