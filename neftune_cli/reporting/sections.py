"""Tables of a comparison, independent of the output format: one section per group of metrics, and early stopping.

Also the titles of the other parts of a document, and the details of a claim of the paper.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.results import Assessment, ClaimResult, Comparison, EarlyStopping
from neftune_cli.analysis.verdicts import BEFORE_FIRST_LOOK, VALUE_NOT_FINITE
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.formatting import percent
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS, Metric
from neftune_cli.reporting.cells import (
    DASH,
    NO_DIFFERENCE,
    UNDEFINED,
    Cell,
    Difference,
    arm_difference,
    assessed_difference,
    number_cell,
    value_cell,
)
from neftune_cli.reporting.columns import TABLE_COLUMNS, TEXT_LAYOUT, ArmRow, TableColumn

ADVICE_TITLE = "Advice"
BEST_ARM_TITLE = "Best arm"
EARLY_STOPPING_TITLE = "Comparison with early stopping"
CLAIMS_TITLE = "Claims of the NEFTune paper (arXiv 2310.05914)"
WIDEST_BASELINE_HEADING = 13
"""Characters of the longest baseline name in a column heading."""


@dataclass(frozen=True)
class Block:
    """One quantity of all rows, with its differences from the baseline."""

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
    """One titled table: rows are arms, and blocks are quantities."""

    title: str
    rows: tuple[str, ...]
    """Names of the arms, after the base where it was evaluated."""
    blocks: tuple[Block, ...]
    against: str
    """Heading of the differences."""
    confidence: str
    """Confidence of the intervals as a percentage."""
    keys: tuple[str, ...]
    """Keys of the metrics; in a table of metrics, those of the blocks in their order."""
    note: str = ""
    """Sentences to read before the table."""

    @property
    def has_base(self) -> bool:
        """Return whether the first row is the model before fine-tuning."""
        return self.rows[0] == BASE_ARM

    @property
    def compares(self) -> bool:
        """Return whether any block has differences."""
        return any(block.differences for block in self.blocks)

    def columns(self, layout: Sequence[str] = TEXT_LAYOUT) -> list[TableColumn]:
        """Return the columns of a layout, without those of differences where nothing is compared."""
        columns = (TABLE_COLUMNS[key] for key in layout)
        return [column for column in columns if self.compares or not column.compares]

    def heading(self, column: TableColumn) -> str:
        """Return the heading of a column."""
        return column.heading.format(against=self.against, confidence=self.confidence)

    def arm_rows(self, block: Block) -> list[ArmRow]:
        """Return the rows of a block."""
        differences = block.differences or (NO_DIFFERENCE,) * len(self.rows)
        cells = zip(self.rows, block.values, differences, strict=True)
        return [ArmRow(arm, value, difference) for arm, value, difference in cells]

    def lines(self, block: Block) -> list[list[str]]:
        """Return the cells of a block in the columns of the text layout."""
        return [[column.text(row) for column in self.columns()] for row in self.arm_rows(block)]

    def parts(self, count: int) -> Iterator[Sequence[Block]]:
        """Yield the blocks in `count` parts of about equal size, for tables that would be too large."""
        size, longer = divmod(len(self.blocks), count)
        start = 0
        for part in range(count):
            end = start + size + (part < longer)
            yield self.blocks[start:end]
            start = end


def title(comparison: Comparison) -> str:
    """Return the title of a comparison."""
    return f"{comparison.sweep}, compared with {comparison.baseline}" if comparison.treated else comparison.sweep


def sections(comparison: Comparison) -> list[Section]:
    """Return the tables of metrics in the order of their first metric, without metrics that have no value."""
    defined = [metric for metric in comparison.metrics.values() if is_defined(comparison, metric.key)]
    return [
        Section(
            title=name,
            rows=tuple(row_names(comparison)),
            blocks=tuple(_block(comparison, metric) for metric in defined if metric.section == name),
            against=difference_heading(comparison),
            confidence=percent(comparison.confidence),
            keys=tuple(metric.key for metric in defined if metric.section == name),
        )
        for name in dict.fromkeys(metric.section for metric in defined)
    ]


def row_names(comparison: Comparison) -> list[str]:
    """Return the names of the rows: the base, where it was evaluated, then the arms."""
    base = [] if comparison.base_scores is None else [BASE_ARM]
    return base + [arm.name for arm in comparison.arms]


def is_defined(comparison: Comparison, key: str) -> bool:
    """Return whether the base or any arm has a value of the metric."""
    base = comparison.base_scores or {}
    return base.get(key) is not None or any(arm.estimates.get(key) for arm in comparison.arms)


def difference_heading(comparison: Comparison) -> str:
    """Return the heading of the differences, without a baseline name that would widen the column."""
    short = len(comparison.baseline) <= WIDEST_BASELINE_HEADING
    return f"vs {comparison.baseline}" if short else "vs baseline"


def _block(comparison: Comparison, metric: Metric) -> Block:
    base = () if comparison.base_scores is None else (_base_cell(comparison.base_scores.get(metric.key), metric),)
    values = (*base, *(value_cell(arm.estimates.get(metric.key), metric) for arm in comparison.arms))
    if not comparison.treated:
        return Block(metric.title, metric.unit, values, None)
    no_base_difference = (NO_DIFFERENCE,) * len(base)
    differences = (arm_difference(arm, metric, comparison.baseline) for arm in comparison.arms)
    return Block(metric.title, metric.unit, values, (*no_base_difference, *differences))


def _base_cell(value: float | None, metric: Metric) -> Cell:
    return UNDEFINED if value is None else number_cell(value, metric)


def claim_details(result: ClaimResult) -> Iterator[tuple[str, str]]:
    """Yield the details of a claim as label and sentences; empty ones are left out."""
    for label, sentence in (("Paper", result.paper), ("Here", result.here), ("Caveat", result.caveat)):
        if sentence:
            yield label, sentence


def early_stopping_section(comparison: Comparison) -> Section | None:
    """Return the table of each arm at its best and after its last epoch; None where epochs were not evaluated."""
    stopping = comparison.early_stopping
    if stopping is None:
        return None
    metric = METRICS[HELD_OUT_LOSS]
    reason = _missing_reason(comparison)
    means = (arm.best_epoch for arm in stopping.arms)
    epochs = Block("best epoch", "", tuple(Cell(DASH if math.isnan(mean) else f"{mean:.1f}") for mean in means), None)
    return Section(
        title=EARLY_STOPPING_TITLE,
        rows=tuple(arm.name for arm in stopping.arms),
        blocks=(epochs, _at_best_epoch(stopping, metric, reason), _after_last_epoch(stopping, metric, reason)),
        against="difference",
        confidence=percent(comparison.confidence),
        keys=(metric.key,),
        note=_early_stopping_note(stopping, comparison.baseline),
    )


def _missing_reason(comparison: Comparison) -> str:
    """Return the reason why an arm with losses by epoch is not compared with the early-stopped baseline."""
    plan = comparison.declared
    return BEFORE_FIRST_LOOK if plan.has_planned_looks and not plan.looks_taken else VALUE_NOT_FINITE


def _at_best_epoch(stopping: EarlyStopping, metric: Metric, reason: str) -> Block:
    losses = tuple(number_cell(arm.best_loss, metric) for arm in stopping.arms)
    differences = tuple(_differences([arm.best for arm in stopping.arms], metric, reason))
    compared = any(arm.best for arm in stopping.arms)
    return Block(metric.title, f"best epoch, {metric.unit}", losses, differences if compared else None)


def _after_last_epoch(stopping: EarlyStopping, metric: Metric, reason: str) -> Block:
    losses = tuple(number_cell(arm.last_loss, metric) for arm in stopping.arms)
    differences = tuple(_differences([arm.last for arm in stopping.arms], metric, reason))
    return Block(metric.title, f"last epoch, {metric.unit}", losses, differences)


def _differences(assessments: Sequence[Assessment | None], metric: Metric, reason: str) -> Iterator[Difference]:
    """Yield the differences; the first arm is the baseline, which may have none."""
    for number, assessment in enumerate(assessments):
        missing = Difference(DASH, p=DASH, remark=reason) if number else NO_DIFFERENCE
        yield missing if assessment is None else assessed_difference(assessment, metric)


def _early_stopping_note(stopping: EarlyStopping, baseline: str) -> str:
    few = f" All losses are those of {stopping.items} items, which every epoch measured." if stopping.items else ""
    return (
        "The best epoch of a training run is the epoch after which its held-out loss is lowest (epochs "
        f"{_epochs(stopping)}). Each seed of each arm has its own. It is selected on one part of the items, and the "
        "loss is measured on the rest. The numbers are means over seeds and over many such splits. Every arm, at its "
        f"best epoch and after its last epoch, is compared with {baseline} as if each training run of {baseline} had "
        f"stopped at its best epoch.{few}"
    )


def _epochs(stopping: EarlyStopping) -> str:
    """Return the epochs to select from, listed once if all arms have the same, else for each arm."""
    by_arm = {arm.name: _span(arm.epochs or stopping.epochs) for arm in stopping.arms}
    if len(set(by_arm.values())) == 1:
        return next(iter(by_arm.values()))
    return "; ".join(f"{span} of {arm}" for arm, span in by_arm.items())


def _span(epochs: Sequence[int]) -> str:
    return f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else str(epochs[0])
