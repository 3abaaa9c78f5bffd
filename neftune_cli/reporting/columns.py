"""Columns of a comparison, each declared once: fields of JSON and CSV, and columns of the formatted tables.

JSON, CSV, Markdown, the page and the tables of `--full` and LaTeX read these declarations. The first screen
(`screen_table.py`) and LaTeX's compact table have columns of their own. docs/extending.md has the steps to add one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict

from neftune_cli.analysis.results import Assessment, Estimate, Role, Verdict
from neftune_cli.records import Record
from neftune_cli.reporting.cells import Cell, Difference


class ExportedModel(Record):
    """Base of the models of the JSON document; their docstrings are the descriptions in its JSON Schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ExportedAssessment(ExportedModel):
    """A difference from the baseline with its tests; null where a number is undefined or not finite."""

    difference: float | None
    """Arm minus baseline, in the metric's unit, over the seeds and items that both have."""
    ci_low: float | None
    """Lower bound of the unadjusted interval of the difference."""
    ci_high: float | None
    """Upper bound of the interval."""
    p_value: float | None
    """Two-sided p-value of the difference, unadjusted."""
    p_adjusted: float | None
    """`p_value`, adjusted over the arms (Hommel) and the planned looks, and not smaller than that of the any-noise
    test."""
    p_equivalent: float | None
    """p-value of two one-sided tests for equivalence within the margin, adjusted over arms and planned looks."""
    margin: float | None
    """Equivalence margin in the metric's unit. A relative margin is a share of the baseline's mean over the
    paired seeds, or over those of the first look if looks are planned."""
    verdict: Verdict | None
    """Null with fewer than three paired seeds, where the differences do not vary, where one cluster of items has nearly
    all of the weight, and before the first planned look."""
    about: Literal["method", "checkpoints"] | None
    """Scope of interval and verdict. `method` (three or more paired seeds): they generalize to new seeds and new items.
    `checkpoints` (fewer): the interval generalizes to new items for these trained models only, and there is no
    verdict."""
    interval_low: float | None
    """Lower bound of the interval that is simultaneous over arms and looks. It matches the test for difference."""
    interval_high: float | None
    """Upper bound of this interval."""
    equivalence_low: float | None
    """Lower bound of the simultaneous interval by which equivalence is tested (90% at a confidence of 95%)."""
    equivalence_high: float | None
    """Upper bound of this interval."""
    looks: int | None
    """Position of the last planned look in which the arm took part, 1 for the first one; 0 before it; 1 if the number
    of seeds is fixed."""
    role: Role | None
    """`primary` is the predeclared arm, `exploratory` any other arm, `control` a check of the sweep."""
    items: int | None
    """Number of paired items; 1 for a metric without per-item values."""


class ExportedEstimate(ExportedAssessment):
    """One metric of one arm: the fields of an assessment, null for the baseline itself, and these."""

    mean: float | None
    """Mean over seeds."""
    sd: float | None
    """Standard deviation over seeds (ddof=1); null for one seed."""
    difference_sd: float | None
    """Standard deviation of the paired differences over seeds (ddof=1)."""
    seeds: tuple[int, ...]
    """Seeds with a value of the metric."""


CSV_COLUMNS = (
    "sweep",
    "arm",
    "alpha",
    "metric",
    "mean",
    "sd",
    "difference",
    "difference_sd",
    "ci_low",
    "ci_high",
    "p_value",
    "p_adjusted",
    "p_equivalent",
    "interval_low",
    "interval_high",
    "margin",
    "verdict",
    "about",
    "seeds",
    "items",
)
"""Header of the CSV: the four columns that identify a row, then fields of `ExportedEstimate`."""


def exported_assessment(assessment: Assessment | None) -> ExportedAssessment | None:
    """Return an assessment for the JSON document."""
    return None if assessment is None else ExportedAssessment(**_assessment_fields(assessment))


