"""The sentences under the tables: what the numbers mean, how sure they are, and why a verdict is missing."""

# ruff: noqa: RUF001  (the sentences have dashes in them)

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from neftune_cli.analysis.results import ArmSummary, Comparison, Estimate, Judgement
from neftune_cli.records import Attestation
from neftune_cli.reporting.footnotes import footnotes, noise_sentence
from neftune_cli.reporting.selection import best_arm_sentences, early_stopping_section
from tests.unit.comparisons import best_arm, comparison, early_stopping, estimate, hand_made, judgement, summary

VALUES = (1.5, 1.51, 1.52)
TWO_SAMPLES = (
    "Differences are paired by seed and item, seeds and items being two samples that might have come out otherwise. "
)


def test_all_of_them_in_their_order() -> None:
    attested = Attestation(
        calls=100,
        measured_calls=10,
        rms=1.001,
        noise_to_embedding=0.1,
        noised_share=1.0,
        noised_padding=0.0,
        evaluation_calls=0,
        hooks=1,
    )
    whole = replace(hand_made(), attestations=(attested,), notes=("2 examples were cut.",), unfinished=("15 failed",))

    assert footnotes(whole) == [
        "Mean ± standard deviation over seeds. Losses in nats per completion token. "
        "↓ lower is good, ↑ higher is good, no arrow: neither by itself.",
        f"{TWO_SAMPLES}95% intervals, each for itself; verdicts at the 5% level: better, worse, or higher and lower "
        "where neither is good by itself; equivalent if shown to be within the margin; inconclusive if neither is "
        "shown.",
        "Verdicts are about the method, with other seeds and items like these, on this setting alone: "
        "tiny on bios (3 epochs, learning rate 0.001, batches of 16).",
        "Margins up to which a difference counts as none, in each metric's unit (--margin sets them): "
        # 2% of losses of 0.81 and 0.705, 1% of a perplexity of 4.527, 5% of 104 characters
        "0.0162 (Noisy training loss); 0.0141 (Noise-off training loss); 0.01 (Held-out loss); "
        "0.0453 (Held-out perplexity); 0.02 (Exact match); 5.2 (Answer length); 1 (Repeated 2-grams).",
        "Held-out loss: a true difference of this size would be found four times out of five: 0.0054 (alpha=5).",
        "Scores of all items together, whose intervals are over seeds alone: Noisy training loss, Repeated 2-grams.",
        "Noise norm / embedding norm at the median length: 0% (alpha=0), 9.7% (alpha=5).",
        "Noise as measured in 10 of 100 training calls: RMS 1.001 of the formula's, 100% of real tokens and 0% of "
        "padding noised, 0 calls in evaluation, 1 hook.",
        "Seeds of every arm: 0, 1, 2.",
        "Not defined for this data: BLEU.",
        "2 examples were cut.",
        "Not in these numbers: 15 failed",
    ]


def test_several_arms_are_corrected_for() -> None:
    judged = judgement(0.0, 0.02)
    arms = {name: estimate(VALUES, VALUES, judged) for name in ("alpha=5", "alpha=10", "alpha=15")}

    notes = footnotes(replace(_compared(arms), confidence=0.999))

    assert notes[1].startswith(
        f"{TWO_SAMPLES}99.9% intervals, each for itself; verdicts at the 0.1% level, differences and equivalences each "
        "corrected for 3 arms (Holm): better,"
    )


def test_only_arms_with_a_p_value_are_corrected_for() -> None:
    untested = replace(judgement(0.0, math.nan, None), p_adjusted=math.nan)
    judged = {name: estimate(VALUES, VALUES, judgement(0.0, 0.02)) for name in ("alpha=5", "alpha=10")}
    unjudged = {"alpha=15": estimate(VALUES, VALUES, untested), "alpha=20": estimate(VALUES), "alpha=25": None}

    assert "each corrected for 2 arms (Holm)" in footnotes(_compared(judged | unjudged))[1]
    (alone, _) = judged.items()
    assert "Holm" not in footnotes(_compared(dict([alone]) | unjudged))[1]


def test_nothing_is_said_of_items_where_there_are_none() -> None:
    theirs = footnotes(_compared({"alpha=5": estimate(VALUES, VALUES, judgement(0.0, 0.02, items=1))}))

    assert theirs[1].startswith("Differences are paired by seed, seeds being a sample that might have come out otherw")
    assert theirs[2].startswith("Verdicts are about the method, with other seeds like these, on this setting alone: ")
    assert not any("item" in note for note in theirs)


def test_two_seeds_without_items_have_no_interval() -> None:
    judged = judgement(-0.1, math.nan, None, seeds=2, items=1)

    notes = footnotes(_compared({"alpha=5": estimate((1.4, 1.41), VALUES[:2], judged)}))

    assert notes[1:3] == [
        "Differences are paired by seed.",
        "With fewer than three paired seeds (alpha=5) differences are about these checkpoints, not about the method.",
    ]
    assert "– no verdict: fewer than three paired seeds." in notes
    assert "– no interval: a score without items needs three paired seeds." in notes


def test_arms_without_items_are_named_where_others_have_some() -> None:
    judged = {name: judgement(0.0, 0.02, items=items) for name, items in (("5", 20), ("10", 1))}

    notes = footnotes(_compared({name: estimate(VALUES, VALUES, one) for name, one in judged.items()}))

    assert "Scores of all items together, whose intervals are over seeds alone: Held-out loss (10)." in notes


