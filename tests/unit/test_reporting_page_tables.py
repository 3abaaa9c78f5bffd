"""Tables of the page: numbers with verdicts, and reasons for missing verdicts."""

# ruff: noqa: RUF001  (the page has typographic minus signs, dashes and quotation marks)

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from neftune_cli.analysis.results import Assessment, Comparison, DifferenceBySeed, Estimate, Interval
from neftune_cli.reporting.page.report import report_page
from tests.html_tree import Element, read
from tests.page_contents import ALPHAS, comparison, content, values


@pytest.fixture(scope="module")
def page() -> Element:
    return read(report_page([content()]))


def test_first_table_shows_the_primary_metric(page: Element) -> None:
    rows = [_cells(row) for row in _primary(page).all("tr")][2:]
    means = [values("eval_loss", arm).mean() for arm in range(4)]
    by_seed = [values("eval_loss", arm).mean(axis=1).std(ddof=1) for arm in range(4)]

    assert [row[0] for row in rows] == ["base", *ALPHAS, "Any noisemean of 3 arms"]
    assert [row[1] for row in rows] == [
        "4.2000",
        *(f"{mean:.4f} ± {sd:.4f}" for mean, sd in zip(means, by_seed, strict=True)),
        "",
    ]
    assert rows[1][2:] == ["", "", "0%"]
    assert (rows[2][3], rows[4][3]) == ("✓better", "✗worse")
    assert re.fullmatch(rf"−{means[0] - means[1]:.4f} \[−0\.0\d\d\d, −0\.0\d\d\d\]", rows[2][2])
    assert [row[4] for row in rows[1:]] == ["0%", "9.0%", "18.0%", "27.0%", ""]


def test_numbers_are_below_the_plot(page: Element) -> None:
    table, numbers = _primary(page), next(page.all("details", "numbers"))
    means = [values("eval_loss", arm).mean() for arm in range(4)]
    rows = [_cells(row) for row in numbers.one("table").all("tr")]

    assert [cell.text for cell in table.one("thead").all("th")] == [
        "arm",
        "mean ± sd",
        "vs alpha=0, 95% interval",
        "verdict",
        "noise ratio",
    ]
    assert rows[0] == [
        *("arm", "mean", "sd over seeds", "vs alpha=0", "95% interval", "unadjusted 95% interval", "adjusted p"),
        "verdict",
    ]
    *_, last = rows
    assert (last[0], last[3], last[6], last[7]) == ("alpha=15", f"+{means[3] - means[0]:.4f}", "< 0.001", "✗worse")
    ends = [[float(end.strip("[]")) for end in cell.split(", ")] for cell in last[4:6]]
    assert ends[0][0] < ends[1][0] < ends[1][1] < ends[0][1], "the simultaneous interval is the wider one"
    assert "null hypothesis that no arm with noise differs from alpha=0: p = 0.012." in numbers.text.replace(
        "\N{NO-BREAK SPACE}", " "
    )


def test_every_metric_is_in_the_table_of_its_section(page: Element) -> None:
    tables = {table.one("caption").text.split(":")[0]: table for table in page.all("table", "section")}
    loss, responses = (tables[name] for name in ("Loss", "Generation on held-out prompts"))

    assert [row.text.split()[0] for row in loss.all("tr", "metric")] == ["noise-off", "held-out"]
    headings = [next(row.all("th")).text.strip() for row in responses.all("tr", "metric")]
    assert headings == ["exact match ↑ 0 to 1", "ROUGE-L ↑ 0 to 1"]
    assert len(list(responses.all("th", "base"))) == 2
    assert next(iter(responses.all("tr", "baseline"))).text.strip().startswith("alpha=0")


def test_axis_labels_and_strips_are_drawings_with_a_text(page: Element) -> None:
    axis = next(_primary(page).all("td", "axis"))
    strips = {row.one("bdi").text: row.one("td", "strip") for row in _primary(page).all("tr") if list(row.all("bdi"))}

    assert "0" in [text.text for text in axis.all("text")]
    assert all(
        svg.attributes["aria-hidden"] == "true" for svg in _primary(page).all("svg") if "height" in svg.attributes
    )
    assert strips["alpha=5"].one("span", "visually-hidden").text == strips["alpha=5"].attributes["title"]
    assert len(list(strips["alpha=5"].all("circle"))) == 1
    assert not list(strips["base"].all("circle"))


def test_each_claim_status_has_a_symbol(page: Element) -> None:
    statuses = [cell.text for cell in page.one("table", "claims").all("span", "verdict")]

    assert statuses == ["✓supported", "✗refuted", "?inconclusive", "–not measured"]
    assert "another model" in page.one("table", "claims").text


