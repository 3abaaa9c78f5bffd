"""Forest plots of the page: scale, labels of the axis, strips, roles, and the row of any noise."""

# ruff: noqa: RUF001  (the page has typographic minus signs)

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_cli.analysis.results import Assessment, Comparison, Interval, Role, Verdict
from neftune_cli.reporting.page.forest import Forest, ForestRow, Scale, common_scale, metric_forests
from neftune_cli.reporting.sections import sections
from tests.comparisons import assessment
from tests.page_contents import ALPHAS, comparison

ENDS = st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-9)


def wide(difference: float, half_width: float, verdict: Verdict | None = "inconclusive", **others: Any) -> Assessment:
    """Return an assessment whose simultaneous interval is 1.5 times as wide as the unadjusted one."""
    interval = Interval(difference - 1.5 * half_width, difference + 1.5 * half_width)
    return replace(assessment(difference, half_width, verdict, **others), interval=interval)


def test_scale_spans_the_simultaneous_intervals_and_zero() -> None:
    scale = common_scale([wide(0.4, 0.2, margin=0.01), wide(0.1, 0.1, margin=0.01)])

    assert scale is not None
    assert (scale.low, scale.high) == pytest.approx((-0.05, 0.7))
    assert scale.position(scale.low) == 4.0
    assert scale.position(scale.high) == 96.0
    assert scale.position(0.325) == pytest.approx(50.0)
    assert common_scale([]) is None
    assert common_scale([unknown()]) is None


def test_near_margin_is_on_the_scale_and_a_wide_one_is_not() -> None:
    near, far = (common_scale([wide(0.0, 0.02, margin=margin)]) for margin in (0.04, 1.0))

    assert near == Scale(-0.04, 0.04)
    assert far == Scale(-0.03, 0.03)


@pytest.mark.parametrize(
    ("scale", "margin", "band"),
    [
        (Scale(-0.04, 0.04), 0.04, (4.0, 92.0)),
        (Scale(-0.04, 0.04), 0.02, (27.0, 46.0)),
        (Scale(0.0, 0.02), 0.15, (0.0, 100.0)),
        (Scale(-0.02, 0.06), 0.04, (0.0, 73.0)),
    ],
)
def test_band_of_a_margin_that_is_wider_than_the_axis_fills_the_strip(
    scale: Scale, margin: float, band: tuple[float, float]
) -> None:
    assert Forest("", "", (), scale, margin).band == pytest.approx(band)


def test_controls_do_not_stretch_the_scale() -> None:
    control = replace(wide(3.0, 1.0, "worse"), role="control")
    scale = common_scale([wide(0.0, 0.02), control])

    assert scale == Scale(-0.03, 0.03)
    assert common_scale([control]) == Scale(-0.01, 4.5)


@given(ENDS, ENDS)
def test_axis_has_zero_and_at_most_two_round_labels_apart_from_each_other(one: float, other: float) -> None:
    scale = Scale(min(0.0, one, other), max(0.0, one, other))
    labels = [tick.label for tick in scale.ticks]
    places = [tick.position for tick in scale.ticks]

    assert "0" in labels
    assert 2 <= len(labels) <= 3
    assert places == sorted(places)
    assert all(4.0 <= place <= 96.0 for place in places)
    assert min(later - earlier for earlier, later in pairwise(places)) > 12.0
    for label in set(labels) - {"0"}:
        digits = f"{abs(float(label.replace('−', '-'))):e}"
        assert digits[:8] in {"1.000000", "2.000000", "4.000000", "5.000000"}


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-0.376, 0.417, ["−0.2", "0", "+0.2"]),
        (-1.0, 1.0, ["−1", "0", "+1"]),
        (0.0, 0.049, ["0", "+0.04"]),
        (-30.0, 5.0, ["−20", "0"]),
    ],
)
def test_labels_of_the_axis(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label for tick in Scale(low, high).ticks] == labels


def test_rows_are_the_base_the_arms_and_any_noise() -> None:
    forest = forest_of(comparison())

    assert [(row.name, row.kind) for row in forest.rows] == [
        ("base", "base"),
        ("alpha=0", "baseline"),
        *((arm, "arm") for arm in list(ALPHAS)[1:]),
        ("Any noise", "noise"),
    ]
    assert [row.noise_ratio for row in forest.rows] == ["", "0%", "9.0%", "18.0%", "27.0%", ""]
    assert rows_of(forest)["Any noise"].hint == "mean of 3 arms"
    assert rows_of(forest)["Any noise"].difference.remark.replace("\xa0", " ") == "any-noise test: p = 0.012"
    assert rows_of(forest)["base"].strip is rows_of(forest)["alpha=0"].strip is None


def test_strip_shows_the_interval_of_the_verdict() -> None:
    whole, scale = comparison(), forest_of(comparison()).scale
    assert scale is not None
    for arm, row in rows_of(forest_of(whole)).items():
        if row.kind == "arm":
            found = whole.assessment(arm, "eval_loss")
            assert found is not None
            assert row.strip is not None
            shown = found.equivalence_interval if found.verdict == "equivalent" else found.interval
            assert (row.strip.low, row.strip.high) == (scale.position(shown.low), scale.position(shown.high))
            assert row.strip.middle == scale.position(found.paired.difference)
            assert row.strip.cut == ""
            assert row.spoken.startswith(row.difference.number)


@pytest.mark.parametrize(("role", "hint"), [("primary", "primary arm"), ("exploratory", "exploratory"), ("arm", "")])
def test_roles_are_named(role: Role, hint: str) -> None:
    assert rows_of(forest_of(with_assessment(role=role)))["alpha=15"].hint == hint


def test_interval_beyond_the_axis_is_cut_and_has_no_dot() -> None:
    far = Interval(-8.0, 9.0)
    row = rows_of(forest_of(with_assessment(role="control", interval=far, verdict="inconclusive")))["alpha=15"]
    assert row.strip is not None
    assert (row.strip.low, row.strip.high, row.strip.cut) == (4.0, 96.0, "both")
    assert row.hint == "control"


def test_unknown_interval_has_no_strip() -> None:
    row = rows_of(forest_of(with_assessment(interval=Interval(math.nan, math.nan), verdict=None)))["alpha=15"]

    assert row.strip is None
    assert row.spoken.endswith("no interval")


def unknown() -> Assessment:
    nothing = Interval(math.nan, math.nan)
    return replace(assessment(0.0, 0.1), interval=nothing, equivalence_interval=nothing)


def forest_of(whole: Comparison) -> Forest:
    (section,) = (one for one in sections(whole) if "eval_loss" in one.keys)
    return metric_forests(whole, section)[section.keys.index("eval_loss")]


def rows_of(forest: Forest) -> dict[str, ForestRow]:
    return {row.name: row for row in forest.rows}


def with_assessment(**changes: object) -> Comparison:
    whole = comparison()
    *others, last = whole.arms
    estimate = last.estimates["eval_loss"]
    assert estimate is not None
    assert estimate.assessment is not None
    changed = replace(estimate, assessment=replace(estimate.assessment, **changes))  # type: ignore[arg-type]
    return replace(whole, arms=(*others, replace(last, estimates={**last.estimates, "eval_loss": changed})))
