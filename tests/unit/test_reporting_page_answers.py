"""Prompts put side by side, in the order in which a page has room for them, and what is drawn beside an interval."""

from dataclasses import replace

import pytest

from neftune_cli.evidence.metrics import METRICS
from neftune_cli.records import Generation
from neftune_cli.reporting.cells import judged_difference
from neftune_cli.reporting.page.answers import in_turn, shown
from neftune_cli.reporting.page.chapter import WIDTH, draw_intervals
from neftune_cli.reporting.page.content import PromptAnswers, side_by_side
from tests.page_contents import ALPHAS, comparison, generation


def test_prompts_that_all_arms_answered_are_put_side_by_side_held_out_ones_first() -> None:
    first = [generation("base", 1, split="probe"), generation("base", 2), generation("base", 3)]
    second = [generation("alpha=0", 3), generation("alpha=0", 2), generation("alpha=0", 1, split="probe")]

    prompts = side_by_side({"base": first, "alpha=0": [*second, generation("alpha=0", 9)]})

    assert [(one.split, one.example) for one in prompts] == [
        ("held-out", "0002"),
        ("held-out", "0003"),
        ("probe", "0001"),
    ]
    assert prompts[0].answers == {"base": first[1], "alpha=0": second[1]}
    assert side_by_side({}) == []


def test_the_same_example_in_two_splits_is_two_prompts() -> None:
    both = [generation("base", 1, split="probe"), generation("base", 1)]

    assert [one.split for one in side_by_side({"base": both})] == ["held-out", "probe"]


def test_kinds_take_turns_and_those_the_arms_differ_on_come_first() -> None:
    scored = [
        # example, kind, ROUGE-L of base, alpha=0 and alpha=5
        ("a", "fact", 0.0, 0.9, 0.9),
        ("b", "fact", 0.5, 0.2, 0.8),
        ("c", "list", 0.5, 0.5, 0.6),
        ("d", "fact", 0.5, 0.2, 0.4),
        ("e", "fact", 0.9, 0.9, 0.9),
    ]
    prompts = [_scored(example, kind, scores) for example, kind, *scores in scored]

    assert [one.example for one in in_turn(prompts)] == ["b", "c", "d", "a", "e"]
    assert [one.example for one in in_turn(prompts[::-1])] == ["b", "c", "d", "a", "e"]


def test_training_prompts_are_a_kind_of_their_own() -> None:
    prompts = [_scored("a", "fact", [0.0, 0.5, 0.5]), replace(_scored("b", "fact", [0.0, 0.5, 0.5]), split="probe")]

    assert [one.kind for one in shown(prompts)] == ["fact", "training prompt"]


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
def test_the_chat_template_is_told_from_the_question(prompts: list[str], questions: list[str]) -> None:
    made = [replace(_scored("a", "fact", [0.0, 0.5, 0.5]), prompt=prompt) for prompt in prompts]

    assert [one.question.text for one in shown(made)] == questions
    assert [one.before + one.question.text + one.after for one in shown(made)] == prompts


@pytest.mark.parametrize(
    ("scores", "summary"),
    [
        ([0.1, 1.0, 1.0], "all arms equal the reference"),
        ([1.0, 0.25, 1.0], "1 of 2 arms equal the reference; ROUGE-L 0.25 to 1.00"),
        ([1.0, 0.25, 0.25], "0 of 2 arms equal the reference; ROUGE-L 0.25"),
        ([0.3], ""),
    ],
)
def test_the_summary_is_about_the_trained_arms(scores: list[float], summary: str) -> None:
    (prompt,) = shown([_scored("a", "fact", scores)])

    assert prompt.summary == summary


def test_pictures_share_a_scale_that_has_no_difference_in_it() -> None:
    whole = comparison()
    judged = {arm: whole.judgement(arm, "eval_loss") for arm in ALPHAS}

    drawings = draw_intervals(judged)

    assert list(drawings) == ["alpha=5", "alpha=10", "alpha=15"]
    assert drawings["alpha=5"].low == 6.0
    assert drawings["alpha=15"].high == WIDTH - 6.0
    assert len({one.zero for one in drawings.values()}) == 1
    for one in drawings.values():
        assert one.low < one.mean < one.high
        assert one.margin_low < one.zero < one.margin_low + one.margin_width
    assert drawings["alpha=5"].high < drawings["alpha=5"].zero < drawings["alpha=15"].low
    assert draw_intervals({"alpha=0": None}) == {}


@pytest.mark.parametrize(("needed", "hint"), [(12, "about 12 seeds"), (None, "seeds won't settle it")])
def test_an_inconclusive_verdict_says_what_would_settle_it(needed: int | None, hint: str) -> None:
    judgement = comparison().judgement("alpha=5", "eval_loss")
    assert judgement is not None

    metric = METRICS["eval_loss"]
    open_ = replace(judgement, word="inconclusive", seeds_needed=needed)
    assert judged_difference(open_, metric).remark == hint
    assert judged_difference(judgement, metric).remark == ""


def _scored(example: str, kind: str, scores: list[float]) -> PromptAnswers:
    def answer(score: float) -> Generation:
        return generation("", 1, example=example, kind=kind, rouge_l=score, exact_match=score == 1.0)

    (prompt,) = side_by_side({arm: [answer(score)] for arm, score in zip(("base", *ALPHAS), scores, strict=False)})
    return prompt
