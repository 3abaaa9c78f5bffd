"""A comparison as tables of text, block by block: what the terminal, Markdown and LaTeX have in common."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.results import Comparison, Estimate
from neftune_cli.analysis.wording import percent
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.metrics import Metric
from neftune_cli.reporting.differences import DASH, NO_DIFFERENCE, Difference, difference_of

WIDEST_BASELINE_HEADING = 13
NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Cell:
    """A number and its spread, written out; the spread is empty for a single seed."""

    number: str
    spread: str = ""

    @property
    def text(self) -> str:
        """Return the whole cell on one line."""
        return f"{self.number} ± {self.spread}" if self.spread else self.number


UNDEFINED = Cell(DASH)


@dataclass(frozen=True)
class Block:
    """Columns that belong together: one quantity over all rows and, beside it, its differences to the baseline."""

    heading: str
    unit: str
    values: tuple[Cell, ...]
    differences: tuple[Difference, ...] | None
    """None where nothing is compared."""

    @property
    def title(self) -> str:
        """Return heading and unit on one line."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


@dataclass(frozen=True)
class Section:
    """One table, and what stands over its columns."""

    title: str
    rows: tuple[str, ...]
    """Names of the arms, the base before them where it was evaluated."""
    blocks: tuple[Block, ...]
    against: str
    """Heading of the differences."""
    interval: str
    """Heading of the intervals."""
    keys: tuple[str, ...]
    """Metrics in it."""
    note: str = ""
    """A sentence to be read before the table."""

    @property
    def has_base(self) -> bool:
        """Return whether the first row is the model before fine-tuning."""
        return self.rows[0] == BASE_ARM

    @property
    def headings(self) -> list[str]:
        """Return what stands over the columns of `lines`."""
        compares = any(block.differences for block in self.blocks)
        return ["arm", "value", *([self.against, self.interval, "verdict"] if compares else [])]

    def parts(self, count: int) -> Iterator[Sequence[Block]]:
        """Yield the blocks in so many parts, about equally many in each, for tables that would be too large."""
        size, longer = divmod(len(self.blocks), count)
        start = 0
        for part in range(count):
            end = start + size + (part < longer)
            yield self.blocks[start:end]
            start = end

    def cells(self, block: Block) -> list[tuple[str, Cell, Difference]]:
        """Return a block's rows: arm, value and difference."""
        differences = block.differences or (NO_DIFFERENCE,) * len(self.rows)
        return list(zip(self.rows, block.values, differences, strict=True))

    def lines(self, block: Block) -> list[list[str]]:
        """Return a block's rows under the section's headings, for tables that have one block under the other."""
        cells = self.cells(block)
        whole = [[arm, value.text, one.number, one.interval, one.verdict] for arm, value, one in cells]
        return [line[: len(self.headings)] for line in whole]


def title(comparison: Comparison) -> str:
    """Return the heading of everything about one sweep."""
    return f"{comparison.sweep}, compared with {comparison.baseline}" if comparison.treated else comparison.sweep


def sections(comparison: Comparison) -> list[Section]:
    """Return the tables of metrics in the order of their first metric, without metrics that have no value anywhere."""
    defined = [metric for metric in comparison.metrics.values() if is_defined(comparison, metric.key)]
    return [
        Section(
            title=name,
            rows=tuple(row_names(comparison)),
            blocks=tuple(_block(comparison, metric) for metric in defined if metric.section == name),
            against=difference_heading(comparison),
            interval=f"{percent(comparison.confidence)} interval",
            keys=tuple(metric.key for metric in defined if metric.section == name),
        )
        for name in dict.fromkeys(metric.section for metric in defined)
    ]


def row_names(comparison: Comparison) -> list[str]:
    """Return the names of a table's rows: the base, where it was evaluated, then the arms."""
    base = [] if comparison.base is None else [BASE_ARM]
    return base + [arm.name for arm in comparison.arms]


def is_defined(comparison: Comparison, key: str) -> bool:
    """Return whether the base or any arm has a value of the metric."""
    base = comparison.base or {}
    return base.get(key) is not None or any(arm.estimates.get(key) for arm in comparison.arms)


def difference_heading(comparison: Comparison) -> str:
    """Return the heading of the difference columns, short enough not to widen them."""
    short = len(comparison.baseline) <= WIDEST_BASELINE_HEADING
    return f"vs {comparison.baseline}" if short else "vs baseline"


def seeds_of_arms(comparison: Comparison) -> str:
    """Return the seeds that every arm has, or each arm's own where they differ."""
    by_arm = {arm.name: ", ".join(map(str, arm.seeds)) for arm in comparison.arms}
    if len(set(by_arm.values())) == 1:
        return next(iter(by_arm.values()))
    return "; ".join(f"{seeds} ({name})" for name, seeds in by_arm.items())


def _block(comparison: Comparison, metric: Metric) -> Block:
    base = () if comparison.base is None else (_base_cell(comparison.base.get(metric.key), metric),)
    values = (*base, *(_value_cell(arm.estimates.get(metric.key), metric) for arm in comparison.arms))
    if not comparison.treated:
        return Block(metric.title, metric.unit, values, None)
    gap = (NO_DIFFERENCE,) * len(base)
    differences = (difference_of(arm, metric, comparison.baseline) for arm in comparison.arms)
    return Block(metric.title, metric.unit, values, (*gap, *differences))


def _base_cell(value: float | None, metric: Metric) -> Cell:
    return UNDEFINED if value is None else _cell(value, None, metric)


def _value_cell(estimate: Estimate | None, metric: Metric) -> Cell:
    return UNDEFINED if estimate is None else _cell(estimate.mean, estimate.sd, metric)


def _cell(value: float, sd: float | None, metric: Metric) -> Cell:
    if not math.isfinite(value):
        return Cell(NOT_FINITE)
    return Cell(metric.number(value), "" if sd is None else metric.number(sd))
