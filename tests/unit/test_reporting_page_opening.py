"""First screen of the page: decision, scope, planned looks, other metrics, early stopping and the next step."""

from dataclasses import replace

import pytest

from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.planning import Outlook
from neftune_cli.analysis.results import Comparison, StoppedArm
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.reporting.page.opening import Opening, look_sentence, opening, outlook_table
from neftune_cli.reporting.page.report import report_page
from tests.html_tree import read
from tests.page_contents import comparison, content
from tests.unit.comparisons import assessment, estimate, summary
from tests.unit.comparisons import comparison as compared

BASELINE = (1.5, 1.51, 1.52)
LOOKS = AnalysisPlan(looks=(5, 8, 12, 20), seeds=tuple(range(20)), taken=2)
ADVICE = "Not decided: there is no evidence yet. Alpha 5 is 0.5 lower."


def test_headline_and_sentence_of_an_open_comparison() -> None:
    shown = opening(open_comparison(), ADVICE)

    assert (shown.headline, shown.color) == ("Not decided", "inconclusive")
    assert shown.sentence == "There is no evidence yet."
    assert shown.statement == "Alpha 5 is 0.5 lower."
    assert "neftune sweep --until-decided adds seeds at planned looks (5, 8, 12 and 20 seeds)" in shown.facts["Next"]


def test_headline_of_a_decided_comparison() -> None:
    shown = opening(comparison(), "Use alpha 5. It is lower.")

    assert (shown.headline, shown.color, shown.sentence) == ("Decided", "better", "Use alpha 5.")
    assert "Next" not in shown.facts


def test_comparison_that_learned_nothing_says_so_first() -> None:
    not_learned = replace(
        open_comparison(), learning=Learning(False, ("Fine-tuning does not improve it. Train more.",))
    )
    shown = opening(not_learned, "Fine-tuning does not improve it. Train more.")

    assert (shown.headline, shown.sentence) == ("Nothing to compare", "Fine-tuning does not improve it.")


def test_single_arm_has_no_decision() -> None:
    alone = compared(summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE)}))

    assert opening(alone, "Only one arm.") == Opening("No comparison", "", "Only one arm.", scope_of(alone), {}, "")


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (LOOKS, "look 2 of 4: 8 of at most 20 seeds"),
        (replace(LOOKS, taken=4), "look 4 of 4: 20 of at most 20 seeds"),
        (replace(LOOKS, taken=0), "no look of 4 yet: the first at 5 of at most 20 seeds"),
        (AnalysisPlan(metric="eval_loss"), ""),
        (None, ""),
    ],
)
def test_planned_looks(plan: AnalysisPlan | None, sentence: str) -> None:
    assert look_sentence(plan) == sentence
    shown = opening(replace(open_comparison(), plan=plan), ADVICE)
    assert (sentence or "seeds 0, 1, 2") in shown.scope.split(" · ")


def test_scope_has_setting_seeds_and_items() -> None:
    assert scope_of(open_comparison()) == (
        "tiny on bios (3 epochs, learning rate 0.001, batch size 16) · seeds 0, 1, 2 · 20 examples"
    )


def test_next_step_of_a_plan_is_its_next_look() -> None:
    going_on, ended = (opening(replace(open_comparison(), plan=replace(LOOKS, taken=n)), ADVICE) for n in (2, 4))

    assert going_on.facts["Next"] == "Run the same neftune sweep again: the next look is at 12 seeds."
    assert ended.facts["Next"].startswith("All planned looks were taken.")


def test_other_metrics_name_changes_or_the_closest_one() -> None:
    nothing, worse = opening(open_comparison(), ADVICE), opening(open_comparison("worse"), ADVICE)

    assert nothing.facts["Other metrics"] == (
        "None is shown to differ. Closest: exact match with alpha=5 (adjusted p 0.40)."
    )
    assert worse.facts["Other metrics"] == "exact match worse with alpha=5. Each metric is tested separately."


def test_early_stopping_names_the_epoch_and_the_verdicts() -> None:
    whole = comparison()
    assert whole.early_stopping is not None
    arm = StoppedArm("alpha=5", 1.4, 1.3, 2.0, None, assessment(-0.1, 0.01, "better"))
    last = replace(whole.early_stopping.arms[0], best_epoch=3.0)
    first = replace(last, best_epoch=1.25)
    changed = replace(whole.early_stopping, arms=(first, arm))

    assert opening(replace(whole, early_stopping=changed), "Use it.").facts["Early stopping"] == (
        "The loss of alpha=0 is lowest after epoch 1.2 of 3. With every arm at its best epoch: alpha=5 better."
    )
    changed = replace(whole.early_stopping, arms=(last, arm))
    assert opening(replace(whole, early_stopping=changed), "Use it.").facts["Early stopping"] == (
        "Changes nothing: the loss of alpha=0 is lowest after the last epoch."
    )


def test_chances_are_a_table_of_arms_effects_and_seeds() -> None:
    chances = (
        Outlook(5, 0.0, 0.1, 0.05, 0.2),
        Outlook(20, 0.0, 0.9, 0.8, 1.0),
        Outlook(20, 0.01, 0.5, 0.4, 0.6),
    )
    planned = replace(open_comparison(), outlooks={"alpha=5": chances})

    assert outlook_table(planned) == [
        ("arm", "true difference", "5 seeds", "20 seeds"),
        ("alpha=5", "0.0000", "10% (5% to 20%)", "90% (80% to 100%)"),
        ("alpha=5", "0.0100", "\N{EN DASH}", "50% (40% to 60%)"),
    ]
    assert outlook_table(open_comparison()) == []
    page = read(report_page([content(comparison=planned)]))
    assert [cell.text for cell in page.one("table", "planning").all("td")][:2] == ["0.0000", "10% (5% to 20%)"]


def test_order_of_the_first_screen() -> None:
    page = read(report_page([content(comparison=open_comparison(), advice=ADVICE)]))
    opening_part = next(page.all("section", "opening"))

    parts = [
        child.attributes.get("class") or child.tag for child in opening_part.children if not isinstance(child, str)
    ]
    assert parts == ["h2", "headline", "scope", "scroll", "marks", "numbers", "facts", "statement"]
    assert opening_part.one("p", "headline").text == "?Not decided There is no evidence yet.".removeprefix("?")


def test_problems_of_the_trials_are_notes() -> None:
    problem = "Exact match is nearly 1, so it cannot show an improvement. Use harder held-out examples."
    limited = replace(open_comparison(), learning=Learning(True, (problem,)))

    assert problem in [note.text for note in read(report_page([content(comparison=limited)])).all("p", "note")]


def open_comparison(of_exact_match: str = "inconclusive") -> Comparison:
    scores = (0.4, 0.41, 0.42)
    loss = estimate((1.49, 1.5, 1.51), BASELINE, assessment(-0.01, 0.02))
    score = estimate(scores, scores, assessment(-0.02, 0.01, of_exact_match))  # type: ignore[arg-type]
    return compared(
        summary("alpha=0", 0.0, {"eval_loss": estimate(BASELINE), "exact_match": estimate(scores)}),
        summary("alpha=5", 5.0, {"eval_loss": loss, "exact_match": score}),
    )


def scope_of(whole: Comparison) -> str:
    return opening(whole, ADVICE).scope
