"""A difference to the baseline as every table writes it: number, interval, p-value, verdict, or why there is none."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.results import ArmSummary, Comparison, Estimate, Judgement, Word
from neftune_cli.analysis.wording import percent
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.metrics import Metric

DASH = "\N{EN DASH}"
"""Stands where something has a meaning but isn't there."""
_SMALLEST_P = 0.001


@dataclass(frozen=True)
class Difference:
    """A difference to the baseline, written out, with its interval and what is said of it."""

    number: str
    """Empty where there can't be one, as for the baseline itself."""
    bounds: tuple[str, str] | None = None
    word: Word | None = None
    p: str = ""
    """Two-sided, for no difference, after Holm's correction; empty where nothing is said of the method."""
    detectable: str = ""
    """Smallest true difference found four times out of five; empty where nothing is said of the method."""
    remark: str = ""
    """Why there is no word, or what would settle an inconclusive one."""

    @property
    def interval(self) -> str:
        """Return the interval in brackets."""
        return f"[{self.bounds[0]}, {self.bounds[1]}]" if self.bounds else self._dash

    @property
    def verdict(self) -> str:
        """Return the word, or a dash where nothing is said."""
        return self.word or self._dash

    @property
    def _dash(self) -> str:
        return DASH if self.number else ""


NO_DIFFERENCE = Difference("")
DIVERGED = "a value isn't finite"
NOTHING_VARIES = "nothing varies in the differences, so nothing says how sure they are"


def difference_of(arm: ArmSummary, metric: Metric, baseline: str) -> Difference:
    """Return an arm's difference to the baseline, as far as there is one."""
    if arm.name == baseline:
        return NO_DIFFERENCE
    estimate = arm.estimates.get(metric.key)
    if estimate and estimate.judgement:
        return judged_difference(estimate.judgement, metric)
    mean = estimate.difference.mean if estimate and estimate.difference else math.nan
    number = metric.signed(mean) if math.isfinite(mean) else DASH
    return Difference(number, p=DASH, detectable=DASH, remark=why_no_verdict(estimate, baseline))


def judged_difference(judgement: Judgement, metric: Metric) -> Difference:
    """Return a difference with its interval and its verdict."""
    about_method = judgement.comparison.about == "method"
    return Difference(
        metric.signed(judgement.comparison.difference),
        _bounds(judgement, metric),
        judgement.word,
        p=_p_value(judgement.p_adjusted) if about_method else "",
        detectable=_detectable(judgement.detectable, metric) if about_method else "",
        remark=why_no_word(judgement) or _what_settles(judgement),
    )


def why_no_verdict(estimate: Estimate | None, baseline: str) -> str:
    """Return why an arm that isn't the baseline has no verdict on a metric; empty where it has one."""
    if estimate is None:
        return "the metric isn't defined for the arm"
    if estimate.difference is None:
        return f"no seed is shared with {baseline}"
    if estimate.judgement is not None:
        return why_no_word(estimate.judgement)
    return f"no item is shared with {baseline}" if math.isfinite(estimate.difference.mean) else DIVERGED


def why_no_word(judgement: Judgement) -> str:
    """Return why a difference with an interval or without one is no verdict; empty where it is one."""
    if judgement.word is not None:
        return ""
    return "fewer than three paired seeds" if judgement.comparison.about == "checkpoints" else NOTHING_VARIES


def _bounds(judgement: Judgement, metric: Metric) -> tuple[str, str] | None:
    low, high = judgement.comparison.ci_low, judgement.comparison.ci_high
    return (metric.signed(low), metric.signed(high)) if math.isfinite(low) and math.isfinite(high) else None


def _p_value(p: float) -> str:
    if not math.isfinite(p):
        return DASH
    return f"< {_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"


def _detectable(size: float, metric: Metric) -> str:
    return metric.number(size) if math.isfinite(size) else DASH


def _what_settles(judgement: Judgement) -> str:
    if judgement.word != "inconclusive":
        return ""
    needed = judgement.seeds_needed
    return "seeds won't settle it" if needed is None else f"about {needed} seeds"


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
