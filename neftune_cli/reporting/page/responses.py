"""Responses of all arms to the same prompts, with word differences from the reference marked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from typing import Literal

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.records import HELD_OUT_SPLIT, PROBE_SPLIT, Generation
from neftune_cli.reporting.sanitizing import visible_text

MOST_CHARACTERS = 3_000
"""Longer texts of a model or a data set are truncated."""
MOST_WORD_PAIRS = 250_000
"""Longer texts are not compared word by word, because that would take seconds."""
LEAST_IN_COMMON = 0.25
"""Texts with a smaller share of common words are not marked."""
TRAINING_PROMPT = "training prompt"
"""Kind of the prompts that the arms were trained on."""


@dataclass(frozen=True)
class PromptResponses:
    """One prompt with the responses of the arms."""

    split: str
    """`held-out` or `probe` (training examples)."""
    example: str
    """Content hash of the example."""
    kind: str
    prompt: str
    """The rendered prompt, special tokens included."""
    reference: str
    responses: Mapping[str, Generation]
    """Response of each arm, the base first if it has one."""


@dataclass(frozen=True)
class TruncatedText:
    """The start of a text, or all of a short one."""

    text: str
    left_out: int
    """Characters left out at the end."""


@dataclass(frozen=True)
class MarkedWords:
    """Adjacent words with one mark, and the white space after them, which is never marked."""

    mark: Literal["same", "added", "missing"]
    words: str
    space: str = ""


@dataclass(frozen=True)
class ShownResponse:
    """The response of one arm on the page."""

    arm: str
    score: str
    truncated: bool
    """The response ended at the token limit."""
    text: TruncatedText
    marked: Sequence[MarkedWords] | None
    """The text marked against the reference; None where it equals the reference or has too little in common."""


@dataclass(frozen=True)
class ShownPrompt:
    """One prompt on the page."""

    kind: str
    before: str
    """Common start of all prompts, such as a system prompt."""
    question: TruncatedText
    after: str
    """Common end of all prompts."""
    reference: TruncatedText
    responses: Sequence[ShownResponse]
    summary: str
    """Scores of the trained arms in a few words."""


def responses_by_prompt(generations: Mapping[str, Sequence[Generation]]) -> list[PromptResponses]:
    """Return the prompts with a response of every arm: held-out prompts first, otherwise in the order of the first arm.

    `generations` maps each arm to the responses of one trial, the base first.
    """
    by_arm = {arm: {(one.split, one.example): one for one in responses} for arm, responses in generations.items()}
    if not by_arm:
        return []
    shared = [key for key in next(iter(by_arm.values())) if all(key in responses for responses in by_arm.values())]
    shared.sort(key=lambda key: key[0] != HELD_OUT_SPLIT)
    return [_prompt({arm: responses[key] for arm, responses in by_arm.items()}) for key in shared]


def display_order(prompts: Sequence[PromptResponses]) -> list[PromptResponses]:
    """Return the prompts with their kinds in rotation; within a kind, the largest range of ROUGE-L over arms first.

    The range excludes the base, which differs from every arm. Ties are in the order of their content hash.
    """
    ordered = sorted(prompts, key=lambda prompt: (*_group(prompt), -_rouge_range(prompt), prompt.example))
    groups = [list(group) for _, group in groupby(ordered, key=_group)]
    return [prompt for turn in zip_longest(*groups) for prompt in turn if prompt is not None]


def shown_prompts(prompts: Sequence[PromptResponses]) -> Iterator[ShownPrompt]:
    """Yield the prompts as the page shows them, one at a time, because marking words takes time."""
    before, after = _template([prompt.prompt for prompt in prompts])
    for prompt in prompts:
        question = prompt.prompt[len(before) : len(prompt.prompt) - len(after)]
        yield ShownPrompt(
            kind=TRAINING_PROMPT if prompt.split == PROBE_SPLIT else prompt.kind,
            before=before,
            question=_visible(question),
            after=after,
            reference=_visible(prompt.reference),
            responses=[_response(arm, response) for arm, response in prompt.responses.items()],
            summary=_summary(prompt.responses),
        )


def mark_words(response: str, reference: str) -> list[MarkedWords] | None:
    """Return the response with its added words marked, and the words of the reference that it lacks.

    Return None where the texts are too long or have too little in common.
    """
    ours, theirs = _tokens(response), _tokens(reference)
    if len(ours) * len(theirs) > MOST_WORD_PAIRS:
        return None
    matcher = SequenceMatcher(None, [word for word, _ in theirs], [word for word, _ in ours])
    if matcher.ratio() < LEAST_IN_COMMON:
        return None
    marked = [MarkedWords("same", "", response[: len(response) - len(response.lstrip())])]
    for operation, first, last, start, end in matcher.get_opcodes():
        if operation == "equal":
            marked.append(_marked("same", ours[start:end]))
            continue
        if last > first:
            marked += _space_before(marked[-1], theirs, first)
            marked.append(_marked("missing", theirs[first:last], least_space=" " if end > start else ""))
        if end > start:
            marked.append(_marked("added", ours[start:end]))
    return [one for one in marked if one.words or one.space]


def truncate(text: str, most: int = MOST_CHARACTERS) -> TruncatedText:
    """Return at most the first `most` characters of the text."""
    return TruncatedText(text[:most], max(0, len(text) - most))


def _prompt(responses: Mapping[str, Generation]) -> PromptResponses:
    first = next(iter(responses.values()))
    return PromptResponses(first.split, first.example, first.kind, first.prompt, first.reference, responses)


def _group(prompt: PromptResponses) -> tuple[bool, str]:
    return prompt.split == PROBE_SPLIT, prompt.kind


def _rouge_range(prompt: PromptResponses) -> float:
    scores = [response.rouge_l for response in _trained(prompt.responses)]
    return max(scores, default=0.0) - min(scores, default=0.0)


def _trained(responses: Mapping[str, Generation]) -> list[Generation]:
    return [response for arm, response in responses.items() if arm != BASE_ARM]


_TEMPLATE_ENDS, _TEMPLATE_STARTS = ">]\n", "<[\n"
"""Characters at which a chat template ends before the question, and starts again after it."""


def _template(prompts: Sequence[str]) -> tuple[str, str]:
    """Return the text that all prompts have before and after the question; empty if a prompt has no question."""
    before = _common_start(prompts)
    before = before[: 1 + max(before.rfind(end) for end in _TEMPLATE_ENDS)]
    after = _common_start([prompt[::-1] for prompt in prompts])[::-1]
    starts = [place for start in _TEMPLATE_STARTS if (place := after.find(start)) >= 0]
    after = after[min(starts) :] if starts else ""
    return ("", "") if any(len(prompt) <= len(before) + len(after) for prompt in prompts) else (before, after)


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts, default=""), max(texts, default="")
    different = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(different, len(first))]


def _visible(text: str) -> TruncatedText:
    return truncate(visible_text(text))


def _response(arm: str, generation: Generation) -> ShownResponse:
    score = "equals the reference" if generation.exact_match else f"ROUGE-L {generation.rouge_l:.2f}"
    text, reference = _visible(generation.response), _visible(generation.reference)
    marked = None if generation.exact_match else mark_words(text.text, reference.text)
    return ShownResponse(arm, score, generation.truncated, text, marked)


def _summary(responses: Mapping[str, Generation]) -> str:
    trained = _trained(responses)
    if not trained:
        return ""
    exact = sum(response.exact_match for response in trained)
    if exact == len(trained):
        return "all arms equal the reference"
    scores = [f"{score:.2f}" for score in (min(a.rouge_l for a in trained), max(a.rouge_l for a in trained))]
    span = scores[0] if scores[0] == scores[1] else " to ".join(scores)
    return f"{exact} of {len(trained)} arms equal the reference; ROUGE-L {span}"


_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"  # scripts without spaces: each character counts as a word
    r"|[^\s.,;:!?()\"\u3040-\u30ff\u3400-\u9fff]+"
    r"|[.,;:!?()\"]"
)


def _tokens(text: str) -> list[tuple[str, str]]:
    """Return the words, each with the white space after it."""
    found = list(_WORD.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(match.group(), text[match.end() : end]) for match, end in zip(found, ends, strict=False)]


def _marked(
    mark: Literal["same", "added", "missing"], tokens: list[tuple[str, str]], least_space: str = ""
) -> MarkedWords:
    *inner, (word, space) = tokens
    return MarkedWords(mark, "".join(a + b for a, b in inner) + word, space or least_space)


def _space_before(before: MarkedWords, theirs: list[tuple[str, str]], first: int) -> list[MarkedWords]:
    """Return the white space that the reference has before a missing word, if the response has none there."""
    space = theirs[first - 1][1] if first and not before.space else ""
    return [MarkedWords("missing", "", space)] if space else []
