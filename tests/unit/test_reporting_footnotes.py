"""Footnotes of the tables, and the sentences on the best arm and early stopping."""

# ruff: noqa: RUF001  (the sentences have dashes and typographic minus signs)

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.results import ArmSummary, Assessment, Comparison, Estimate, Interval, Role
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements
from neftune_cli.metrics import METRICS
from neftune_cli.records import Attestation
from neftune_cli.reporting.footnotes import footnotes, noise_sentence
from neftune_cli.reporting.sections import early_stopping_section
from tests.comparisons import (
    SETTING,
    assessment,
    best_arm,
    comparison,
    early_stopping,
    estimate,
    hand_made,
    noise_test,
    summary,
)
from tests.measured_trials import item_values

VALUES = (1.5, 1.51, 1.52)
CROSSED = "Differences are paired by seed and item. Seeds and items are crossed random factors. "
VERDICTS = (
    "Verdicts: equivalent if the difference is shown to be within the margin; otherwise better or worse if it is shown "
    "to differ from zero (higher or lower for metrics without a preferred direction); inconclusive if neither is shown."
)
UNADJUSTED = (
    "No arms are tested together, so the 95% intervals are not adjusted. The interval of an equivalent arm is the 90% "
    "interval, by which equivalence is tested. Where an interval disagrees with its verdict, it ends at exactly 0 or "
    "at the margin, and carries no information beyond the verdict."
)
SIMULTANEOUS = UNADJUSTED.replace("90%", "99.8%").replace(
    "No arms are tested together, so the 95% intervals are not adjusted.",
    "The 99.9% intervals are simultaneous over the arms (Bonferroni).",
)
NOISE_RATIO = (
    "The noise ratio is the expected norm of one token's noise divided by the median norm of the embeddings. It is "
    "given for a training example of median length. Noise ratio by arm: "
)


def test_all_footnotes_in_order() -> None:
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
        "Mean ± standard deviation over seeds. Losses are in nats per completion token. "
        "↓ lower is better, ↑ higher is better, no arrow: no preferred direction.",
        f"{CROSSED}Verdicts use tests at the 5% level. {UNADJUSTED}",
        VERDICTS,
        "Verdicts generalize to other seeds and items of this setting only: "
        "tiny on bios (3 epochs, learning rate 0.001, batch size 16).",
        "Equivalence margins in each metric's unit, with the keys for --metric and --margin: "
        # 2% of losses of 0.81 and 0.705, 1% of a perplexity of 4.527, 5% of 104 characters
        "noisy training loss (train_loss) 0.0162, noise-off training loss (train_loss_clean) 0.0141, "
        "held-out loss (eval_loss) 0.01, held-out perplexity (eval_perplexity) 0.0453, exact match (exact_match) 0.02, "
        "response length (response_chars) 5.2, repetition (repetition_2gram) 1.",
        "The equivalence margin of held-out loss is 0.0100 nats.",
        "These metrics have no per-item values, so their intervals are over seeds only: "
        "noisy training loss, repetition.",
        f"{NOISE_RATIO}0% (alpha=0), 9.7% (alpha=5).",
        "Noise was measured in 10 of 100 training forward passes. Its root mean square was 1.001 times the value of "
        "the formula. It was added to 100% of real tokens and 0% of padding tokens. Evaluation had 0 forward passes "
        "with noise. 1 hook added the noise.",
        "Seeds of every arm: 0, 1, 2.",
        "Not defined for this data: BLEU.",
        "2 examples were cut.",
        "Missing from these numbers: 15 failed",
    ]


def test_tests_are_adjusted_over_several_arms() -> None:
    assessed = assessment(0.0, 0.02)
    arms = {name: estimate(VALUES, VALUES, assessed) for name in ("alpha=5", "alpha=10", "alpha=15")}

    notes = footnotes(replace(_compared(arms), confidence=0.999))

    assert notes[1] == (
        f"{CROSSED}Verdicts use p-values adjusted for the number of arms (Hommel's method, 3 arms, 0.1% level), "
        f"separately for difference and equivalence. {SIMULTANEOUS}"
    )


