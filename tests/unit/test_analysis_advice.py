"""Texts of the advice for every decision."""

import math
import re
from dataclasses import replace
from itertools import combinations
from typing import get_args

import pytest

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.decision import control_findings
from neftune_cli.analysis.headline import compatible_range, headline
from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.results import Assessment, Comparison, Departure, Estimate, Verdict
from neftune_cli.evidence.measurements import AnalysisPlan, TrialOrigin
from neftune_cli.metrics import METRICS
from neftune_cli.reporting.screen import facts
from tests.comparisons import assessment, best_arm, comparison, early_stopping, estimate, summary

SCOPE = (
    "Scope: tiny on bios (3 epochs, learning rate 0.001, batch size 16), seeds 0, 1, 2. "
    "Another model, data set or recipe needs its own sweep."
)
LOSSES = [1.5, 1.51, 1.52]


def test_better_arm_is_recommended_with_its_cross_fitted_gain() -> None:
    assessed = assessment(-0.02, 0.01, "better"), assessment(-0.03, 0.015, "better")
    compared = replace(_compare(*assessed), best=replace(best_arm(), arm="alpha=10"))

    assert advice(compared) == (
        "Use alpha 10. Compared with alpha 0, held-out loss is "
        "0.0200 nats lower with alpha 5 (95% interval \N{MINUS SIGN}0.0300 to \N{MINUS SIGN}0.0100) and "
        "0.0300 nats lower with alpha 10 (95% interval \N{MINUS SIGN}0.0450 to \N{MINUS SIGN}0.0150). "
        "The verdict is better for both arms. "
        "Alpha 10 is the best of 2 arms, so its difference has a selection bias (winner's curse). The seeds and "
        "items were split into halves many times, and the best arm on one half was selected. In the splits that "
        "selected it, held-out loss on the other half was on average 0.0010 nats lower "
        "(95% interval \N{MINUS SIGN}0.0053 to +0.0033, not adjusted for the number of arms). "
        f"{SCOPE}"
    )


def test_a_primary_arm_has_no_selection_bias() -> None:
    primary, other = assessment(-0.03, 0.01, "better", role="primary"), assessment(-0.02, 0.03, role="exploratory")
    compared = replace(_compare(primary, other), best=best_arm(), plan=AnalysisPlan(primary_arm="alpha=5"))

    assert "selection bias" not in advice(compared)
    section = best_arm_sentences(compared)
    assert section is not None
    assert "primary arm, which was declared before the first trial. Its difference has no selection bias." in section
    assert "optimistic" not in section


@pytest.mark.parametrize(("looks", "verdict", "is_said"), [(1, "better", True), (2, "better", False), (1, None, False)])
def test_the_bias_of_stopping_is_said(looks: int, verdict: Verdict | None, is_said: bool) -> None:
    stopped = replace(assessment(-0.03, 0.01, verdict or "inconclusive"), looks_taken=looks)
    plan = AnalysisPlan(looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=2)
    compared = replace(_compare(stopped), plan=plan)

    sentence = "Alpha 5 stopped at a planned look because its difference was large, so the difference is too large on"
    assert (sentence in advice(compared)) == is_said
    assert sentence not in advice(replace(compared, departures=(Departure("other metric", "ROUGE-L is exploratory."),)))


def test_an_arm_of_an_unfinished_sweep_is_not_recommended_yet() -> None:
    unfinished = replace(
        _compare(assessment(-0.02, 0.01, "better")),
        departures=(Departure("missing trials", "Not all trials have finished."),),
        origin=TrialOrigin(("results/s",), is_sweep=True, lacks_declared_trials=True),
    )

    assert advice(unfinished).startswith("Finish the sweep before you use alpha 5.")


@pytest.mark.parametrize(
    ("control", "verdict", "sentence"),
    [
        ("A/A control", "worse", "The A/A control is worse, although nothing was changed: a false positive, or "),
        ("A/A control", "inconclusive", None),
        ("positive control", "worse", None),
        ("positive control", "higher", None),
        ("positive control", "better", "The positive control is better, although its noise should hurt."),
        ("positive control", "inconclusive", "The positive control is not shown to differ: this sweep may be "),
        ("positive control", "equivalent", "The positive control is equivalent: this sweep may be unable to show "),
    ],
)
def test_unexpected_results_of_controls_are_part_of_the_advice(
    control: str, verdict: Verdict, sentence: str | None
) -> None:
    arm = summary("alpha=5", 5.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(-0.02, 0.01, "better"))})
    check = summary(
        control, 0.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.3, 0.1, verdict, role="control"))}
    )
    compared = replace(
        comparison(summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES)}), arm, check),
        plan=AnalysisPlan(controls=(control,)),
    )

    text = advice(compared)

    assert sentence in text if sentence else control not in text
    (finding,) = control_findings(compared)
    assert finding.is_expected == (sentence is None)
    assert list(control_findings(replace(compared, baseline="alpha=5"))) == []
    (line,) = (fact for fact in facts(compared, has_noise_test=False) if fact.label == "Controls")
    assert line.sentence == finding.sentence


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ("inconclusive", "the A/A control is not shown to differ, as expected"),
        ("equivalent", "the A/A control is equivalent to the baseline, as expected"),
    ],
)
def test_an_inconclusive_aa_control_is_not_called_equal(verdict: Verdict, sentence: str) -> None:
    control = {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.0, 0.1, verdict, role="control"))}
    compared = comparison(
        summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES)}), summary("A/A control", 0.0, control)
    )

    (finding,) = control_findings(compared)

    assert (finding.sentence, finding.is_expected) == (sentence, True)


