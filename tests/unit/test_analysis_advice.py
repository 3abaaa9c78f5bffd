"""The advice says what the assessments allow, word for word, and nothing more."""

import math
from dataclasses import replace
from itertools import combinations
from typing import get_args

import pytest

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.results import Assessment, Comparison, Estimate, Verdict
from tests.unit.comparisons import assessment, best_arm, comparison, early_stopping, estimate, summary

REACH = (
    "for tiny on bios (3 epochs, learning rate 0.001, batch size 16), over seeds 0, 1, 2; "
    "another model, data set or recipe needs its own sweep."
)
LOSSES = [1.5, 1.51, 1.52]


def test_a_better_arm_is_recommended_with_what_choosing_it_gains() -> None:
    judged = assessment(-0.02, 0.01, "better"), assessment(-0.03, 0.015, "better")
    compared = replace(_compare(*judged), best=replace(best_arm(), arm="alpha=10"))

    assert advice(compared) == (
        "Use alpha 10: held-out loss beside alpha 0: "
        "alpha 5 is lower by 0.0200 nats (95% interval \N{MINUS SIGN}0.0300 to \N{MINUS SIGN}0.0100); "
        "alpha 10 is lower by 0.0300 nats (95% interval \N{MINUS SIGN}0.0450 to \N{MINUS SIGN}0.0150); all better. "
        "It was chosen among 2 arms, which flatters it: chosen on one part of seeds and items and measured on "
        "the other, held-out loss is lower by 0.0010 nats (95% interval \N{MINUS SIGN}0.0053 to +0.0033). "
        f"This holds {REACH}"
    )


def test_noise_that_stopping_earlier_may_replace_is_not_recommended_alone() -> None:
    compared = replace(_compare(assessment(-0.02, 0.01, "better")), early_stopping=early_stopping())

    text = advice(compared)

    assert text.startswith(
        "Stop earlier or use alpha 5: which of them is better is open. "
        "After the last epoch, held-out loss beside alpha 0: alpha 5 is lower by 0.0200 nats"
    )
    assert (
        "Alpha 0 is at its best at epoch 2.0 of 3 on average, and after the last one higher by 0.0600 nats, worse. "
        "With both at their best epochs, alpha 5 is lower by 0.0010 nats "
        "(95% interval \N{MINUS SIGN}0.0130 to +0.0110), inconclusive."
    ) in text


def test_noise_that_stopping_earlier_replaces_is_not_recommended() -> None:
    stopping = early_stopping()
    baseline, treated = stopping.arms
    same = replace(treated, best=assessment(-0.001, 0.004, "equivalent"))
    compared = replace(
        _compare(assessment(-0.02, 0.01, "better")), early_stopping=replace(stopping, arms=(baseline, same))
    )

    assert advice(compared).startswith("Stop earlier before you add noise: it brings as much. After the last epoch,")


def test_stopping_says_nothing_of_another_metric() -> None:
    compared = _compare(assessment(0.0, 0.01), others={"rouge_l": assessment(0.1, 0.05, "better")})

    text = advice(replace(compared, primary="rouge_l", early_stopping=early_stopping()))

    assert text.startswith("Use alpha 5: ROUGE-L beside alpha 0: alpha 5 is higher by 0.100")
    assert "epoch" not in text.split("This holds")[0]


def test_a_noisy_baseline_is_not_told_to_leave_the_noise_off() -> None:
    arms = (
        summary("alpha=5", 5.0, {"eval_loss": estimate(LOSSES)}),
        summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.02, 0.01, "worse"))}),
    )

    assert advice(comparison(*arms)).startswith("Stay with alpha 5: held-out loss beside alpha 5: alpha 0 is higher")


@pytest.mark.parametrize("words", [w for n in (1, 2, 3) for w in combinations([*get_args(Verdict), None], n)])
def test_every_mixture_of_verdicts_has_its_advice(words: tuple[Verdict | None, ...]) -> None:
    judged = [assessment(0.02, 0.03, word, seeds=3 if word else 2) for word in words]

    text = advice(_compare(*judged))

    assert ("checkpoints" in text) == (None in words)
    assert "This holds" in text or words == (None,)


def test_noise_that_does_harm_or_nothing_is_left_off() -> None:
    text = advice(_compare(assessment(0.02, 0.01, "worse"), assessment(0.001, 0.004, "equivalent")))

    assert text.startswith("Leave the noise off: held-out loss beside alpha 0: alpha 5 is higher by 0.0200 nats")
    assert "alpha 10 is higher by 0.0010 nats (95% interval \N{MINUS SIGN}0.0030 to +0.0050), equivalent." in text


def test_a_few_more_seeds_are_advised_where_they_would_settle_it() -> None:
    compared = _compare(assessment(0.02, 0.03, seeds_needed=9), assessment(-0.02, 0.03, seeds_needed=7))

    assert advice(compared).startswith(
        "Run about 4 more seeds before deciding (--seeds 7): they would settle alpha 10, "
        "if its difference is as large as it looks. So far, held-out loss beside alpha 0: alpha 5 is higher"
    )


