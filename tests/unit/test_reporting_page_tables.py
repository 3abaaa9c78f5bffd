"""Tables of the page: numbers with verdicts, and reasons for missing verdicts."""

# ruff: noqa: RUF001  (the page has typographic minus signs, dashes and quotation marks)

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from neftune_cli.analysis.results import Assessment, Comparison, Estimate, PairedDifference
from neftune_cli.reporting.page.report import report_page
from tests.html_tree import Element, read
from tests.page_contents import ALPHAS, comparison, content, values


@pytest.fixture(scope="module")
def page() -> Element:
    return read(report_page([content()]))


def test_verdict_table_shows_the_primary_metric(page: Element) -> None:
    rows = [_cells(row) for row in page.one("table", "primary").one("tbody").all("tr")]
    means = [values("eval_loss", arm).mean() for arm in range(4)]
    worse = f"+{means[3] - means[0]:.4f}"

    assert [row[0] for row in rows] == ["base", *ALPHAS]
    assert [row[2] for row in rows] == ["4.2000", *(f"{mean:.4f}" for mean in means)]
    assert rows[1][1:] == ["", f"{means[0]:.4f}", "", "", "", "", ""]
    assert rows[2][1] == "✓better"
    assert rows[2][4] == f"−{means[0] - means[1]:.4f}"
    assert (rows[4][1], rows[4][4], rows[4][6]) == ("✗worse", worse, "< 0.001")
    assert rows[4][7] == f"{_assessed(comparison(), 'alpha=15').detectable:.4f}"
    assert re.fullmatch(r"\[\+0\.05\d\d, \+0\.07\d\d\]", rows[4][5])


def test_every_metric_is_in_the_table_of_its_section(page: Element) -> None:
    tables = {table.one("caption").text.split(":")[0]: table for table in page.all("table", "metrics")}
    loss, responses = (tables[name] for name in ("Loss", "Generation on held-out prompts"))

    assert [row.text.split()[0] for row in loss.all("tr", "metric")] == ["noise-off", "held-out"]
    assert [row.text.strip() for row in responses.all("tr", "metric")] == ["exact match ↑ 0 to 1", "ROUGE-L ↑ 0 to 1"]
    assert len(list(responses.all("th", "base"))) == 2
    assert next(iter(responses.all("tr", "baseline"))).text.strip().startswith("alpha=0")


def test_each_claim_status_has_a_symbol(page: Element) -> None:
    statuses = [cell.text for cell in page.one("table", "claims").all("span", "verdict")]

    assert statuses == ["✓supported", "✗refuted", "?inconclusive", "–not measured"]
    assert "another model" in page.one("table", "claims").text


def test_single_arm_has_no_differences() -> None:
    whole = comparison()
    lone = replace(whole, arms=whole.arms[:1], best=None, early_stopping=None)
    page = read(report_page([content(comparison=lone)]))

    assert page.one("head").one("title").text == "bios · neftune"
    assert [cell.text for cell in page.one("table", "primary").one("thead").all("th")] == ["arm", "mean"]
    for table in page.all("table", "metrics"):
        assert [cell.text for cell in table.one("thead").all("th")] == ["arm", "mean", "sd over seeds"]
        assert "difference" not in table.one("caption").text
    assert "Methods" not in page.text


def test_missing_and_not_finite_values_have_a_reason() -> None:
    page = read(report_page([content(comparison=_diverged())]))
    rows = [_cells(row) for row in page.one("table", "primary").one("tbody").all("tr")]

    assert rows[3][:3] == ["alpha=10", "–no verdictthe metric is not defined for the arm", "–"]
    assert rows[4][:3] == ["alpha=15", "–no verdicta value is not finite", "not finite"]
    assert rows[3][3:] == rows[4][3:] == ["", "–", "–", "–", "–"]


def test_difference_without_assessment_is_shown() -> None:
    without_verdict = {"difference": PairedDifference({0: 0.06}, 0.06, None), "assessment": None}
    page = read(report_page([content(comparison=_changed("alpha=15", **without_verdict))]))
    row = _cells(list(page.one("table", "primary").one("tbody").all("tr"))[4])

    assert row[1] == "–no verdictno item is shared with alpha=0"
    assert row[4:] == ["+0.0600", "–", "–", "–"]


def test_few_seeds_have_no_p_value_and_no_detectable_effect() -> None:
    page = read(report_page([content(comparison=_few_seeds())]))
    table = page.one("table", "primary")

    assert [cell.text for cell in table.one("thead").all("th")][4:] == ["vs alpha=0", "95% interval"]
    assert _cells(list(table.one("tbody").all("tr"))[4])[1] == "–no verdictfewer than three paired seeds"
    assert "p is the two-sided" not in page.text
    assert "minimum detectable effect" not in page.text
    assert "the unadjusted 95% t interval generalizes to other items only" in page.text