def test_an_exploratory_comparison_recommends_a_test_of_the_better_arm() -> None:
    exploratory = "The comparison with alpha=0 is exploratory."
    departure = Departure("other baseline", exploratory)
    text = advice(replace(_compare(assessment(-0.02, 0.01, "better")), departures=(departure,)))

    assert text.startswith("Test alpha 5 in a new sweep before you use it. Compared with alpha 0, ")
    assert text.endswith(f"{exploratory} {SCOPE}")


def test_an_exploratory_comparison_recommends_neither_the_baseline_nor_early_stopping() -> None:
    worse, better = _compare(assessment(0.02, 0.01, "worse")), _compare(assessment(-0.02, 0.01, "better"))
    stopping = early_stopping()
    baseline, treated = stopping.arms
    same = replace(stopping, arms=(baseline, replace(treated, best=assessment(-0.001, 0.004, "equivalent"))))

    departure = Departure("other baseline", "The comparison with alpha=0 is exploratory.")

    texts = [
        advice(replace(one, departures=(departure,)))
        for one in (worse, replace(better, early_stopping=stopping), replace(better, early_stopping=same))
    ]

    assert texts[0].startswith("Compared with alpha 0, held-out loss is 0.0200 nats higher with alpha 5 ")
    assert texts[1].startswith("The data do not show whether alpha 5 or shorter training of alpha 0 is better. ")
    assert texts[2].startswith("At their best epochs, alpha 0 is equivalent to alpha 5. ")


def test_early_stopping_is_an_alternative_if_the_arm_is_not_better() -> None:
    compared = replace(_compare(assessment(-0.02, 0.01, "better")), early_stopping=early_stopping())

    text = advice(compared)

    assert text.startswith(
        "Stop training earlier or use alpha 5. The data do not show which of the two is better. "
        "The differences after the last epoch follow. "
        "Compared with alpha 0, held-out loss is 0.0200 nats lower with alpha 5 "
    )
    assert (
        "Alpha 0 has its lowest held-out loss after epoch 2.0 of 3 on average. "
        "From its best epoch to its last epoch, its loss rises by 0.0600 nats (worse). "
        "If every arm is stopped at its best epoch, held-out loss compared with alpha 0 is 0.0010 nats lower with "
        "alpha 5 (95% interval \N{MINUS SIGN}0.0130 to +0.0110; inconclusive)."
    ) in text


def test_early_stopping_is_recommended_if_the_arm_is_equivalent() -> None:
    stopping = early_stopping()
    baseline, treated = stopping.arms
    same = replace(treated, best=assessment(-0.001, 0.004, "equivalent"))
    compared = replace(
        _compare(assessment(-0.02, 0.01, "better")), early_stopping=replace(stopping, arms=(baseline, same))
    )

    assert advice(compared).startswith(
        "Stop training earlier instead of adding noise. At their best epochs, alpha 0 is equivalent to alpha 5. The "
        "differences after the last epoch follow. Compared with"
    )


def test_early_stopping_is_not_reported_for_other_primary_metrics() -> None:
    compared = _compare(assessment(0.0, 0.01), others={"rouge_l": assessment(0.1, 0.05, "better")})

    text = advice(replace(compared, primary="rouge_l", early_stopping=early_stopping()))

    assert text.startswith("Use alpha 5. Compared with alpha 0, ROUGE-L is 0.100 higher with alpha 5 ")
    assert "epoch" not in text.split("Scope:")[0]


def test_noisy_baseline_is_kept() -> None:
    arms = (
        summary("alpha=5", 5.0, {"eval_loss": estimate(LOSSES)}),
        summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.02, 0.01, "worse"))}),
    )

    assert advice(comparison(*arms)).startswith(
        "Keep alpha 5. Compared with alpha 5, held-out loss is 0.0200 nats higher with alpha 0 "
    )


