"""Chapter of the page: one comparison with its forest plots, tables, plots, prompts, checklist and files."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from markupsafe import Markup

from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.outlook import Outlook
from neftune_cli.analysis.paper_claims import UNADJUSTED_CLAIMS_NOTE
from neftune_cli.analysis.results import Assessment, Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import joined_manifests
from neftune_cli.formatting import capitalized, percent
from neftune_cli.reporting.cells import DASH, STATE_VERDICTS, interval_kind, share_range
from neftune_cli.reporting.checklist.design import Answer
from neftune_cli.reporting.checklist.document import SeedTable, checklist, checklist_markdown, seed_table
from neftune_cli.reporting.checklist.files import RunFiles
from neftune_cli.reporting.columns import PAGE_LAYOUT, TableColumn
from neftune_cli.reporting.inference_sentences import margins_by_metric, simultaneous_over
from neftune_cli.reporting.next_step import next_step, sentence_without_command
from neftune_cli.reporting.outlooks import OUTLOOK_TITLE, outlook_note
from neftune_cli.reporting.page.forest import Forest, build_forest, contrast_sentences, metric_forests
from neftune_cli.reporting.page.responses import PromptResponses, truncate
from neftune_cli.reporting.plots.canvas import Plot
from neftune_cli.reporting.screen import facts, scope_parts
from neftune_cli.reporting.sections import (
    Section,
    early_stopping_section,
    sections,
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
    spec_texts: Sequence[str]
    """Texts of `sweep.yaml`, one for each sweep; empty for runs of other tools."""
    manifest_texts: Sequence[str]
    """Texts of `manifest.json`, one for each sweep that has one."""
    command: str
    """Commands that reproduce the comparison, one per line."""


@dataclass(frozen=True)
class PageTable:
    """A section as a table of numbers; optional columns without any value are left out."""

    section: Section

    @cached_property
    def columns(self) -> list[TableColumn]:
        """The columns of the table. The template reads them for every row."""
        columns = self.section.columns(PAGE_LAYOUT)
        return [one for one in columns if not one.optional or self._has_values(one)]

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


@dataclass(frozen=True)
class PageSection:
    """A section of the page: forest plots, and the same quantities as numbers."""

    section: Section
    forests: Sequence[Forest]
    numbers: PageTable
    sentences: Sequence[str] = ()
    """Further numbers."""

    @property
    def has_noise_ratios(self) -> bool:
        """Return whether any row has a noise ratio."""
        return any(forest.has_noise_ratios for forest in self.forests)


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
    opening: "Opening"
    primary: PageSection | None
    """Primary metric; None where the metric has no value."""
    best: str | None
    """Sentences on the best arm and its advantage."""
    stopping: PageSection | None
    sections: Sequence[PageSection]
    outlooks: Sequence[Sequence[str]]
    """Headings and rows of the chances of a decision; empty where there are none."""
    answers: Sequence[Answer]
    """Checklist for papers."""
    checklist: AttachedFile
    """The checklist in Markdown."""
    seed_table: SeedTable
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
    def outlook_title(self) -> str:
        """Return the title of the chances of a decision."""
        return OUTLOOK_TITLE

    @property
    def outlook_note(self) -> str:
        """Return the assumptions of the chances of a decision."""
        return outlook_note(self.comparison)

    @property
    def claims_note(self) -> str:
        """Return the note on testing several claims."""
        return UNADJUSTED_CLAIMS_NOTE

    @property
    def confidence(self) -> str:
        """Return the confidence of the intervals as a percentage."""
        return percent(self.comparison.confidence)

    @property
    def legend(self) -> str:
        """Return the meaning of the marks in the plot of the primary metric; empty where nothing is drawn."""
        forest = self.primary.forests[0] if self.primary else None
        if forest is None or forest.scale is None:
            return ""
        kind = interval_kind(self.comparison)
        intervals = f"{kind} intervals".lstrip().capitalize()
        band = f" Gray band: equivalence margin, {self.margin}." if forest.band else ""
        return f"{intervals}; dots are mean differences.{band}"

    @property
    def to_fill_in(self) -> int:
        """Return the number of unknown facts in the checklist."""
        return sum(len(answer.missing) for answer in self.answers)

    @property
    def equivalence_confidence(self) -> str:
        """Return the confidence level of the intervals by which equivalence is tested."""
        return percent(self.comparison.equivalence_confidence)

    @property
    def simultaneous_over(self) -> str:
        """Return what intervals are simultaneous over."""
        return simultaneous_over(self.comparison)

    @property
    def has_items(self) -> bool:
        """Return whether any metric has per-item values."""
        return any(one.paired.items > 1 for one in self._assessments())

    @property
    def has_enough_seeds(self) -> bool:
        """Return whether any arm has enough seeds for a verdict about the method."""
        return any(one.paired.has_enough_seeds for one in self._assessments())

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

    def _assessments(self) -> Iterator[Assessment]:
        """Yield the assessments of all metrics."""
        return chain.from_iterable(self.comparison.assessments(key).values() for key in self.comparison.metrics)


def build_chapter(number: int, content: PageContent) -> Chapter:
    """Return the chapter of one comparison, without plots and prompts; `number` makes its ids unique."""
    comparison = content.comparison
    tables = sections(comparison)
    run_files = RunFiles.read(content.spec_texts, content.manifest_texts)
    return Chapter(
        id=f"c{number}",
        content=content,
        opening=opening(comparison, content.advice),
        primary=_primary_section(comparison, tables),
        best=best_arm_sentences(comparison),
        stopping=_stopping_section(comparison),
        sections=[
            PageSection(table, metric_forests(comparison, table), PageTable(table), _sentences(comparison, table))
            for table in tables
        ],
        outlooks=outlook_table(comparison),
        answers=checklist(comparison, run_files),
        checklist=_file("checklist.md", checklist_markdown(comparison, run_files)),
        seed_table=seed_table(comparison),
        recipe=_file("sweep.yaml", "---\n".join(content.spec_texts)),
        manifest=_file("manifest.json", joined_manifests(content.manifest_texts)),
    )


def _primary_section(comparison: Comparison, tables: Sequence[Section]) -> PageSection | None:
    key = comparison.primary
    for section in tables:
        if key in section.keys:
            block = section.blocks[section.keys.index(key)]
            alone = replace(section, keys=(key,), blocks=(block,))
            sentences = _sentences(comparison, alone)
            return PageSection(alone, metric_forests(comparison, alone), PageTable(alone), sentences)
    return None


def _stopping_section(comparison: Comparison) -> PageSection | None:
    section, stopping = early_stopping_section(comparison), comparison.early_stopping
    if section is None or stopping is None:
        return None
    epochs, best, last = section.blocks
    by_arm = {arm.name: arm for arm in stopping.arms}
    forests = [
        build_forest(comparison, section, epochs, {}),
        build_forest(comparison, section, best, {name: arm.best for name, arm in by_arm.items()}),
        build_forest(comparison, section, last, {name: arm.last for name, arm in by_arm.items()}),
    ]
    return PageSection(section, forests, PageTable(section))


def _sentences(comparison: Comparison, section: Section) -> list[str]:
    return [
        f"{comparison.metrics[key].name}. {sentence}" if len(section.keys) > 1 else sentence
        for key in section.keys
        for sentence in contrast_sentences(comparison, key)
    ]


def _file(name: str, text: str) -> AttachedFile:
    shown = truncate(text, MOST_FILE_CHARACTERS)
    return AttachedFile(name, shown.text, shown.left_out)


@dataclass(frozen=True)
class Opening:
    """Texts of the first screen."""

    headline: str
    color: str
    """Verdict that has the color of the headline."""
    sentence: str
    scope: str
    facts: Mapping[str, str]
    """Label to text, in the order of the page."""
    command: str
    """Command that can decide what is open; empty if there is none."""
    cost: str
    """Seeds, trials and time of the command."""
    statement: str
    """The advice."""


def opening(comparison: Comparison, advice: str) -> Opening:
    """Return the texts of the first screen, as on the terminal.

    The any-noise test is below the plot of the primary metric, and missing trials are in a note of their own.
    """
    found = headline(comparison)
    step = next_step(comparison)
    sentence = "" if step else sentence_without_command(comparison)
    shown = {fact.label: fact.sentence for fact in facts(comparison, has_noise_test=False)}
    return Opening(
        headline=found.state.capitalize(),
        color=STATE_VERDICTS[found.state] or "",
        sentence=found.sentence,
        scope=" · ".join(scope_parts(comparison)),
        facts={**shown, **({"Next": capitalized(f"{sentence}.")} if sentence else {})},
        command=shlex.join(step.command) if step else "",
        cost=step.cost if step else "",
        statement=advice,
    )


def outlook_table(comparison: Comparison) -> list[Sequence[str]]:
    """Return headings and rows: the chance of a decision by arm, assumed true difference and total number of seeds."""
    metric = comparison.metrics[comparison.primary]
    chances = {(arm, one.effect, one.seeds): one for arm, found in comparison.outlooks.items() for one in found}
    seeds = sorted({seeds for _, _, seeds in chances})
    rows = dict.fromkeys((arm, effect) for arm, effect, _ in chances)
    cells = [
        (arm, metric.assumed(effect).lstrip("+"), *(_chance(chances.get((arm, effect, number))) for number in seeds))
        for arm, effect in rows
    ]
    return [("arm", "true difference", *(f"{number} seeds" for number in seeds)), *cells] if cells else []


def _chance(one: Outlook | None) -> str:
    return DASH if one is None else share_range(one.low, one.high)