def test_single_arm_has_no_differences() -> None:
    whole = comparison()
    lone = replace(whole, arms=whole.arms[:1], best=None, early_stopping=None)
    page = read(report_page([content(comparison=lone)]))

    assert page.one("head").one("title").text == "bios · neftune"
    heads = [[cell.text for cell in table.one("thead").all("th")] for table in page.all("table", "forest")]
    assert heads == [["arm", "mean ± sd", "noise ratio"], *[["arm", "mean ± sd"]] * 2]
    for table in page.all("table", "metrics"):
        assert [cell.text for cell in table.one("thead").all("th")] == ["arm", "mean", "sd over seeds"]
        assert "difference" not in table.one("caption").text
    assert "Methods" not in page.text


def test_missing_and_not_finite_values_have_a_reason() -> None:
    page = read(report_page([content(comparison=_diverged())]))
    rows = [_cells(row) for row in _primary(page).all("tr")][2:]

    assert rows[3][:2] == ["alpha=10", "–"]
    assert rows[3][3] == "–no verdictthe metric is not defined for the arm"
    assert rows[4][:2] == ["alpha=15", "not finite"]
    assert rows[4][3] == "–no verdicta value is not finite"


def test_difference_without_assessment_is_shown() -> None:
    without_verdict = {"difference": DifferenceBySeed({0: 0.06}, 0.06, None), "assessment": None}
    page = read(report_page([content(comparison=_changed("alpha=15", **without_verdict))]))
    row = list(_primary(page).all("tr"))[6]

    assert _cells(row)[2:4] == ["+0.0600 no interval", "–no verdictno item is shared with alpha=0"]
    assert row.one("td", "strip").attributes["data-value"] == ""  # sorted as missing


def test_few_seeds_have_no_p_value() -> None:
    page = read(report_page([content(comparison=_few_seeds())]))
    numbers = next(page.all("details", "numbers")).one("table")

    heads = [cell.text for cell in numbers.one("thead").all("th")]
    assert heads == ["arm", "mean", "sd over seeds", "vs alpha=0", "95% interval", "verdict"]
    assert _cells(list(_primary(page).all("tr"))[6])[3] == "–no verdictfewer than three paired seeds"
    assert "p is the two-sided" not in page.text
    assert "the unadjusted 95% t interval generalizes to other items only" in page.text


def test_differences_without_variation_have_no_verdict() -> None:
    assessed = _assessed(comparison(), "alpha=15")
    paired = replace(assessed.paired, ci_low=math.nan, ci_high=math.nan, p_value=math.nan)
    nothing = Interval(math.nan, math.nan)
    still = replace(assessed, paired=paired, p_adjusted=math.nan, interval=nothing, verdict=None)
    page = read(report_page([content(comparison=_changed("alpha=15", assessment=still))]))
    row = _cells(list(_primary(page).all("tr"))[6])

    assert row[2].endswith(" no interval")
    assert row[3] == "–no verdictthe differences do not vary, so their standard error is unknown"


def test_best_arm_of_one_seed_is_selected_on_items_only() -> None:
    whole = comparison()
    assert whole.best is not None
    gain = replace(whole.best.advantage, seeds=1, ci_low=math.nan, ci_high=math.nan)
    page = read(report_page([content(comparison=replace(whole, best=replace(whole.best, advantage=gain)))]))
    text = list(page.all("section"))[1].text

    assert "The items were split into halves many times" in text
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

    assert "is the equivalence margin, for the primary metric held-out loss 1.23e-05 to 0.01;" in page.text


def test_confidence_has_all_digits() -> None:
    page = read(report_page([content(comparison=replace(comparison(), confidence=0.999))]))

    assert "The 99.9% t intervals are simultaneous over the arms" in page.text
    assert "99.9% interval" in _primary(page).text


def test_methods_mention_items_only_with_per_item_values() -> None:
    without = read(report_page([content(comparison=_every_assessment(items=1, clusters=1))]))

    assert "item" not in without.one("ul", "method").text
    assert "paired by seed and item" in read(report_page([content()])).text


def _primary(page: Element) -> Element:
    return page.one("table", "primary")


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
    paired = replace(estimate.assessment.paired, **changes)  # type: ignore[arg-type]
    verdict = estimate.assessment.verdict if paired.about == "method" else None
    return replace(estimate, assessment=replace(estimate.assessment, paired=paired, verdict=verdict))


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