@pytest.mark.parametrize("verdicts", [v for n in (1, 2, 3) for v in combinations([*get_args(Verdict), None], n)])
def test_every_combination_of_verdicts_has_advice(verdicts: tuple[Verdict | None, ...]) -> None:
    assessed = [assessment(0.02, 0.03, verdict, seeds=3 if verdict else 2) for verdict in verdicts]

    text = advice(_compare(*assessed))

    assert ("trained models" in text) == (None in verdicts)
    assert "Scope:" in text


def test_noise_is_left_off_if_all_arms_are_worse_or_equivalent() -> None:
    text = advice(_compare(assessment(0.02, 0.01, "worse"), assessment(0.001, 0.004, "equivalent")))

    assert text.startswith(
        "Leave the noise off. Compared with alpha 0, held-out loss is 0.0200 nats higher with alpha 5 "
    )
    assert "0.0010 nats higher with alpha 10 (90% interval \N{MINUS SIGN}0.0030 to +0.0050; equivalent)." in text


def test_undecided_arms_have_the_range_that_they_are_compatible_with_and_no_advice() -> None:
    text = advice(_compare(assessment(0.02, 0.03), assessment(-0.02, 0.043)))

    assert text.startswith(
        "Not decided: The data do not show whether noise improves or worsens held-out loss: they are "
        "compatible with differences of \N{MINUS SIGN}0.063 to +0.050 nats. Compared with alpha 0, held-out loss is "
        "0.0200 nats "
    )
    assert not re.search("more seeds|--seeds|Leave|Keep|Use ", text)


def test_the_compatible_range_ends_where_a_loss_is_zero() -> None:
    text = advice(_compare(assessment(-0.5, 2.0)))

    # LOSSES of the baseline are 1.51 on average, and the interval is [-2.5, +1.5]
    assert "compatible with a difference of \N{MINUS SIGN}1.5 to +1.5 nats." in text


def test_the_compatible_range_has_no_bounds_if_the_mean_of_the_baseline_is_not_finite() -> None:
    metric, open_arms = METRICS["eval_loss"], {"alpha=5": assessment(-0.5, 2.0)}

    assert compatible_range(open_arms, metric, math.nan) == "\N{MINUS SIGN}2.5 to +1.5 nats"


def test_exploratory_arms_are_called_so() -> None:
    primary, other = assessment(0.02, 0.03, role="primary"), assessment(-0.02, 0.01, "better", role="exploratory")

    text = advice(_compare(primary, other))

    assert text.startswith("Not decided: The data do not show whether alpha 5 improves or worsens held-out loss")
    assert "Alpha 10 is exploratory: the verdict is a hypothesis." in text


def test_a_training_that_learned_nothing_is_reported_first() -> None:
    learning = Learning(has_learned=False, problems=("Fine-tuning did not work. Train longer.",))

    text = advice(replace(_compare(assessment(-0.02, 0.01, "better")), learning=learning))

    assert text.startswith("Nothing learned: Without noise, the fine-tuned model is no better than the base model, ")
    assert "Fine-tuning did not work. Train longer. Compared with alpha 0" in text


@pytest.mark.parametrize(("alpha", "arm"), [(5.0, "With alpha 5"), (0.0, "Without noise")])
def test_the_arm_that_learned_nothing_is_the_baseline(alpha: float, arm: str) -> None:
    arms = [summary(f"alpha={one:g}", one, {"eval_loss": estimate(LOSSES)}) for one in (alpha, 10.0)]

    found = headline(replace(comparison(*arms), learning=Learning(has_learned=False)))

    assert found.sentence.startswith(f"{arm}, the fine-tuned model is no better than the base model")


@pytest.mark.parametrize(("looks", "seeds"), [(0, "0, 1, 2, 3, 4"), (1, "2, 3, 4"), (2, "0, 1, 2, 3, 4")])
def test_scope_has_the_seeds_of_the_last_look_at_the_arm_or_all_planned_ones(looks: int, seeds: str) -> None:
    plan = AnalysisPlan(looks=(3, 5), seeds=(4, 3, 2, 1, 0), looks_taken=2)
    five = [1.5, 1.51, 1.52, 1.53, 1.54]
    decided = estimate(five, five, replace(assessment(-0.02, 0.01, "better"), looks_taken=looks))
    arms = (summary("alpha=0", 0.0, {"eval_loss": estimate(five)}), summary("alpha=5", 5.0, {"eval_loss": decided}))

    assert f", seeds {seeds}. Another model" in advice(replace(comparison(*arms), plan=plan))