def test_arms_of_other_roles_are_not_counted_as_tested_together() -> None:
    roles: dict[str, Role] = {
        "alpha=5": "primary",
        "alpha=10": "exploratory",
        "alpha=15": "exploratory",
        "A/A control": "control",
    }
    arms = {name: estimate(VALUES, VALUES, assessment(0.0, 0.02, role=role)) for name, role in roles.items()}

    note = footnotes(_compared(arms))[1]

    assert "(Hommel's method, 2 arms, 5% level)" in note
    assert "equivalence. The primary arm and each control are tested alone. The 95% intervals" in note
    assert "simultaneous over the arms that are tested together (Bonferroni)" in note


def test_tests_are_adjusted_over_arms_with_a_p_value_only() -> None:
    untested = replace(assessment(0.0, math.nan, None), p_adjusted=math.nan)
    assessed = {name: estimate(VALUES, VALUES, assessment(0.0, 0.02)) for name in ("alpha=5", "alpha=10")}
    without_verdict = {"alpha=15": estimate(VALUES, VALUES, untested), "alpha=20": estimate(VALUES), "alpha=25": None}

    assert "(Hommel's method, 2 arms, 5% level)" in footnotes(_compared(assessed | without_verdict))[1]
    (alone, _) = assessed.items()
    assert "Hommel" not in footnotes(_compared(dict([alone]) | without_verdict))[1]


def test_items_are_not_mentioned_without_per_item_values() -> None:
    notes = footnotes(_compared({"alpha=5": estimate(VALUES, VALUES, assessment(0.0, 0.02, items=1))}))

    assert notes[1].startswith("Differences are paired by seed. Seeds are a random factor. ")
    assert notes[3].startswith("Verdicts generalize to other seeds of this setting only: ")
    assert not any("item" in note for note in notes)


def test_two_seeds_without_items_have_no_interval() -> None:
    assessed = assessment(-0.1, math.nan, None, seeds=2, items=1)

    notes = footnotes(_compared({"alpha=5": estimate((1.4, 1.41), VALUES[:2], assessed)}))

    assert notes[1:3] == [
        "Differences are paired by seed.",
        "With fewer than three paired seeds (alpha=5), differences describe these trained models, not the method.",
    ]
    assert "– no verdict: fewer than three paired seeds." in notes
    assert "– no interval: a metric without per-item values needs three paired seeds." in notes


def test_arms_without_items_are_named_if_others_have_items() -> None:
    assessed = {name: assessment(0.0, 0.02, items=items) for name, items in (("5", 20), ("10", 1))}

    notes = footnotes(_compared({name: estimate(VALUES, VALUES, one) for name, one in assessed.items()}))

    assert "These metrics have no per-item values, so their intervals are over seeds only: held-out loss (10)." in notes


def test_two_seeds_describe_checkpoints_without_a_verdict() -> None:
    assessed = assessment(-0.1, 0.05, None, seeds=2)

    notes = footnotes(_compared({"alpha=5": estimate((1.4, 1.41), VALUES[:2], assessed)}))

    assert notes[1] == "Differences are paired by seed and item. The 95% intervals shown are unadjusted."
    assert notes[2] == (
        "With fewer than three paired seeds (alpha=5), intervals are unadjusted and describe these trained models, "
        "not the method: they generalize to other items but not to other seeds."
    )
    assert "– no verdict: fewer than three paired seeds." in notes
    assert not any(note.startswith("Verdicts") for note in notes)


