"""Tables of a comparison, independent of the output format: one section per group of metrics, and early stopping.

Also holds the sentences about the best arm and about claims of the paper, and the texts of seeds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.advice import advantage_interval, on_shared_seeds, splits_sentence, stopping_bias
from neftune_cli.analysis.headline import MOST_NAMED_ARMS
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import Assessment, BestArm, ClaimResult, Comparison, EarlyStopping
from neftune_cli.analysis.verdicts import BEFORE_FIRST_LOOK, VALUE_NOT_FINITE
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.formatting import counted, listed, percent
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
MOST_LISTED_SEEDS = 4
"""Largest number of seeds to list in a short text."""


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


def all_seeds_text(comparison: Comparison) -> str:
    """Return the seeds, listed once if all arms have the same, else for each arm."""
    by_arm = {arm.name: ", ".join(map(str, arm.seeds)) for arm in comparison.arms}
    if len(set(by_arm.values())) == 1:
        return next(iter(by_arm.values()))
    return "; ".join(f"{seeds} ({name})" for name, seeds in by_arm.items())


def short_seeds_text(seeds_of_arms: Sequence[Sequence[int]]) -> str:
    """Return the seeds if all arms have the same and they fit a heading, else the range of their counts."""
    counts = sorted({len(seeds) for seeds in seeds_of_arms})
    if len({tuple(seeds) for seeds in seeds_of_arms}) > 1:
        return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counted(counts[0], 'seed')} per arm"
    seeds = sorted(seeds_of_arms[0])
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]}-{seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= MOST_LISTED_SEEDS else counted(len(seeds), "seed")


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


def best_arm_sentences(comparison: Comparison) -> str | None:
    """Return the difference of the best arm on the data that selected it and on other data; None without a best arm."""
    best = comparison.best
    if best is None:
        return None
    metric = comparison.metrics.get(best.metric) or METRICS[best.metric]
    parts, candidates = " and ".join(best.split), tuple(best.chosen)
    among = listed(candidates) if len(candidates) <= MOST_NAMED_ARMS else f"{len(candidates)} arms"
    found = (
        f"{on_shared_seeds(comparison)}{best.arm} has the best mean {metric.name_within} of {among}. Its difference "
        f"from {comparison.baseline} is {metric.signed(best.naive)}."
    )
    if best.arm == comparison.declared_primary_arm:
        bias = "It is the primary arm, which was declared before the first trial. Its difference has no selection bias."
    else:
        bias = (
            f"This estimate is optimistic on average, because the arm was selected on the same {parts}. "
            f"{_advantage_elsewhere(best, metric)}"
        )
    return " ".join([found, *stopping_bias(comparison, best.arm), bias, _shares(best)])


def _advantage_elsewhere(best: BestArm, metric: Metric) -> str:
    """Return the advantage on data that did not select the arm, or its range over selected arms if few splits do."""
    if math.isfinite(best.advantage.difference):
        return (
            f"{splits_sentence(best)} In the splits that selected {best.arm}, its difference on the other half was on "
            f"average {_advantage(best.advantage, metric)}. If no arm is better than the others, about a third to a "
            "half of the bias remains."
        )
    low, high = (metric.signed(end(best.advantages.values())) for end in (min, max))
    return (
        f"{splits_sentence(best)} Fewer than a quarter of the splits selected {best.arm}, so the data do not show "
        f"which arm is best. On the other half, the mean difference of the selected arm was {low} to {high}, depending "
        "on the arm."
    )


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
    epochs = Block("best epoch", "", tuple(Cell(f"{arm.best_epoch:.1f}") for arm in stopping.arms), None)
    return Section(
        title=EARLY_STOPPING_TITLE,
        rows=tuple(arm.name for arm in stopping.arms),
        blocks=(epochs, _at_best_epoch(stopping, metric, reason), _after_last_epoch(stopping, metric, reason)),
        against="difference",
        confidence=percent(comparison.confidence),
        keys=(metric.key,),
        note=_early_stopping_note(stopping, comparison.baseline),
    )


def _advantage(advantage: PairedComparison, metric: Metric) -> str:
    number = metric.signed(advantage.difference)
    if not math.isfinite(advantage.ci_low):
        return number
    return f"{number} ({advantage_interval(advantage, metric)})"


def _shares(best: BestArm) -> str:
    ranked = sorted(best.chosen.items(), key=lambda one: -one[1])
    (arm, share), *others = [(arm, share) for arm, share in ranked if share > 0]
    first = f"{arm} in {share:.0%} of the splits"
    rest = (f"{arm} in {'<1%' if share < 0.005 else f'{share:.0%}'}" for arm, share in others)
    return f"The selected arm was {listed([first, *rest])}."


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