@pytest.mark.parametrize(("seeds", "counted"), [(1, "1 paired seed"), (2, "2 paired seeds")])
def test_too_few_seeds_have_no_verdict(seeds: int, counted: str) -> None:
    text = advice(_compare(assessment(0.02, 0.03, None, seeds=seeds)))

    assert text.startswith(
        f"No verdict: With {counted} the differences describe these trained models, not the method. "
        "A verdict needs at least 3 seeds. Compared with alpha 0, held-out loss"
    )
    assert SCOPE in text


def test_changes_of_other_metrics_are_reported() -> None:
    changed = {
        "eval_perplexity": assessment(0.1, 0.05, "worse"),  # has the same information as the loss
        "exact_match": assessment(-0.1, 0.05, "worse"),
        "rouge_l": assessment(0.1, 0.05, "better"),
        "response_chars": assessment(9.0, 5.0, "higher"),  # has no direction
    }

    text = advice(_compare(assessment(0.02, 0.01, "worse"), others=changed))

    assert "Other metrics are worse: exact match with alpha 5." in text
    assert (
        "Other metrics are better: ROUGE-L with alpha 5. The tests are not adjusted for the number of metrics." in text
    )


def test_changes_of_controls_are_not_reported() -> None:
    changed = {"exact_match": assessment(-0.1, 0.05, "worse", role="control")}

    text = advice(_compare(assessment(0.02, 0.01, "worse"), others=changed))

    assert "No other metric has the verdict better or worse." in text


def test_metric_without_direction_gives_no_recommendation() -> None:
    compared = _compare(assessment(0.02, 0.01), others={"response_chars": assessment(9.0, 5.0, "higher")})

    text = advice(replace(compared, primary="response_chars"))

    assert text.startswith(
        "Response length changes. Neither direction is an improvement by itself. Compared with alpha 0, response length"
    )


def test_arms_without_a_verdict_are_named_with_the_reason() -> None:
    nowhere = summary("alpha=10", 10.0, {"eval_loss": replace(estimate(LOSSES), difference=None)})
    diverged = summary("alpha=15", 15.0, {"eval_loss": estimate([math.nan] * 3, LOSSES)})
    equal = summary("alpha=20", 20.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.0, 0.0, None))})
    compared = _compare(assessment(0.02, 0.01, "worse"))

    text = advice(replace(compared, arms=(*compared.arms, nowhere, diverged, equal)))

    assert "Alpha 10 has no verdict, because no seed is shared with alpha 0." in text
    assert "Alpha 15 has no verdict, because a value is not finite." in text
    assert "Alpha 20 has no verdict, because the differences do not vary, so their standard error is unknown." in text


def test_missing_evidence_is_reported() -> None:
    assert advice(_compare(None)).startswith("There is no verdict on held-out loss. Alpha 5 has no verdict, because ")


def test_scope_has_the_number_of_paired_seeds() -> None:
    longer = summary(
        "alpha=10", 10.0, {"eval_loss": estimate([1.6] * 5, [1.5] * 5, assessment(0.1, 0.01, "worse", seeds=5))}
    )
    compared = _compare(assessment(0.02, 0.01, "worse"))

    assert "3 to 5 seeds per arm" in advice(replace(compared, arms=(*compared.arms, longer)))


def test_single_arm_has_no_comparison() -> None:
    alone = comparison(summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES)}))

    assert advice(alone) == "alpha=0 is the only finished arm, so there is no comparison."


def test_names_of_arms_are_not_changed() -> None:
    arms = (
        summary("no noise", 0.0, {"eval_loss": estimate(LOSSES)}),
        summary(
            "alpha=5,noise=gaussian", 5.0, {"eval_loss": estimate(LOSSES, LOSSES, assessment(0.02, 0.01, "worse"))}
        ),
    )

    text = "Compared with no noise, held-out loss is 0.0200 nats higher with alpha=5,noise=gaussian "
    assert text in advice(comparison(*arms))


def _compare(*assessed: Assessment | None, others: dict[str, Assessment] | None = None) -> Comparison:
    """Return arms of alpha 5, 10, ... with these assessments of their held-out loss, the first with others as well."""
    extra = others or {}
    arms = [summary("alpha=0", 0.0, {"eval_loss": estimate(LOSSES)})]
    for place, one in enumerate(assessed):
        estimates: dict[str, Estimate | None] = {"eval_loss": estimate(LOSSES, LOSSES, one)}
        if not place:
            estimates |= {key: estimate(LOSSES, LOSSES, other) for key, other in extra.items()}
        arms.append(summary(f"alpha={5 * (place + 1)}", 5.0 * (place + 1), estimates))
    return comparison(*arms)
