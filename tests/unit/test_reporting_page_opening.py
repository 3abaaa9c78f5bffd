"""First screen of the page: decision, scope, planned looks, other metrics, early stopping and the next step."""

from dataclasses import replace

from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.learning import Learning
from neftune_cli.analysis.outlook import Outlook
from neftune_cli.analysis.results import Comparison, Departure
from neftune_cli.evidence.measurements import TrialOrigin
from neftune_cli.reporting.page.chapter import opening, outlook_table
from neftune_cli.reporting.page.report import report_page
from neftune_cli.reporting.screen import facts, scope_parts
from tests.comparisons import assessment, estimate, summary
from tests.comparisons import comparison as compared
from tests.html_tree import read
from tests.page_contents import content

BASELINE = (1.5, 1.51, 1.52)
ADVICE = "Not decided: there is no evidence yet. Alpha 5 is 0.5 lower."


def test_texts_are_those_of_the_first_screen() -> None:
    whole = open_comparison()
    shown = opening(whole, ADVICE)

    assert (shown.headline.upper(), shown.sentence) == (headline(whole).state, headline(whole).sentence)
    assert shown.scope == " · ".join(scope_parts(whole))
    further = {"Next": "Train more seeds, their number chosen in advance, and compare again."}
    assert shown.facts == {fact.label: fact.sentence for fact in facts(whole, has_noise_test=False)} | further
    assert shown.statement == ADVICE


def test_next_step_has_its_cost() -> None:
    origin = TrialOrigin(folders=("results/bios",), is_sweep=True, seconds=10.0, workers=2)
    chances = {"alpha=5": (Outlook(20, 0.0, 0.5, 0.4, 0.6),)}
    shown = opening(replace(open_comparison(), origin=origin, outlooks=chances), ADVICE)

    assert shown.command.startswith("neftune sweep results/bios/sweep.yaml --until-decided")
    assert "at most 40 trials (20 seeds), about" in shown.cost


def test_chances_are_a_table_of_arms_effects_and_seeds() -> None:
    chances = (
        Outlook(5, 0.0, 0.1, 0.05, 0.2),
        Outlook(20, 0.0, 0.9, 0.8, 1.0),
        Outlook(20, 0.01, 0.5, 0.4, 0.6),
    )
    planned = replace(open_comparison(), outlooks={"alpha=5": chances})

    assert outlook_table(planned) == [
        ("arm", "true difference", "5 seeds", "20 seeds"),
        ("alpha=5", "0.0000", "5% to 20%", "80% to >99%"),
        ("alpha=5", "0.0100", "\N{EN DASH}", "40% to 60%"),
    ]
    assert outlook_table(open_comparison()) == []
    page = read(report_page([content(comparison=planned)]))
    assert [cell.text for cell in page.one("table", "planning").all("td")][:2] == ["0.0000", "5% to 20%"]


def test_departures_are_notes() -> None:
    departures = (Departure("other level", "Verdicts at 90% are exploratory."), Departure("added seeds", "a < b"))
    page = read(report_page([content(comparison=replace(open_comparison(), departures=departures))]))

    notes = [note.text for note in page.all("p", "note")]
    assert [note for note in notes if note in {one.sentence for one in departures}] == [
        "Verdicts at 90% are exploratory.",
        "a < b",
    ]


def test_order_of_the_first_screen() -> None:
    page = read(report_page([content(comparison=open_comparison(), advice=ADVICE)]))
    opening_part = next(page.all("section", "opening"))

    parts = [
        child.attributes.get("class") or child.tag for child in opening_part.children if not isinstance(child, str)
    ]
    assert parts == ["h2", "headline", "scope", "scroll", "marks", "numbers", "facts", "statement"]
    assert opening_part.one("p", "headline").text == f"Not decided {headline(open_comparison()).sentence}"


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
