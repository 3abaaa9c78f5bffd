"""Table of the first screen: the primary metric of each arm, its difference, a metric of responses, the noise ratio."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.results import Assessment, Comparison
from neftune_cli.formatting import percent, terminal_text
from neftune_cli.metrics import CORRECTNESS_METRICS, Metric
from neftune_cli.reporting.cells import (
    arm_difference,
    interval_kind,
    noise_share,
    p_value_text,
    shown_interval,
    value_cell,
)
from neftune_cli.reporting.terminal_columns import (
    COLUMN_GAP,
    NARROW_PART_OF_NAME,
    VERDICT_STYLES,
    WIDEST_PART_OF_NAME,
    PrintedColumn,
    aligned,
    broken_name,
    widest_that_fits,
)

WIDEST_BASELINE = 8
"""Characters of the longest baseline name in a heading."""
_DROPS = ("noise", "response", "seeds", "p", "sd", "interval", "verdict")
"""Columns that narrow terminals leave out, the first one first."""


@dataclass(frozen=True)
class ScreenTable:
    """Columns that fit a width, and those that do not."""

    columns: tuple[PrintedColumn, ...]
    left_out: tuple[PrintedColumn, ...]

    def renderable(self) -> Table:
        """Return the table for a terminal."""
        table = Table.grid(padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
        has_upper = any(column.heading[0] for column in self.columns)
        for column in self.columns:
            table.add_column(justify=column.align, no_wrap=True)
        for line in range(0 if has_upper else 1, 2):
            table.add_row(*(Text(column.heading[line], style="dim") for column in self.columns))
        for row in zip(*(column.cells for column in self.columns), strict=True):
            table.add_row(*row)
        return table


def screen_table(comparison: Comparison, width: int) -> ScreenTable:
    """Return the table with as many columns as the width allows.

    Long names of arms are broken into lines before a column is left out, and are whole again if that makes room.
    """
    return widest_that_fits(_layouts(comparison), width, lambda table: [table.columns])


def _layouts(comparison: Comparison) -> Iterator[ScreenTable]:
    """Yield the table with all columns, then narrower ones."""
    for count in range(len(_DROPS) + 1):
        dropped = _DROPS[:count]
        every = tuple(_columns(comparison, has_spread="sd" not in dropped))
        left_out = tuple(column for column in every if column.key in dropped)
        # short lines look worse than a table without the interval, and better than one without the verdict
        for name in _names(comparison, may_be_short="interval" in dropped):
            yield ScreenTable((name, *(column for column in every if column.key not in dropped)), left_out)


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


def _names(comparison: Comparison, *, may_be_short: bool) -> Iterator[PrintedColumn]:
    """Yield the column of names: whole, then broken into lines, then into short lines if `may_be_short`."""
    heading = "alpha" if all(arm.is_named_by_alpha for arm in comparison.arms) else "arm"
    whole = tuple(table_names(comparison).values())
    align: Literal["left", "right"] = "right" if heading == "alpha" else "left"
    yield PrintedColumn("arm", ("", heading), tuple(map(Text, whole)), align)
    for widest in (WIDEST_PART_OF_NAME, NARROW_PART_OF_NAME)[: 2 if may_be_short else 1]:
        broken = tuple(Text(broken_name(name, widest)) for name in whole)
        yield PrintedColumn("arm", ("", heading), broken, align)


def _columns(comparison: Comparison, *, has_spread: bool) -> Iterator[PrintedColumn]:
    metric, arms = shown_metric(comparison), comparison.arms
    values = [value_cell(arm.estimates.get(metric.key), metric) for arm in arms]
    if has_spread and any(cell.spread for cell in values):
        yield PrintedColumn("value", ("", "mean ± sd"), _texts(cell.parts for cell in values))
    else:
        yield PrintedColumn("value", ("", "mean"), _texts((cell.number,) for cell in values))
    if comparison.treated:
        yield from _difference_columns(comparison, metric)
    if other := response_metric(comparison):
        upper, _, lower = other.name_within.rpartition(" ")
        cells = _texts((value_cell(arm.estimates.get(other.key), other).number,) for arm in arms)
        yield PrintedColumn("response", (upper, lower), cells)
    if any(arm.noise_ratio is not None for arm in arms):
        yield PrintedColumn("noise", ("noise", "ratio"), _texts((noise_share(arm),) for arm in arms))


def _difference_columns(comparison: Comparison, metric: Metric) -> Iterator[PrintedColumn]:
    assessed = _assessments(comparison)
    differences = [arm_difference(arm, metric, comparison.baseline) for arm in comparison.arms]
    yield PrintedColumn("difference", _against(comparison), _texts((one.number,) for one in differences))
    yield PrintedColumn(
        "interval",
        (interval_kind(comparison), f"{percent(comparison.confidence)} interval"),
        _texts(one.interval_parts for one in differences),
    )
    p_values = [p_value_text(one.p_adjusted, short=True) if one and _is_tested(one) else "" for one in assessed]
    if any(p_values):
        cells = _texts((p or one.p,) for p, one in zip(p_values, differences, strict=True))
        yield PrintedColumn("p", ("adj.", "p"), cells)
    verdicts = ["baseline" if not one.number else one.verdict or "no verdict" for one in differences]
    styled = zip(verdicts, assessed, strict=True)
    cells = tuple(Text(text, VERDICT_STYLES[one.verdict if one else None]) for text, one in styled)
    yield PrintedColumn("verdict", ("", "verdict"), cells, "left")
    if len({arm.seeds for arm in comparison.arms}) > 1:
        yield PrintedColumn("seeds", ("", "seeds"), _texts((str(len(arm.seeds)),) for arm in comparison.arms))


def _texts(cells: Iterable[tuple[str, ...]]) -> tuple[Text, ...]:
    """Return cells from their parts, which are aligned with the same parts of other rows."""
    return tuple(Text("".join(parts)) for parts in aligned(list(cells)))


def _against(comparison: Comparison) -> tuple[str, str]:
    name = table_names(comparison)[comparison.baseline]
    return ("", f"vs {name}") if len(name) <= WIDEST_BASELINE else ("vs", "baseline")


def _is_tested(assessment: Assessment) -> bool:
    return assessment.paired.has_enough_seeds and math.isfinite(assessment.p_adjusted)


def outside(column: PrintedColumn, names: Sequence[str]) -> str:
    """Return the cells of a column that did not fit as one text."""
    return ", ".join(f"{name}: {text.plain.strip()}" for name, text in zip(names, column.cells, strict=True))
