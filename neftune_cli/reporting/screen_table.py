"""Table of the first screen: the primary metric of each arm, its difference, a metric of responses, the noise ratio."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.results import Assessment, Comparison
from neftune_cli.formatting import percent
from neftune_cli.metrics import CORRECTNESS_METRICS, Metric
from neftune_cli.reporting.cells import (
    arm_difference,
    interval_kind,
    noise_share,
    p_value_text,
    shown_interval,
    value_cell,
)
from neftune_cli.reporting.sanitizing import terminal_text
from neftune_cli.reporting.terminal_tables import VERDICT_STYLES, aligned

WIDEST_PART_OF_NAME = 24
"""Characters of a line of a long name."""
WIDEST_BASELINE = 8
"""Characters of the longest baseline name in a heading."""
_GAP = 2
_DROPS = ("noise", "response", "seeds", "p", "sd", "interval", "verdict")
"""Columns that narrow terminals leave out, the first one first."""


@dataclass(frozen=True)
class ScreenColumn:
    """One column with a heading of two lines."""

    key: str
    heading: tuple[str, str]
    cells: tuple[tuple[str, ...], ...]
    """Parts of each cell, which are aligned with the same parts of other rows."""
    align: Literal["left", "right"] = "right"

    @property
    def texts(self) -> list[str]:
        """Return the cells with aligned parts."""
        return ["".join(parts) for parts in aligned(self.cells)]

    @property
    def width(self) -> int:
        """Return the width in characters."""
        return max(Text(line).cell_len for text in (*self.heading, *self.texts) for line in text.split("\n"))


@dataclass(frozen=True)
class ScreenTable:
    """Columns that fit a width, and those that do not."""

    columns: tuple[ScreenColumn, ...]
    left_out: tuple[ScreenColumn, ...]
    styles: tuple[str, ...]
    """Style of the verdict in each row."""

    def renderable(self) -> Table:
        """Return the table for a terminal."""
        table = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        has_upper = any(column.heading[0] for column in self.columns)
        for column in self.columns:
            table.add_column(justify=column.align, no_wrap=True)
        for line in range(0 if has_upper else 1, 2):
            table.add_row(*(Text(column.heading[line], style="dim") for column in self.columns))
        rows = zip(*(column.texts for column in self.columns), strict=True)
        for style, row in zip(self.styles, rows, strict=True):
            named = zip(self.columns, row, strict=True)
            table.add_row(*(Text(cell, style=style if column.key == "verdict" else "") for column, cell in named))
        return table


def screen_table(comparison: Comparison, width: int) -> ScreenTable:
    """Return the table with as many columns as the width allows.

    Long names of arms are broken at their commas before a column other than the last two is left out.
    """
    styles = tuple(VERDICT_STYLES[one.verdict if one else None] for one in _assessments(comparison))
    layouts = list(_layouts(comparison))
    kept, left_out = next((layout for layout in layouts if _width(layout[0]) <= width), layouts[-1])
    return ScreenTable(kept, left_out, styles)


def _width(columns: Sequence[ScreenColumn]) -> int:
    return sum(column.width + _GAP for column in columns) - _GAP


def _layouts(comparison: Comparison) -> Iterator[tuple[tuple[ScreenColumn, ...], tuple[ScreenColumn, ...]]]:
    """Yield the columns to show and those to leave out, from the widest table to the narrowest."""
    for count in range(len(_DROPS) + 1):
        dropped = _DROPS[:count]
        every = tuple(_columns(comparison, has_spread="sd" not in dropped))
        left_out = tuple(column for column in every if column.key in dropped)
        for name in _names(comparison):
            yield (name, *(column for column in every if column.key not in dropped)), left_out


def shown_metric(comparison: Comparison) -> Metric:
    """Return the primary metric with the decimals that its intervals need, one fewer than its own at least."""
    metric = comparison.metric
    assessed = filter(None, _assessments(comparison))
    widths = [high - low for low, high in map(shown_interval, assessed) if math.isfinite(high - low)]
    spreads = [one.sd for arm in comparison.arms if (one := arm.estimates.get(metric.key)) and one.sd]
    needed = metric.resolving(min(widths, default=0.0) / 2 or min(spreads, default=math.nan))
    return replace(metric, decimals=max(metric.decimals - 1, needed.decimals, 0))


def response_metric(comparison: Comparison) -> Metric | None:
    """Return the metric of responses that the table shows beside the primary one."""
    measured = (key for key in CORRECTNESS_METRICS if key in comparison.metrics and key != comparison.primary)
    return next((comparison.metrics[key] for key in measured if _has_value(comparison, key)), None)


def table_names(comparison: Comparison) -> dict[str, str]:
    """Return the name of each arm in the table: its alpha alone if the arms differ in alpha only."""
    if all(arm.is_named_by_alpha for arm in comparison.arms):
        return {arm.name: f"{arm.alpha:g}" for arm in comparison.arms}
    return {arm.name: terminal_text(arm.name) for arm in comparison.arms}


def _assessments(comparison: Comparison) -> list[Assessment | None]:
    """Return the assessment of each arm on the primary metric; None for the baseline."""
    return [comparison.assessment(arm.name, comparison.primary) for arm in comparison.arms]


def _has_value(comparison: Comparison, key: str) -> bool:
    return any(arm.estimates.get(key) for arm in comparison.arms)


def _names(comparison: Comparison) -> Iterator[ScreenColumn]:
    """Yield the column of names: whole, then broken into lines."""
    heading = "alpha" if all(arm.is_named_by_alpha for arm in comparison.arms) else "arm"
    whole = tuple(table_names(comparison).values())
    align: Literal["left", "right"] = "right" if heading == "alpha" else "left"
    yield ScreenColumn("arm", ("", heading), tuple((name,) for name in whole), align)
    yield ScreenColumn("arm", ("", heading), tuple((_broken(name),) for name in whole), align)


def _broken(name: str) -> str:
    parts = name.replace(",", ",\n").split("\n")
    size = WIDEST_PART_OF_NAME - 2
    pieces = [part[start : start + size] for part in parts for start in range(0, max(1, len(part)), size)]
    return "\n  ".join(pieces)


def _columns(comparison: Comparison, *, has_spread: bool) -> Iterator[ScreenColumn]:
    metric, arms = shown_metric(comparison), comparison.arms
    values = [value_cell(arm.estimates.get(metric.key), metric) for arm in arms]
    if has_spread and any(cell.spread for cell in values):
        yield ScreenColumn("value", ("", "mean ± sd"), tuple(cell.parts for cell in values))
    else:
        yield ScreenColumn("value", ("", "mean"), tuple((cell.number,) for cell in values))
    if comparison.treated:
        yield from _difference_columns(comparison, metric)
    if other := response_metric(comparison):
        upper, _, lower = other.name_within.rpartition(" ")
        cells = tuple((value_cell(arm.estimates.get(other.key), other).number,) for arm in arms)
        yield ScreenColumn("response", (upper, lower), cells)
    if any(arm.noise_ratio is not None for arm in arms):
        yield ScreenColumn("noise", ("noise", "ratio"), tuple((noise_share(arm),) for arm in arms))


def _difference_columns(comparison: Comparison, metric: Metric) -> Iterator[ScreenColumn]:
    assessed = _assessments(comparison)
    differences = [arm_difference(arm, metric, comparison.baseline) for arm in comparison.arms]
    yield ScreenColumn("difference", _against(comparison), tuple((one.number,) for one in differences))
    yield ScreenColumn(
        "interval",
        (interval_kind(comparison), f"{percent(comparison.confidence)} interval"),
        tuple(one.interval_parts for one in differences),
    )
    p_values = [p_value_text(one.p_adjusted, short=True) if one and _is_tested(one) else "" for one in assessed]
    if any(p_values):
        cells = tuple((p or one.p,) for p, one in zip(p_values, differences, strict=True))
        yield ScreenColumn("p", ("adj.", "p"), cells)
    verdicts = ["baseline" if not one.number else one.verdict or "no verdict" for one in differences]
    yield ScreenColumn("verdict", ("", "verdict"), tuple((text,) for text in verdicts), "left")
    if len({arm.seeds for arm in comparison.arms}) > 1:
        yield ScreenColumn("seeds", ("", "seeds"), tuple((str(len(arm.seeds)),) for arm in comparison.arms))


def _against(comparison: Comparison) -> tuple[str, str]:
    name = table_names(comparison)[comparison.baseline]
    return ("", f"vs {name}") if len(name) <= WIDEST_BASELINE else ("vs", "baseline")


def _is_tested(assessment: Assessment) -> bool:
    return assessment.paired.has_enough_seeds and math.isfinite(assessment.p_adjusted)


def outside(column: ScreenColumn, names: Sequence[str]) -> str:
    """Return the cells of a column that did not fit as one text."""
    return ", ".join(f"{name}: {text.strip()}" for name, text in zip(names, column.texts, strict=True))
