"""One comparison as the page's template sees it: numbers written, tables in rows, what there is room for filled in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from neftune_cli.analysis.claims import EACH_AT_ITS_OWN_LEVEL
from neftune_cli.analysis.results import BestArm, Comparison, Status
from neftune_cli.evidence.metrics import Metric
from neftune_cli.reporting.page.content import PageContent
from neftune_cli.reporting.page.metric_rows import MetricRows, StoppedRow, by_section, metric_rows, stopped_rows
from neftune_cli.reporting.page.visible_text import cut
from neftune_cli.reporting.page.written import STATUS_SYMBOLS, interval
from neftune_cli.reporting.plots.canvas import Plot

MOST_FILE_CHARACTERS = 60_000
"""Of a file that is otherwise shown whole."""


@dataclass(frozen=True)
class BestArmWords:
    """The best arm's numbers, written."""

    arm: str
    metric: Metric
    naive: str
    gain: str
    interval: str
    chosen: Sequence[tuple[str, str]]
    """Arm and share of splits, the most often chosen first."""


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
    primary: MetricRows
    best: BestArmWords | None
    stopping: Mapping[str, Sequence[StoppedRow]]
    tables: Mapping[str, Sequence[MetricRows]]
    margins: Sequence[tuple[Metric, str]]
    """Metric and the largest difference that counts as none, written."""
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
    def confidence(self) -> str:
        """Return the confidence of the intervals as a percentage."""
        return f"{100 * self.comparison.confidence:g}%"

    @property
    def seeds(self) -> str:
        """Return the seeds of the arms, which of each where they differ."""
        by_arm = {arm.name: ", ".join(map(str, arm.seeds)) for arm in self.comparison.arms}
        if len(set(by_arm.values())) == 1:
            return next(iter(by_arm.values()))
        return "; ".join(f"{seeds} ({name})" for name, seeds in by_arm.items())

    @property
    def items(self) -> str:
        """Return what the primary metric was measured on; empty for a score that has no items."""
        judged = [self.comparison.judgement(arm.name, self.comparison.primary) for arm in self.comparison.treated]
        first = next((one.comparison for one in judged if one), None)
        if first is None or first.items == 1:
            return ""
        groups = "" if first.clusters == first.items else f" in {first.clusters} independent groups"
        return f"{first.items} examples{groups}"

    @property
    def status_symbols(self) -> Mapping[Status, str]:
        """Return the sign that stands before a claim's status."""
        return STATUS_SYMBOLS

    def filled(self, plots: Sequence[Plot], prompts: Sequence[Markup]) -> "Chapter":
        """Return the chapter with the plots and prompts that there is room for."""
        return replace(self, plots=plots, prompts=prompts)


def chapter(number: int, content: PageContent) -> Chapter:
    """Return the chapter of one comparison, without plots and prompts; `number` tells its ids from others'."""
    comparison = content.comparison
    return Chapter(
        id=f"c{number}",
        content=content,
        primary=metric_rows(comparison, comparison.primary),
        best=_best(comparison.metrics[comparison.best.metric], comparison.best) if comparison.best else None,
        stopping=stopped_rows(comparison),
        tables=by_section(comparison),
        margins=list(_margins(comparison)),
        recipe=File("sweep.yaml", *cut(content.spec, MOST_FILE_CHARACTERS)),
        manifest=File("manifest.json", *cut(content.manifest, MOST_FILE_CHARACTERS)),
    )


def _best(metric: Metric, best: BestArm) -> BestArmWords:
    chosen = sorted(best.chosen.items(), key=lambda pair: -pair[1])
    return BestArmWords(
        arm=best.arm,
        metric=metric,
        naive=metric.signed(best.naive),
        gain=metric.signed(best.gain.difference),
        interval=interval(metric, best.gain),
        chosen=[(arm, f"{share:.0%}") for arm, share in chosen if share > 0],
    )


def _margins(comparison: Comparison) -> Iterator[tuple[Metric, str]]:
    """Yield the margins that differences were judged by, in the metrics' units: users may have set others."""
    for key, metric in comparison.metrics.items():
        judged = (comparison.judgement(arm.name, key) for arm in comparison.treated)
        if first := next((one for one in judged if one), None):
            yield metric, metric.number(first.margin)
