"""A comparison as columns of text: what terminal and Markdown tables have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from neftune_cli.analysis.comparison import ArmSummary, Comparison
from neftune_cli.analysis.metrics import METRICS, Metric
from neftune_cli.config.spec import BASE_ARM

WIDEST_BASELINE_HEADING = 13


@dataclass(frozen=True)
class Cell:
    """A number and its spread, written out; the spread is empty for a single seed."""

    number: str
    spread: str = ""

    @property
    def text(self) -> str:
        """Return the whole cell on one line."""
        return f"{self.number} ± {self.spread}" if self.spread else self.number


EMPTY = Cell("")
"""Where a number has no meaning: the baseline's difference to itself."""
UNDEFINED = Cell("\N{EN DASH}")
"""Where a number has a meaning but isn't there."""


@dataclass(frozen=True)
class MetricColumns:
    """One metric over all rows of a table: the values and, beside them, the differences to the baseline."""

    metric: Metric
    values: tuple[Cell, ...]
    differences: tuple[Cell, ...] | None
    """None in a table without an arm to compare."""


def title(comparison: Comparison) -> str:
    """Return the heading of everything about one sweep."""
    return f"{comparison.sweep}, compared with {comparison.baseline}" if comparison.treated else comparison.sweep


def row_names(comparison: Comparison) -> list[str]:
    """Return the names of a table's rows: the base, where it was evaluated, then the arms."""
    base = [] if comparison.base is None else [BASE_ARM]
    return base + [arm.name for arm in comparison.arms]


def metric_columns(comparison: Comparison, keys: Sequence[str]) -> list[MetricColumns]:
    """Return the columns of a table, one entry a metric that has a value anywhere."""
    metrics = [METRICS[key] for key in keys if is_defined(comparison, key)]
    return [_columns(comparison, metric) for metric in metrics]


def is_defined(comparison: Comparison, key: str) -> bool:
    """Return whether the base or any arm has a value of the metric."""
    base = comparison.base or {}
    return base.get(key) is not None or any(arm.estimates[key] for arm in comparison.arms)


def difference_heading(comparison: Comparison) -> str:
    """Return the heading of the difference columns, short enough not to widen them."""
    short = len(comparison.baseline) <= WIDEST_BASELINE_HEADING
    return f"vs {comparison.baseline}" if short else "vs baseline"


def _columns(comparison: Comparison, metric: Metric) -> MetricColumns:
    base = () if comparison.base is None else (_base_cell(comparison.base[metric.key], metric),)
    values = (*base, *(_value_cell(arm, metric) for arm in comparison.arms))
    if not comparison.treated:
        return MetricColumns(metric, values, None)
    gap = (EMPTY,) * len(base)
    differences = (_difference_cell(arm, metric, comparison.baseline) for arm in comparison.arms)
    return MetricColumns(metric, values, (*gap, *differences))


def _base_cell(value: float | None, metric: Metric) -> Cell:
    return UNDEFINED if value is None else Cell(metric.number(value))


def _value_cell(arm: ArmSummary, metric: Metric) -> Cell:
    estimate = arm.estimates[metric.key]
    if estimate is None:
        return UNDEFINED
    return Cell(metric.number(estimate.mean), _spread(estimate.sd, metric))


def _difference_cell(arm: ArmSummary, metric: Metric, baseline: str) -> Cell:
    if arm.name == baseline:
        return EMPTY
    estimate = arm.estimates[metric.key]
    if estimate is None or estimate.difference is None:
        return UNDEFINED
    return Cell(metric.signed(estimate.difference.mean), _spread(estimate.difference.sd, metric))


def _spread(sd: float | None, metric: Metric) -> str:
    return "" if sd is None else metric.number(sd)
