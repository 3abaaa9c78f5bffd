"""An answer beside its reference, word by word: what they share, what was added and what is missing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from typing import Literal

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.records import Generation
from neftune_cli.reporting.page.content import PromptAnswers, cut, visible

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


KIND_OF_PROBE = "training prompt"
"""Said of prompts that were trained on."""
_TEMPLATE_ENDS, _TEMPLATE_STARTS = ">]\n", "<[\n"
"""Characters at which a chat template ends before the user's words, and begins again behind them."""


@dataclass(frozen=True)
class CutText:
    """A text of a model or a data set, not longer than a page can bear."""

    text: str
    left_out: int
    """Characters."""


@dataclass(frozen=True)
class ShownAnswer:
    """One arm's answer."""

    arm: str
    score: str
    truncated: bool
    text: CutText
    runs: Sequence[Run] | None
    """The text marked against the reference; None where it equals it or marks would say nothing."""


@dataclass(frozen=True)
class ShownPrompt:
    """One prompt as the page shows it."""

    kind: str
    before: str
    """What all prompts begin with, such as a system prompt."""
    question: CutText
    after: str
    """What all prompts end with."""
    reference: CutText
    answers: Sequence[ShownAnswer]
    summary: str
    """How the trained arms did, in a few words."""


def in_turn(prompts: Sequence[PromptAnswers]) -> list[PromptAnswers]:
    """Return the prompts kind by kind in turn; of a kind, those come first whose answers differ most in ROUGE-L.

    The base is left out of it, as it differs from every arm. Equal ones come in the order of their content hash.
    """
    ordered = sorted(prompts, key=lambda prompt: (*_group(prompt), -_disagreement(prompt), prompt.example))
    groups = [list(group) for _, group in groupby(ordered, key=_group)]
    return [prompt for turn in zip_longest(*groups) for prompt in turn if prompt is not None]


def shown(prompts: Sequence[PromptAnswers]) -> Iterator[ShownPrompt]:
    """Yield each prompt as it is shown, made only when it is asked for: marking words takes time."""
    before, after = _template([prompt.prompt for prompt in prompts])
    for prompt in prompts:
        question = prompt.prompt[len(before) : len(prompt.prompt) - len(after)]
        yield ShownPrompt(
            kind=KIND_OF_PROBE if prompt.split == "probe" else prompt.kind,
            before=before,
            question=_cut(question),
            after=after,
            reference=_cut(prompt.reference),
            answers=[_answer(arm, answer) for arm, answer in prompt.answers.items()],
            summary=_summary(prompt.answers),
        )


def _group(prompt: PromptAnswers) -> tuple[bool, str]:
    return prompt.split == "probe", prompt.kind


def _disagreement(prompt: PromptAnswers) -> float:
    scores = [answer.rouge_l for answer in _trained(prompt.answers)]
    return max(scores, default=0.0) - min(scores, default=0.0)


def _trained(answers: Mapping[str, Generation]) -> list[Generation]:
    return [answer for arm, answer in answers.items() if arm != BASE_ARM]


def _template(prompts: Sequence[str]) -> tuple[str, str]:
    """Return what all prompts have before and after the user's words; nothing where a prompt is nothing else."""
    before = _shared_beginning(prompts)
    before = before[: 1 + max(before.rfind(end) for end in _TEMPLATE_ENDS)]
    after = _shared_beginning([prompt[::-1] for prompt in prompts])[::-1]
    starts = [place for start in _TEMPLATE_STARTS if (place := after.find(start)) >= 0]
    after = after[min(starts) :] if starts else ""
    return ("", "") if any(len(prompt) <= len(before) + len(after) for prompt in prompts) else (before, after)


def _shared_beginning(texts: Sequence[str]) -> str:
    first, last = min(texts, default=""), max(texts, default="")
    different = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(different, len(first))]


def _cut(text: str) -> CutText:
    return CutText(*cut(visible(text)))


def _answer(arm: str, answer: Generation) -> ShownAnswer:
    score = "equals the reference" if answer.exact_match else f"ROUGE-L {answer.rouge_l:.2f}"
    text, reference = _cut(answer.response), _cut(answer.reference)
    runs = None if answer.exact_match else word_marks(text.text, reference.text)
    return ShownAnswer(arm, score, answer.truncated, text, runs)


def _summary(answers: Mapping[str, Generation]) -> str:
    trained = _trained(answers)
    if not trained:
        return ""
    exact = sum(answer.exact_match for answer in trained)
    if exact == len(trained):
        return "all arms equal the reference"
    scores = [f"{score:.2f}" for score in (min(a.rouge_l for a in trained), max(a.rouge_l for a in trained))]
    span = scores[0] if scores[0] == scores[1] else " to ".join(scores)
    return f"{exact} of {len(trained)} arms equal the reference; ROUGE-L {span}"
