"""An answer beside its reference, word by word: what they share, what was added and what is missing."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

MOST_WORD_PAIRS = 250_000
"""Longer texts aren't compared: it would take seconds, and nobody follows marks that far."""
LEAST_IN_COMMON = 0.25
"""With a smaller share of common words the marks would say no more than that the texts differ."""

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"  # written without spaces: every character counts as a word
    r"|[^\s.,;:!?()\"\u3040-\u30ff\u3400-\u9fff]+"
    r"|[.,;:!?()\"]"
)

Kind = Literal["same", "added", "missing"]


@dataclass(frozen=True)
class Run:
    """Neighbouring words of one kind, and the white space behind them, which is never marked."""

    kind: Kind
    words: str
    space: str = ""


def word_marks(answer: str, reference: str) -> list[Run] | None:
    """Return the answer as runs, with the words that only the reference has where they are missing.

    None where marks would say nothing: the texts are too long, or have next to nothing in common.
    """
    ours, theirs = _tokens(answer), _tokens(reference)
    if len(ours) * len(theirs) > MOST_WORD_PAIRS:
        return None
    matcher = SequenceMatcher(None, [word for word, _ in theirs], [word for word, _ in ours])
    if matcher.ratio() < LEAST_IN_COMMON:
        return None
    runs = [Run("same", "", answer[: len(answer) - len(answer.lstrip())])]
    for operation, first, last, start, end in matcher.get_opcodes():
        if operation == "equal":
            runs.append(_run("same", ours[start:end]))
            continue
        if last > first:
            runs += _kept_apart(runs[-1], theirs, first)
            runs.append(_run("missing", theirs[first:last], least_space=" " if end > start else ""))
        if end > start:
            runs.append(_run("added", ours[start:end]))
    return [run for run in runs if run.words or run.space]


def _tokens(text: str) -> list[tuple[str, str]]:
    """Return the words, each with the white space behind it."""
    found = list(_WORD.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(match.group(), text[match.end() : end]) for match, end in zip(found, ends, strict=False)]


def _run(kind: Kind, tokens: list[tuple[str, str]], least_space: str = "") -> Run:
    *inner, (word, space) = tokens
    return Run(kind, "".join(a + b for a, b in inner) + word, space or least_space)


def _kept_apart(before: Run, theirs: list[tuple[str, str]], first: int) -> list[Run]:
    """Return the space that the reference has before a missing word, where the answer has none in its place."""
    space = theirs[first - 1][1] if first and not before.space else ""
    return [Run("missing", "", space)] if space else []