def test_many_more_seeds_are_no_advice() -> None:
    assert advice(_compare(assessment(0.02, 0.0430, seeds_needed=48))).startswith(
        "Leave the noise off for now: 3 seeds show neither a gain nor that held-out loss changes by less "
        "than 0.0100 nats, though a true change of 0.0535 nats would most likely have been seen. "
        "It would take about 48 seeds in all."
    )


def test_where_the_items_are_the_limit_it_is_said() -> None:
    assert "More seeds alone would not settle it. So far," in advice(_compare(assessment(0.02, 0.03)))


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 paired seed"), (2, "2 paired seeds")])
def test_few_seeds_speak_about_checkpoints(seeds: int, words: str) -> None:
    text = advice(_compare(assessment(0.02, 0.03, None, seeds=seeds)))

    assert text.startswith(
        f"No verdict: with {words} the numbers speak about these checkpoints alone. Between them, held-out loss"
    )
    assert "It takes at least 3 seeds, better 5 (--seeds 5), to learn about the method." in text
    assert f"The numbers are {REACH}" in text


def test_what_else_changed_is_named() -> None:
    changed = {
        "eval_perplexity": assessment(0.1, 0.05, "worse"),  # the same as the loss
        "exact_match": assessment(-0.1, 0.05, "worse"),
        "rouge_l": assessment(0.1, 0.05, "better"),
        "response_chars": assessment(9.0, 5.0, "higher"),  # neither good nor bad
    }

    text = advice(_compare(assessment(0.02, 0.01, "worse"), others=changed))

    assert "What the noise cost, each metric tested by itself: Exact match worse with alpha 5." in text
    assert "What the noise brought beside, each metric tested by itself: ROUGE-L better with alpha 5." in text


def test_a_metric_without_a_good_direction_gets_no_recommendation() -> None:
    compared = _compare(assessment(0.02, 0.01), others={"response_chars": assessment(9.0, 5.0, "higher")})

    text = advice(replace(compared, primary="response_chars"))

    assert text.startswith("Answer length changes, and neither way is good by itself: answer length beside alpha 0:")


def test_arms_without_a_verdict_are_named_with_the_reason() -> None:
    nowhere = summary("alpha=10", 10.0, {"eval_loss": replace(estimate(LOSSES), difference=None)})
    diverged = summary("alpha=15", 15.0, {"eval_loss": estimate([math.nan] * 3, LOSSES)})
    equal = summary("alpha=20", 20.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.0, 0.0, None))})
    compared = _compare(assessment(0.02, 0.01, "worse"))

    text = advice(replace(compared, arms=(*compared.arms, nowhere, diverged, equal)))

    assert "Alpha 10 has no verdict: it shares no measured seed with alpha 0." in text
    assert "Alpha 15 has no verdict: a value of it or of alpha 0 isn't finite." in text
    assert "Alpha 20 has no verdict: nothing in its differences varies, so nothing says how sure they are." in text


def test_nothing_comparable_is_no_evidence() -> None:
    assert advice(_compare(None)).startswith("No verdict on held-out loss. Alpha 5 has no verdict:")


def test_seeds_are_those_that_were_paired() -> None:
    longer = summary(
        "alpha=10", 10.0, {"eval_loss": estimate([1.6] * 5, [1.5] * 5, assessment(0.1, 0.01, "worse", seeds=5))}
    )
    compared = _compare(assessment(0.02, 0.01, "worse"))

    assert "over 3 to 5 seeds an arm" in advice(replace(compared, arms=(*compared.arms, longer)))


def test_a_single_arm_is_compared_with_nothing() -> None:
    alone = comparison(summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES)}))

    assert advice(alone) == "alpha=0 is the only arm that has finished: there is nothing to compare it with."


def test_names_of_ones_own_stay_as_they_are() -> None:
    arms = (
        summary("no noise", 0.0, {"eval_loss": estimate(LOSSES)}),
        summary(
            "alpha=5,noise=gaussian", 5.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.02, 0.01, "worse"))}
        ),
    )

    assert "held-out loss beside no noise: alpha=5,noise=gaussian is higher by" in advice(comparison(*arms))


def _compare(*judged: Assessment | None, others: dict[str, Assessment] | None = None) -> Comparison:
    """Return arms of alpha 5, 10, ... with these assessments of their held-out loss, the first with others as well."""
    extra = others or {}
    arms = [summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES)})]
    for place, one in enumerate(judged):
        estimates: dict[str, Estimate | None] = {"eval_loss": estimate(LOSSES, LOSSES, one)}
        if not place:
            estimates |= {key: estimate(LOSSES, LOSSES, other) for key, other in extra.items()}
        arms.append(summary(f"alpha={5 * (place + 1)}", 5.0 * (place + 1), estimates))
    return comparison(*arms)
