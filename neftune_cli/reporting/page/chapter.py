"""Chapter of the page: one comparison with its tables, interval drawings, plots, prompts and files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from neftune_cli.analysis.paper_claims import UNADJUSTED_CLAIMS_NOTE
from neftune_cli.analysis.results import Assessment, Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.formatting import counted, percent
from neftune_cli.reporting.cells import DASH
from neftune_cli.reporting.columns import PAGE_LAYOUT, PAGE_VERDICT_LAYOUT, TableColumn
from neftune_cli.reporting.footnotes import margins_by_metric
from neftune_cli.reporting.page.responses import PromptResponses, truncated
from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.sections import (
    Section,
    best_arm_sentences,
    early_stopping_section,
    sections,
    seeds_of_arms,
    title,
)

MOST_FILE_CHARACTERS = 60_000
"""Longer files are truncated."""


@dataclass(frozen=True)
class PageContent:
    """Input of one chapter. Texts are plain: the page shows them literally and never runs them."""

    comparison: Comparison
    advice: str
    footnotes: Sequence[str]
    plots: Mapping[str, Plot]
    """Plots by name, in the order of the page."""
    responses: Sequence[PromptResponses]
    responses_seed: int | None
    """Seed of the trained arms with these responses; None without responses."""
    spec: str
    """Text of `sweep.yaml`; empty without it."""
    manifest: str
    """Text of `manifest.json`; empty without it."""
    command: str
    """Commands that reproduce the comparison, one per line."""


@dataclass(frozen=True)
class PageTable:
    """A section as a table of the page, in one layout; optional columns without any value are left out."""

    section: Section
    layout: Sequence[str] = PAGE_LAYOUT
    left_out: frozenset[str] = frozenset()
    """Keys of further columns to leave out."""

    @property
    def columns(self) -> list[TableColumn]:
        """Return the columns of the table."""
        columns = self.section.columns(self.layout)
        return [one for one in columns if one.key not in self.left_out and (not one.optional or self._has_values(one))]

    @property
    def compares(self) -> bool:
        """Return whether the table has differences."""
        return self.section.compares

    @property
    def has_spread(self) -> bool:
        """Return whether the table has standard deviations."""
        return any(column.key == "sd" for column in self.columns)

    def _has_values(self, column: TableColumn) -> bool:
        rows = (row for block in self.section.blocks for row in self.section.arm_rows(block))
        return any(column.text(row) not in ("", DASH) for row in rows)


DRAWING_WIDTH = 104.0
"""Width of an interval drawing in its own units."""
_EDGE = 6.0


@dataclass(frozen=True)
class IntervalDrawing:
    """Horizontal positions of an interval drawing, 0 to `DRAWING_WIDTH`."""

    zero: float
    margin_low: float
    margin_width: float
    low: float
    high: float
    mean: float


def draw_intervals(assessments: Mapping[str, Assessment | None]) -> dict[str, IntervalDrawing]:
    """Return a drawing for each arm with an interval, all on one scale that includes zero."""
    known = {arm: one for arm, one in assessments.items() if one and math.isfinite(one.comparison.ci_low)}
    if not known:
        return {}
    ends = [0.0]
    for one in known.values():
        ends += [one.comparison.ci_low, one.comparison.ci_high]
    low, high = min(ends), max(ends)
    return {arm: _drawing(one, low, (high - low) or 1.0) for arm, one in known.items()}


def _drawing(assessment: Assessment, low: float, extent: float) -> IntervalDrawing:
    def position(value: float) -> float:
        share = min(max((value - low) / extent, 0.0), 1.0)
        return round(_EDGE + share * (DRAWING_WIDTH - 2 * _EDGE), 1)

    margin_low, margin_high = position(-assessment.margin), position(assessment.margin)
    return IntervalDrawing(
        zero=position(0.0),
        margin_low=margin_low,
        margin_width=round(margin_high - margin_low, 1),
        low=position(assessment.comparison.ci_low),
        high=position(assessment.comparison.ci_high),
        mean=position(assessment.comparison.difference),
    )


@dataclass(frozen=True)
class AttachedFile:
    """A text file shown on the page."""

    name: str
    text: str
    left_out: int
    """Characters left out at the end."""


@dataclass(frozen=True)
class Chapter:
    """One comparison on the page."""

    id: str
    content: PageContent
    primary: PageTable | None
    """Table of the primary metric; None where the metric has no value."""
    drawings: Mapping[str, IntervalDrawing]
    """Interval drawings of the primary metric by arm."""
    best: str | None
    """Gain of selecting the best arm."""
    stopping: PageTable | None
    tables: Sequence[PageTable]
    recipe: AttachedFile
    manifest: AttachedFile
    plots: Sequence[Plot] = ()
    """Plots that fit into the page."""
    prompts: Sequence[Markup] = ()
    """Prompts that fit into the page."""

    @property
    def comparison(self) -> Comparison:
        """Return the comparison."""
        return self.content.comparison

    @property
    def title(self) -> str:
        """Return the title of the comparison."""
        return title(self.comparison)

    @property
    def advice(self) -> tuple[str, str]:
        """Return the first sentence of the advice, and the others."""
        first, stop, others = self.content.advice.partition(". ")
        return first + stop.rstrip(), others

    @property
    def claims_note(self) -> str:
        """Return the note on testing several claims."""
        return UNADJUSTED_CLAIMS_NOTE

    @property
    def confidence(self) -> str:
        """Return the confidence of the intervals as a percentage."""
        return percent(self.comparison.confidence)

    @property
    def seeds(self) -> str:
        """Return the seeds of the arms."""
        return seeds_of_arms(self.comparison)

    @property
    def items(self) -> str:
        """Return the number of items of the primary metric; empty for a metric without per-item values."""
        first = next(iter(self._assessments(self.comparison.primary)), None)
        if first is None or first.comparison.items == 1:
            return ""
        items, clusters = first.comparison.items, first.comparison.clusters
        return counted(items, "example") + ("" if clusters == items else f" in {clusters:,} independent groups")

    @property
    def has_items(self) -> bool:
        """Return whether any metric has per-item values."""
        return any(one.comparison.items > 1 for key in self.comparison.metrics for one in self._assessments(key))

    @property
    def is_about_method(self) -> bool:
        """Return whether any arm has enough seeds for a verdict about the method."""
        assessments = (one for key in self.comparison.metrics for one in self._assessments(key))
        return any(one.comparison.about == "method" for one in assessments)

    @property
    def margin(self) -> str:
        """Return the equivalence margin of the primary metric; empty where nothing is compared."""
        return margins_by_metric(self.comparison, (self.comparison.primary,))

    @property
    def files(self) -> Sequence[AttachedFile]:
        """Return the files that are not empty."""
        return [file for file in (self.recipe, self.manifest) if file.text]

    def role(self, arm: str) -> str:
        """Return the role of a row: `base`, `baseline` or `arm`."""
        return {BASE_ARM: "base", self.comparison.baseline: "baseline"}.get(arm, "arm")

    def filled(self, plots: Sequence[Plot], prompts: Sequence[Markup]) -> "Chapter":
        """Return the chapter with plots and prompts."""
        return replace(self, plots=plots, prompts=prompts)

    def _assessments(self, key: str) -> list[Assessment]:
        assessments = (self.comparison.assessment(arm.name, key) for arm in self.comparison.treated)
        return [one for one in assessments if one]


def build_chapter(number: int, content: PageContent) -> Chapter:
    """Return the chapter of one comparison, without plots and prompts; `number` makes its ids unique."""
    comparison = content.comparison
    tables = sections(comparison)
    stopping = early_stopping_section(comparison)
    drawings = draw_intervals(
        {arm.name: comparison.assessment(arm.name, comparison.primary) for arm in comparison.arms}
    )
    return Chapter(
        id=f"c{number}",
        content=content,
        primary=_primary_table(tables, comparison.primary, has_drawings=bool(drawings)),
        drawings=drawings,
        best=best_arm_sentences(comparison),
        stopping=PageTable(stopping) if stopping else None,
        tables=[PageTable(section) for section in tables],
        recipe=_file("sweep.yaml", content.spec),
        manifest=_file("manifest.json", content.manifest),
    )


def _primary_table(tables: Sequence[Section], key: str, *, has_drawings: bool) -> PageTable | None:
    for section in tables:
        if key in section.keys:
            block = section.blocks[section.keys.index(key)]
            left_out = frozenset[str]() if has_drawings else frozenset({"drawing"})
            return PageTable(replace(section, keys=(key,), blocks=(block,)), PAGE_VERDICT_LAYOUT, left_out)
    return None


def _file(name: str, text: str) -> AttachedFile:
    shown = truncated(text, MOST_FILE_CHARACTERS)
    return AttachedFile(name, shown.text, shown.left_out)