def test_only_arms_with_few_seeds_lack_verdicts() -> None:
    enough = estimate(VALUES, VALUES, assessment(0.0, 0.02))
    few = estimate(VALUES[:1], VALUES, assessment(0.0, 0.02, None, seeds=1))

    notes = footnotes(_compared({"alpha=5": enough, "alpha=10": few}))

    assert any(note.startswith("Verdicts generalize to other seeds and items") for note in notes)
    assert any(note.startswith("With fewer than three paired seeds (alpha=10), intervals") for note in notes)
    assert "Seeds: 0, 1, 2 (alpha=0); 0, 1, 2 (alpha=5); 0 (alpha=10)." in notes


def test_few_seeds_of_some_metrics_name_these() -> None:
    enough = estimate(VALUES, VALUES, assessment(0.0, 0.02))
    few = estimate(VALUES[:1], VALUES, assessment(0.0, 0.02, None, seeds=1))
    values = {"eval_loss": estimate(VALUES), "repetition_2gram": estimate(VALUES)}
    treated = summary("alpha=5", 5.0, {"eval_loss": enough, "repetition_2gram": few})

    notes = footnotes(comparison(summary("alpha=0", 0.0, values), treated))

    assert any(note.startswith("With fewer than three paired seeds (alpha=5 in repetition), ") for note in notes)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (estimate((math.nan, 1.4, 1.5), VALUES), "a value is not finite"),
        (estimate(VALUES), "no seed is shared with alpha=0"),
        (estimate(VALUES, VALUES), "no item is shared with alpha=0"),
        (
            estimate(VALUES, VALUES, assessment(0.0, math.nan, None)),
            "the differences do not vary, so their standard error is unknown",
        ),
        (None, "the metric is not defined for the arm"),
    ],
)
def test_reasons_for_missing_verdicts(missing: Estimate | None, reason: str) -> None:
    assessed = estimate(VALUES, VALUES, assessment(0.0, 0.02))

    notes = footnotes(_compared({"alpha=5": assessed, "alpha=10": missing}))

    assert f"– no verdict: {reason}." in notes


def test_advice_and_footnote_have_the_same_reason_if_no_item_is_shared() -> None:
    trials = [
        Measurements(
            trial_id=f"{arm}-{seed}",
            arm=arm,
            alpha=alpha,
            seed=seed,
            scores={"eval_loss": 1.5 + seed},
            items={"eval_loss": item_values([1.4 + seed, 1.6 + seed], names=items)},
            held_out_by_epoch={},
        )
        for arm, alpha, items in (("alpha=0", 0.0, ("a", "b")), ("alpha=5", 5.0, ("c", "d")))
        for seed in range(3)
    ]
    metrics = {"eval_loss": METRICS["eval_loss"]}

    compared = compare_arms(Evidence("bios", SETTING, tuple(trials), metrics))

    assert "Alpha 5 has no verdict, because no item is shared with alpha 0." in advice(compared)
    assert "– no verdict: no item is shared with alpha=0." in footnotes(compared)


def test_single_arm_has_no_sentences_on_inference() -> None:
    notes = footnotes(comparison(hand_made().arms[0]))

    assert [note.split()[0] for note in notes] == ["Mean", "Seeds", "Not"]


def test_different_margins_of_arms_are_a_range() -> None:
    arms = {name: estimate(VALUES, VALUES, _with_margin(margin)) for name, margin in (("5", 0.0512), ("10", 0.05))}

    assert any(note.endswith(": held-out loss (eval_loss) 0.05 to 0.0512.") for note in footnotes(_compared(arms)))


def test_unadjusted_intervals_are_given_beside_the_simultaneous_ones() -> None:
    wider = replace(assessment(0.02, 0.01), interval=Interval(-0.1, 0.14))
    arms = {name: estimate(VALUES, VALUES, wider) for name in ("5", "10")}

    notes = footnotes(_compared(arms))

    assert (
        "Unadjusted 95% intervals of held-out loss, which need not match the verdicts: +0.0200 [+0.0100, +0.0300] (5), "
        "+0.0200 [+0.0100, +0.0300] (10)."
    ) in notes
    assert not any(note.startswith("Unadjusted") for note in footnotes(_compared({"5": arms["5"]})))