def test_differences_without_variation_have_no_verdict() -> None:
    assessed = _assessed(comparison(), "alpha=15")
    paired = replace(assessed.comparison, ci_low=math.nan, ci_high=math.nan, p_value=math.nan)
    still = replace(assessed, comparison=paired, p_adjusted=math.nan, detectable=math.nan, verdict=None)
    page = read(report_page([content(comparison=_changed("alpha=15", assessment=still))]))
    row = _cells(list(page.one("table", "primary").one("tbody").all("tr"))[4])

    assert row[1] == "–no verdictthe differences do not vary, so their standard error is unknown"
    assert row[5:] == ["–", "–", "–"]


def test_best_arm_of_one_seed_is_selected_on_items_only() -> None:
    whole = comparison()
    assert whole.best is not None
    gain = replace(whole.best.gain, seeds=1, ci_low=math.nan, ci_high=math.nan)
    page = read(report_page([content(comparison=replace(whole, best=replace(whole.best, gain=gain)))]))
    text = list(page.all("section"))[1].text

    assert "selected on one part of the items and measured on the rest" in text
    assert "interval" not in text


def test_epochs_are_listed_by_arm_where_they_differ() -> None:
    whole = comparison()
    assert whole.early_stopping is not None
    *others, last = whole.early_stopping.arms
    stopping = replace(whole.early_stopping, arms=(*others, replace(last, epochs=(1, 2, 3, 4, 5))))
    same, own = (
        read(report_page([content(comparison=replace(whole, early_stopping=one))])).text
        for one in (whole.early_stopping, stopping)
    )

    assert "held-out loss is lowest (epochs 1 to 3). Each seed" in same
    assert "lowest (epochs 1 to 3 of alpha=0; 1 to 3 of alpha=5; 1 to 3 of alpha=10; 1 to 5 of alpha=15). Each" in own


def test_margin_has_three_digits() -> None:
    small = replace(_assessed(comparison(), "alpha=15"), margin=0.0000123)
    page = read(report_page([content(comparison=_changed("alpha=15", assessment=small))]))

    assert "is the equivalence margin: held-out loss 1.23e-05 to 0.01." in page.text


def test_confidence_has_all_digits() -> None:
    page = read(report_page([content(comparison=replace(comparison(), confidence=0.999))]))

    assert "the unadjusted 99.9% t interval" in page.text
    assert "99.9% interval" in page.one("table", "primary").text


def test_methods_mention_items_only_with_per_item_values() -> None:
    without = read(report_page([content(comparison=_every_assessment(items=1, clusters=1))]))

    assert "item" not in without.one("ul", "method").text
    assert "paired by seed and item" in read(report_page([content()])).text


def _cells(row: Element) -> list[str]:
    return [cell.text.strip() for cell in row.children if isinstance(cell, Element)]


def _assessed(whole: Comparison, arm: str) -> Assessment:
    assessment = whole.assessment(arm, "eval_loss")
    assert assessment is not None
    return assessment


def _changed(name: str, **changes: object) -> Comparison:
    whole = comparison()
    (arm,) = (arm for arm in whole.arms if arm.name == name)
    estimate = arm.estimates["eval_loss"]
    assert estimate is not None
    estimates = {**arm.estimates, "eval_loss": replace(estimate, **changes)}  # type: ignore[arg-type]
    arms = tuple(replace(arm, estimates=estimates) if one is arm else one for one in whole.arms)
    return replace(whole, arms=arms)


def _few_seeds() -> Comparison:
    return replace(_every_assessment(seeds=2, about="checkpoints"), early_stopping=None)


def _every_assessment(**changes: object) -> Comparison:
    """Return the comparison with changed paired comparisons, without verdicts if they are about checkpoints."""
    whole = comparison()
    arms = tuple(
        replace(arm, estimates={key: _with_paired(one, changes) for key, one in arm.estimates.items()})
        for arm in whole.arms
    )
    return replace(whole, arms=arms)


def _with_paired(estimate: Estimate | None, changes: Mapping[str, object]) -> Estimate | None:
    if estimate is None or estimate.assessment is None:
        return estimate
    paired = replace(estimate.assessment.comparison, **changes)  # type: ignore[arg-type]
    verdict = estimate.assessment.verdict if paired.about == "method" else None
    return replace(estimate, assessment=replace(estimate.assessment, comparison=paired, verdict=verdict))


def _diverged() -> Comparison:
    whole = comparison()
    first, second, third, fourth = whole.arms
    estimate = fourth.estimates["eval_loss"]
    assert estimate is not None
    assert estimate.difference is not None
    undefined = replace(estimate.difference, mean=math.nan, sd=None)
    infinite = replace(estimate, mean=math.inf, sd=None, difference=undefined, assessment=None)
    third = replace(third, estimates={**third.estimates, "eval_loss": None})
    fourth = replace(fourth, estimates={**fourth.estimates, "eval_loss": infinite})
    return replace(whole, arms=(first, second, third, fourth))
