"""A table of the page: a section's rows, and of its columns those that say something."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from neftune_cli.analysis.paper_claims import EACH_AT_ITS_OWN_LEVEL
from neftune_cli.analysis.results import Comparison, Judgement
from neftune_cli.analysis.wording import counted, percent
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.reporting.cells import DASH, Difference, Section, sections, seeds_of_arms, title
from neftune_cli.reporting.footnotes import margin_words
from neftune_cli.reporting.page.content import PageContent, cut
from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.selection import best_arm_sentences, early_stopping_section


@dataclass(frozen=True)
class PageTable:
    """One table. Columns that would be empty from top to bottom are left out."""

    section: Section

    @property
    def has_spread(self) -> bool:
        """Return whether any value has a standard deviation."""
        return any(cell.spread for block in self.section.blocks for cell in block.values)

    @property
    def compares(self) -> bool:
        """Return whether any value is compared."""
        return any(block.differences for block in self.section.blocks)

    @property
    def has_p(self) -> bool:
        """Return whether anything is said of the method: without that there are no p-values."""
        return any(one.p not in ("", DASH) for one in self._differences())

    @property
    def has_detectable(self) -> bool:
        """Return whether any comparison says what it would have found."""
        return any(one.detectable not in ("", DASH) for one in self._differences())

    @property
    def width(self) -> int:
        """Return the number of columns: arm and mean, then what there is."""
        return 2 + self.has_spread + 3 * self.compares + self.has_p

    def only(self, key: str) -> "PageTable | None":
        """Return the table of one metric alone, None where it isn't in this one."""
        if key not in self.section.keys:
            return None
        place = self.section.keys.index(key)
        return PageTable(replace(self.section, keys=(key,), blocks=(self.section.blocks[place],)))

    def _differences(self) -> Iterator[Difference]:
        return (one for block in self.section.blocks for one in block.differences or ())


WIDTH = 104.0
"""Of the picture, in its own unit."""
_EDGE = 6.0


@dataclass(frozen=True)
class IntervalDrawing:
    """Positions from left to right, 0 to `WIDTH`."""

    zero: float
    margin_low: float
    margin_width: float
    low: float
    high: float
    mean: float


def draw_intervals(judgements: Mapping[str, Judgement | None]) -> dict[str, IntervalDrawing]:
    """Return a picture for each arm whose interval is known, all on one scale that has no difference in it."""
    known = {arm: one for arm, one in judgements.items() if one and math.isfinite(one.comparison.ci_low)}
    if not known:
        return {}
    ends = [0.0]
    for one in known.values():
        ends += [one.comparison.ci_low, one.comparison.ci_high]
    low, high = min(ends), max(ends)
    return {arm: _drawing(one, low, (high - low) or 1.0) for arm, one in known.items()}


def _drawing(judgement: Judgement, low: float, extent: float) -> IntervalDrawing:
    def place(value: float) -> float:
        inside = min(max((value - low) / extent, 0.0), 1.0)
        return round(_EDGE + inside * (WIDTH - 2 * _EDGE), 1)

    margin_low, margin_high = place(-judgement.margin), place(judgement.margin)
    return IntervalDrawing(
        zero=place(0.0),
        margin_low=margin_low,
        margin_width=round(margin_high - margin_low, 1),
        low=place(judgement.comparison.ci_low),
        high=place(judgement.comparison.ci_high),
        mean=place(judgement.comparison.difference),
    )


MOST_FILE_CHARACTERS = 60_000
"""Of a file that is otherwise shown whole."""


@dataclass(frozen=True)
class File:
    """A text file shown on the page."""

    name: str
    text: str
    left_out: int
    """Characters."""


@dataclass(frozen=True)
class Chapter:
    """One comparison."""

    id: str
    content: PageContent
    primary: PageTable | None
    """None where the metric has no value anywhere."""
    drawings: Mapping[str, IntervalDrawing]
    """The primary metric's, by arm."""
    best: str | None
    """What choosing the best arm gains."""
    stopping: PageTable | None
    tables: Sequence[PageTable]
    recipe: File
    manifest: File
    plots: Sequence[Plot] = ()
    """Those there is room for."""
    prompts: Sequence[Markup] = ()

    @property
    def comparison(self) -> Comparison:
        """Return what it is about."""
        return self.content.comparison

    @property
    def advice(self) -> tuple[str, str]:
        """Return the first sentence of the advice, and the others."""
        first, stop, others = self.content.advice.partition(". ")
        return first + stop.rstrip(), others

    @property
    def claims_note(self) -> str:
        """Return what a reader of all claims has to know."""
        return EACH_AT_ITS_OWN_LEVEL

    @property
    def title(self) -> str:
        """Return the heading of everything about it."""
        return title(self.comparison)

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
        """Return what the primary metric was measured on; empty for a score that has no items."""
        first = next(iter(self._judgements(self.comparison.primary)), None)
        if first is None or first.comparison.items == 1:
            return ""
        items, clusters = first.comparison.items, first.comparison.clusters
        return counted(items, "example") + ("" if clusters == items else f" in {clusters:,} independent groups")

    @property
    def has_items(self) -> bool:
        """Return whether any difference is a mean over several items."""
        return any(one.comparison.items > 1 for key in self.comparison.metrics for one in self._judgements(key))

    @property
    def is_about_method(self) -> bool:
        """Return whether there are seeds enough to say something of the method."""
        judged = (one for key in self.comparison.metrics for one in self._judgements(key))
        return any(one.comparison.about == "method" for one in judged)

    @property
    def margin(self) -> str:
        """Return the primary metric's margin; empty where nothing is judged."""
        return margin_words(self.comparison, (self.comparison.primary,))

    @property
    def files(self) -> Sequence[File]:
        """Return the files that there are."""
        return [file for file in (self.recipe, self.manifest) if file.text]

    def role(self, arm: str) -> str:
        """Return what a row is: the base, the baseline or another arm."""
        return {BASE_ARM: "base", self.comparison.baseline: "baseline"}.get(arm, "arm")

    def _judgements(self, key: str) -> list[Judgement]:
        judged = (self.comparison.judgement(arm.name, key) for arm in self.comparison.treated)
        return [one for one in judged if one]

    def filled(self, plots: Sequence[Plot], prompts: Sequence[Markup]) -> "Chapter":
        """Return the chapter with the plots and prompts that there is room for."""
        return replace(self, plots=plots, prompts=prompts)


def chapter(number: int, content: PageContent) -> Chapter:
    """Return the chapter of one comparison, without plots and prompts; `number` tells its ids from others'."""
    comparison = content.comparison
    tables = [PageTable(section) for section in sections(comparison)]
    stopping = early_stopping_section(comparison)
    judged = {arm.name: comparison.judgement(arm.name, comparison.primary) for arm in comparison.arms}
    return Chapter(
        id=f"c{number}",
        content=content,
        primary=_primary(tables, comparison.primary),
        drawings=draw_intervals(judged),
        best=best_arm_sentences(comparison),
        stopping=PageTable(stopping) if stopping else None,
        tables=tables,
        recipe=File("sweep.yaml", *cut(content.spec, MOST_FILE_CHARACTERS)),
        manifest=File("manifest.json", *cut(content.manifest, MOST_FILE_CHARACTERS)),
    )


def _primary(tables: Sequence[PageTable], key: str) -> PageTable | None:
    return next(filter(None, (table.only(key) for table in tables)), None)