def test_two_seeds_speak_of_checkpoints_and_give_no_verdict() -> None:
    judged = judgement(-0.1, 0.05, None, seeds=2)

    notes = footnotes(_compared({"alpha=5": estimate((1.4, 1.41), VALUES[:2], judged)}))

    assert notes[1] == "Differences are paired by seed and item. 95% intervals, each for itself."
    assert notes[2] == (
        "With fewer than three paired seeds (alpha=5) intervals are about these checkpoints, not about the method: "
        "other items, but not other seeds."
    )
    assert "– no verdict: fewer than three paired seeds." in notes
    assert not any("about the method, with" in note for note in notes)


def test_only_the_arms_with_few_seeds_are_held_back() -> None:
    enough = estimate(VALUES, VALUES, judgement(0.0, 0.02))
    few = estimate(VALUES[:1], VALUES, judgement(0.0, 0.02, None, seeds=1))

    notes = footnotes(_compared({"alpha=5": enough, "alpha=10": few}))

    assert any(note.startswith("Verdicts are about the method, with other seeds and items") for note in notes)
    assert any(note.startswith("With fewer than three paired seeds (alpha=10) intervals") for note in notes)
    assert "Seeds: 0, 1, 2 (alpha=0); 0, 1, 2 (alpha=5); 0 (alpha=10)." in notes


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (estimate((math.nan, 1.4, 1.5), VALUES), "a value isn't finite"),
        (estimate(VALUES), "no seed is shared with alpha=0"),
        (estimate(VALUES, VALUES), "no item is shared with alpha=0"),
        (
            estimate(VALUES, VALUES, judgement(0.0, math.nan, None)),
            "nothing varies in the differences, so nothing says how sure they are",
        ),
        (None, "the metric isn't defined for the arm"),
    ],
)
def test_why_there_is_no_verdict(missing: Estimate | None, reason: str) -> None:
    judged = estimate(VALUES, VALUES, judgement(0.0, 0.02))

    notes = footnotes(_compared({"alpha=5": judged, "alpha=10": missing}))

    assert f"– no verdict: {reason}." in notes


def test_nothing_is_said_of_certainty_where_nothing_is_compared() -> None:
    notes = footnotes(comparison(hand_made().arms[0]))

    assert [note.split()[0] for note in notes] == ["Mean", "Seeds", "Not"]


def test_margins_of_arms_with_different_seeds_are_a_range() -> None:
    arms = {name: estimate(VALUES, VALUES, _with_margin(margin)) for name, margin in (("5", 0.0512), ("10", 0.05))}

    assert any(
        note.endswith("(--margin sets them): 0.05 to 0.0512 (Held-out loss).") for note in footnotes(_compared(arms))
    )


def test_a_difference_that_can_not_be_planned_for_is_left_out() -> None:
    unknown, few = replace(judgement(0.0, 0.02), detectable=math.nan), judgement(0.0, 0.02, None, seeds=2)
    judged = {"5": unknown, "10": judgement(0.0, 0.04), "15": few}
    arms = {name: estimate(VALUES, VALUES, one) for name, one in judged.items()}

    (note,) = [note for note in footnotes(_compared(arms)) if "four times out of five" in note]

    # 5.35 standard errors, a standard error being 0.04 / 4.3027
    assert note.endswith("four times out of five: 0.0497 (10).")


def test_noise_that_nobody_measured_is_not_mentioned() -> None:
    theirs = [ArmSummary(name, None, (0,), None, {"eval_loss": estimate((1.5,))}) for name in ("plain", "noisy")]

    assert noise_sentence(comparison(*theirs)) is None
    sentence = noise_sentence(comparison(theirs[0], replace(theirs[1], noise_ratio=0.123)))
    assert sentence == "Noise norm / embedding norm at the median length: not measured (plain), 12.3% (noisy)."


def test_the_best_arm_of_one_seed_was_chosen_on_items_alone() -> None:
    gain = judgement(-0.001, math.nan, None, seeds=1).comparison
    sentences = best_arm_sentences(replace(hand_made(), best=replace(best_arm(), gain=gain)))

    assert sentences is not None
    assert "on the items that it was chosen on" in sentences
    assert "Chosen on one part of items, measured on the other: −0.0010. Best in" in sentences


def test_no_best_arm_and_no_epochs_are_nothing_to_say() -> None:
    assert best_arm_sentences(hand_made()) is None
    assert early_stopping_section(hand_made()) is None


def test_an_arm_that_diverged_has_no_verdict_at_its_best_epoch() -> None:
    baseline, treated = early_stopping().arms
    diverged = replace(treated, last_loss=math.inf, last=None, best=None)
    stopping = replace(early_stopping(), arms=(baseline, treated, diverged))

    section = early_stopping_section(replace(hand_made(), early_stopping=stopping))

    assert section is not None
    _, at_best, at_last = section.blocks
    assert [line[2:] for line in section.lines(at_best)] == [
        ["", "", ""],
        ["−0.0010", "[−0.0130, +0.0110]", "inconclusive"],
        ["–", "–", "–"],
    ]
    assert section.lines(at_last)[2][1:] == ["not finite", "–", "–", "–"]


def _with_margin(margin: float) -> Judgement:
    return judgement(0.0, 0.02, margin=margin)


def _compared(treated: Mapping[str, Estimate | None]) -> Comparison:
    arms = [summary(name, None, {"eval_loss": one}) for name, one in treated.items()]
    return comparison(summary("alpha=0", 0.0, {"eval_loss": estimate(VALUES)}), *arms)
