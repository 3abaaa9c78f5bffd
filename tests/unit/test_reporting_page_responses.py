"""Order and summary of prompts on the page."""

from dataclasses import replace

import pytest

from neftune_cli.records import Generation
from neftune_cli.reporting.page.responses import PromptResponses, display_order, responses_by_prompt, shown_prompts
from tests.page_contents import ALPHAS, generation


def test_prompts_with_responses_of_all_arms_are_kept_held_out_first() -> None:
    first = [generation("base", 1, split="probe"), generation("base", 2), generation("base", 3)]
    second = [generation("alpha=0", 3), generation("alpha=0", 2), generation("alpha=0", 1, split="probe")]

    prompts = responses_by_prompt({"base": first, "alpha=0": [*second, generation("alpha=0", 9)]})

    assert [(one.split, one.example) for one in prompts] == [
        ("held-out", "0002"),
        ("held-out", "0003"),
        ("probe", "0001"),
    ]
    assert prompts[0].responses == {"base": first[1], "alpha=0": second[1]}
    assert responses_by_prompt({}) == []


def test_same_example_in_two_splits_gives_two_prompts() -> None:
    both = [generation("base", 1, split="probe"), generation("base", 1)]

    assert [one.split for one in responses_by_prompt({"base": both})] == ["held-out", "probe"]


def test_kinds_alternate_and_largest_differences_come_first() -> None:
    scored = [
        # example, kind, ROUGE-L of base, alpha=0 and alpha=5
        ("a", "fact", 0.0, 0.9, 0.9),
        ("b", "fact", 0.5, 0.2, 0.8),
        ("c", "list", 0.5, 0.5, 0.6),
        ("d", "fact", 0.5, 0.2, 0.4),
        ("e", "fact", 0.9, 0.9, 0.9),
    ]
    prompts = [_scored(example, kind, scores) for example, kind, *scores in scored]

    assert [one.example for one in display_order(prompts)] == ["b", "c", "d", "a", "e"]
    assert [one.example for one in display_order(prompts[::-1])] == ["b", "c", "d", "a", "e"]


def test_training_prompts_are_a_separate_kind() -> None:
    prompts = [_scored("a", "fact", [0.0, 0.5, 0.5]), replace(_scored("b", "fact", [0.0, 0.5, 0.5]), split="probe")]

    assert [one.kind for one in shown_prompts(prompts)] == ["fact", "training prompt"]


@pytest.mark.parametrize(
    ("prompts", "questions"),
    [
        (["<|user|> Who?<|end|><|assistant|>", "<|user|> When?<|end|><|assistant|>"], [" Who?", " When?"]),
        (["### Q:\nWho?\n\n### A:\n", "### Q:\nWhom?\n\n### A:\n"], ["Who?", "Whom?"]),
        (["What is it?", "What is that?"], ["What is it?", "What is that?"]),
        (["<|user|> Who?<|end|>"], ["<|user|> Who?<|end|>"]),
        (["<|user|><|end|>", "<|user|> Who?<|end|>"], ["<|user|><|end|>", "<|user|> Who?<|end|>"]),
    ],
)
def test_chat_template_is_separated_from_the_question(prompts: list[str], questions: list[str]) -> None:
    made = [replace(_scored("a", "fact", [0.0, 0.5, 0.5]), prompt=prompt) for prompt in prompts]

    assert [one.question.text for one in shown_prompts(made)] == questions
    assert [one.before + one.question.text + one.after for one in shown_prompts(made)] == prompts


@pytest.mark.parametrize(
    ("scores", "summary"),
    [
        ([0.1, 1.0, 1.0], "all arms equal the reference"),
        ([1.0, 0.25, 1.0], "1 of 2 arms equal the reference; ROUGE-L 0.25 to 1.00"),
        ([1.0, 0.25, 0.25], "0 of 2 arms equal the reference; ROUGE-L 0.25"),
        ([0.3], ""),
    ],
)
def test_summary_covers_trained_arms_only(scores: list[float], summary: str) -> None:
    (prompt,) = shown_prompts([_scored("a", "fact", scores)])

    assert prompt.summary == summary


def _scored(example: str, kind: str, scores: list[float]) -> PromptResponses:
    def response(score: float) -> Generation:
        return generation("", 1, example=example, kind=kind, rouge_l=score, exact_match=score == 1.0)

    by_arm = dict(zip(("base", *ALPHAS), scores, strict=False))
    (prompt,) = responses_by_prompt({arm: [response(score)] for arm, score in by_arm.items()})
    return prompt