def exported_estimate(estimate: Estimate) -> ExportedEstimate:
    """Return one metric of one arm for JSON and CSV."""
    paired, assessment = estimate.difference, estimate.assessment
    fields = _assessment_fields(assessment)
    if paired is not None and assessment is None:
        fields["difference"] = finite(paired.mean)
    return ExportedEstimate(
        **fields,
        mean=finite(estimate.mean),
        sd=finite(estimate.sd),
        difference_sd=finite(paired.sd) if paired else None,
        seeds=tuple(estimate.by_seed),
    )


def finite(value: float | None) -> float | None:
    """Return the value; None for a value that is not finite, which JSON cannot represent."""
    return value if value is not None and math.isfinite(value) else None


def _assessment_fields(assessment: Assessment | None) -> dict[str, Any]:
    if assessment is None:
        return dict.fromkeys(ExportedAssessment.model_fields)
    comparison = assessment.paired
    return {
        "difference": finite(comparison.difference),
        "ci_low": finite(comparison.ci_low),
        "ci_high": finite(comparison.ci_high),
        "p_value": finite(comparison.p_value),
        "p_adjusted": finite(assessment.p_adjusted),
        "p_equivalent": finite(assessment.p_equivalent),
        "margin": finite(assessment.margin),
        "verdict": assessment.verdict,
        "about": comparison.about,
        "interval_low": finite(assessment.interval.low),
        "interval_high": finite(assessment.interval.high),
        "equivalence_low": finite(assessment.equivalence_interval.low),
        "equivalence_high": finite(assessment.equivalence_interval.high),
        "looks": assessment.looks_taken,
        "role": assessment.role,
        "items": comparison.items,
    }


@dataclass(frozen=True)
class ArmRow:
    """One row of a table: one arm's value of one metric and its difference from the baseline."""

    arm: str
    value: Cell
    difference: Difference


@dataclass(frozen=True)
class TableColumn:
    """One column of the formatted tables."""

    key: str
    heading: str
    """May hold `{against}` and `{confidence}`."""
    parts: Callable[[ArmRow], tuple[str, ...]]
    """Pieces of a cell, which the terminal aligns with the same pieces of other rows."""
    kind: Literal["arm", "number", "verdict"] = "number"
    compares: bool = False
    """Left out of tables without differences."""
    optional: bool = False
    """Left out of the page where every row is empty."""
    sortable: bool = True
    """Sortable on the page."""

    @property
    def align(self) -> Literal["left", "right"]:
        """Return the alignment of the column."""
        return "right" if self.kind == "number" else "left"

    def text(self, row: ArmRow) -> str:
        """Return the cell as one text."""
        return "".join(self.parts(row))


TABLE_COLUMNS: Mapping[str, TableColumn] = {
    column.key: column
    for column in (
        TableColumn("arm", "arm", lambda row: (row.arm,), kind="arm"),
        TableColumn("value", "value", lambda row: row.value.parts),
        TableColumn("mean", "mean", lambda row: (row.value.number,)),
        TableColumn(
            "sd", "sd over seeds", lambda row: ("± " if row.value.spread else "", row.value.spread), optional=True
        ),
        TableColumn("difference", "{against}", lambda row: (row.difference.number,), compares=True),
        TableColumn(
            "interval",
            "{confidence} interval",
            lambda row: row.difference.interval_parts,
            compares=True,
            sortable=False,
        ),
        TableColumn(
            "unadjusted",
            "unadjusted {confidence} interval",
            lambda row: row.difference.unadjusted_parts,
            compares=True,
            optional=True,
            sortable=False,
        ),
        TableColumn("p", "adjusted p", lambda row: (row.difference.p,), compares=True, optional=True),
        TableColumn("verdict", "verdict", lambda row: (row.difference.verdict_text,), kind="verdict", compares=True),
    )
}
"""Every column by its key."""

TEXT_LAYOUT = ("arm", "value", "difference", "interval", "verdict")
"""Columns on the terminal, in Markdown and in LaTeX."""
TERMINAL_DROPS = ("interval", "verdict")
"""Columns that narrow terminals leave out, the first one first."""
PAGE_LAYOUT = ("arm", "mean", "sd", "difference", "interval", "unadjusted", "p", "verdict")
"""Columns of the page's tables of numbers."""