def test_the_noise_test_is_explained() -> None:
    arms = {name: estimate(VALUES, VALUES, assessment(0.0, 0.02)) for name in ("5", "10")}
    test = noise_test(assessment(0.01, 0.02), assessment(0.03, 0.02, "worse"), list(arms), p_value=0.0123)

    (note,) = [
        note
        for note in footnotes(replace(_compared(arms), noise_tests={"eval_loss": test}))
        if note.startswith("The any-noise test ")
    ]

    assert "The any-noise test on held-out loss combines the mean" in note
    assert "their trend over alpha and the difference of each arm (Simes' test, p = 0.012)." in note
    small = replace(_compared(arms), noise_tests={"eval_loss": replace(test, p_value=0.00002)})
    assert any("(Simes' test, p < 0.001)." in note for note in footnotes(small))
    assert note.endswith(
        "mean of 2 arms: +0.0100 [−0.0100, +0.0300], inconclusive; "
        "trend from 0 to 0: +0.0300 [+0.0100, +0.0500], rises with alpha."
    )


def test_seeds_that_agree_too_well_are_named() -> None:
    assessed = assessment(0.0, 0.02)
    agreeing = replace(assessed.paired, crossed=replace(assessed.paired.crossed, seed_ratio=0.08))
    arms = {"5": assessed, "10": replace(assessed, paired=agreeing)}

    notes = footnotes(_compared({name: estimate(VALUES, VALUES, one) for name, one in arms.items()}))

    # F = 0.08 with 2 and 38 degrees of freedom has a lower tail of 0.077
    assert (
        "The differences of 10 in held-out loss vary less between seeds than the residual variation alone would "
        "produce (lower-tailed F test, 10% level). The variance between seeds may be underestimated, and the interval "
        "too narrow."
    ) in notes


def test_the_margin_is_stated_with_its_rule_and_without_a_number_of_seeds_if_none_is_enough() -> None:
    limited = assessment(0.0, 0.02)
    mean = replace(limited.paired.crossed, item_variance=1.0)
    compared = _compared(
        {"5": estimate(VALUES, VALUES, replace(limited, paired=replace(limited.paired, crossed=mean)))}
    )
    margin = METRICS["eval_loss"].margin.resolved(1.5, gain=2.0)

    notes = footnotes(replace(compared, margins={"eval_loss": margin}))

    (note,) = [note for note in notes if note.startswith("The equivalence margin ")]
    assert note.startswith("The equivalence margin of held-out loss is 0.0200 nats (1% of the gain of fine-tuning). ")
    assert note.endswith(
        "No number of seeds up to 1,000,000 shows equivalence with 80% power on these held-out examples."
    )


def test_the_margin_is_compared_with_the_variation_of_the_seeds() -> None:
    notes = footnotes(_compared({"5": estimate(VALUES, VALUES, assessment(0.0, 0.02))}))

    # The standard deviation is s = 0.02 / 4.3027 * sqrt(3) = 0.00805. In simulated pairs of one-sided t-tests with the
    # margin of 0.01, the power is 79% with 7 seeds and 87% with 8. With s^2 * 2 / 4.605 (chi-squared) it is 78% with 4
    # and 92% with 5, and with s^2 * 2 / 0.2107 it is 79.9% with 54 and 80.9% with 55.
    assert (
        "The equivalence margin of held-out loss is 0.0100 nats. It is 1.2 of the per-seed standard deviation for "
        "5. If the true difference is 0, showing equivalence with 80% power takes about 8 seeds (5 to 55) "
        "for 5, fixed in advance. The ranges follow from the 80% interval of the standard deviation."
    ) in notes


def test_noise_ratio_is_left_out_if_no_arm_measured_it() -> None:
    arms = [ArmSummary(name, None, (0,), None, {"eval_loss": estimate((1.5,))}) for name in ("plain", "noisy")]

    assert noise_sentence(comparison(*arms)) is None
    sentence = noise_sentence(comparison(arms[0], replace(arms[1], noise_ratio=0.123)))
    assert sentence == f"{NOISE_RATIO}not measured (plain), 12.3% (noisy)."


def test_best_arm_of_one_seed_is_selected_on_items_only() -> None:
    gain = assessment(-0.001, math.nan, None, seeds=1).paired
    sentences = best_arm_sentences(replace(hand_made(), best=replace(best_arm(), advantage=gain)))

    assert sentences is not None
    assert "the arm was selected on the same items." in sentences
    assert "The items were split into halves many times, and the best arm on one half was selected." in sentences
    assert (
        "In the splits that selected alpha=5, its difference on the other half was on average −0.0010. If" in sentences
    )


def test_best_arm_and_early_stopping_are_optional() -> None:
    assert best_arm_sentences(hand_made()) is None
    assert early_stopping_section(hand_made()) is None


def test_diverged_arm_has_no_verdict_at_its_best_epoch() -> None:
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


def test_arms_before_the_first_planned_look_have_this_reason_at_their_best_epoch() -> None:
    stopped = tuple(replace(arm, last=None, best=None) for arm in early_stopping().arms)
    plan = AnalysisPlan(looks=(8, 12), seeds=tuple(range(12)))
    whole = replace(hand_made(), early_stopping=replace(early_stopping(), arms=stopped), plan=plan)

    section = early_stopping_section(whole)

    assert section is not None
    (_, treated) = section.blocks[-1].differences or ()
    assert (treated.number, treated.remark) == ("–", "the first planned look has not been taken")


def test_seeds_for_equivalence_count_the_arms_that_are_tested_together() -> None:
    """An arm with two seeds is not tested, so it does not make the tests of the others stricter."""
    open_arm = estimate(VALUES, VALUES, assessment(0.0, 0.04))
    untested = estimate(
        VALUES[:2], VALUES, replace(assessment(0.0, 0.04, None, seeds=2), p_adjusted=math.nan, p_equivalent=math.nan)
    )

    alone, beside, together = (
        next(note for note in footnotes(_compared(arms)) if note.startswith("The equivalence margin"))
        for arms in ({"5": open_arm}, {"5": open_arm, "10": untested}, {"5": open_arm, "10": open_arm})
    )

    assert alone == beside
    assert "about" in alone
    # The variance is 3 * (0.04 / 4.302653)^2. In simulated pairs of one-sided t-tests at the level of 5%, the power is
    # 78.7% with 23 seeds and 81.0% with 24; at the level of two tests, 79.7% with 29 and 81.7% with 30.
    assert "with 80% power takes about 24 seeds (" in alone
    assert "with 80% power takes about 30 seeds (" in together


def test_open_arms_share_one_sentence_about_the_seeds_that_equivalence_takes() -> None:
    arms = {name: estimate(VALUES, VALUES, assessment(0.0, 0.04)) for name in ("5", "10", "15")}

    (note,) = (note for note in footnotes(_compared(arms)) if note.startswith("The equivalence margin"))

    assert note.count("per-seed standard deviation") == note.count("showing equivalence") == 1
    numbers = re.findall(r"about ([0-9]+)( seeds)? [(][0-9]+ to [0-9,]+[)] for (5|10|15)", note)
    assert [(name, noun) for _, noun, name in numbers] == [("5", " seeds"), ("10", ""), ("15", "")]
    assert len({count for count, _, _ in numbers}) == 1  # the three arms vary alike


def _with_margin(margin: float) -> Assessment:
    return assessment(0.0, 0.02, margin=margin)


def _compared(treated: Mapping[str, Estimate | None]) -> Comparison:
    arms = [summary(name, None, {"eval_loss": one}) for name, one in treated.items()]
    return comparison(summary("alpha=0", 0.0, {"eval_loss": estimate(VALUES)}), *arms)
