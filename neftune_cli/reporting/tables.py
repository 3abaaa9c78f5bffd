"""The comparison on a terminal: loss and generation tables that fold to its width, their footnotes and the reading."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.comparison import Comparison
from neftune_cli.analysis.reading import reading
from neftune_cli.records import EVAL_METRICS, LOSS_METRICS
from neftune_cli.reporting.cells import Cell, MetricColumns, difference_heading, metric_columns, row_names, title
from neftune_cli.reporting.footnotes import footnotes

SECTIONS = (("Loss", LOSS_METRICS), ("Generation on held-out prompts", EVAL_METRICS))
"""Titles of the two tables and the metrics in them."""

_ANY_WIDTH = 10_000
"""More columns than any table has: it is measured against this to learn how many it wants."""


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print the sweeps one after another."""
    for number, comparison in enumerate(comparisons):
        if number:
            console.print("\n")
        print_comparison(console, comparison)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print one sweep's tables, footnotes and reading, folded to the console's width.

    A table too wide is folded into several with fewer metrics each; where even one metric is too wide, spreads go.
    """
    console.print(Text(title(comparison), style="bold underline"))
    for section, keys in SECTIONS:
        if columns := metric_columns(comparison, keys):
            _print_section(console, section, _folded(console, comparison, columns))
    console.print()
    for line in footnotes(comparison):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(Text(reading(comparison)))


def _print_section(console: Console, section: str, tables: Sequence[Table]) -> None:
    console.print()
    console.print(Text(section, style="bold"))
    for table in tables:
        console.print()
        console.print(table)


def _folded(console: Console, comparison: Comparison, columns: Sequence[MetricColumns]) -> list[Table]:
    """Return as few tables as the width allows, with about equally many metrics in each."""
    for spread in (True, False):
        for parts in range(1, len(columns) + 1):
            tables = [_table(comparison, part, spread) for part in _parts(columns, parts)]
            if all(_width(console, table) <= console.width for table in tables):
                return tables
    return tables


def _parts(columns: Sequence[MetricColumns], count: int) -> Iterator[Sequence[MetricColumns]]:
    size, longer = divmod(len(columns), count)
    start = 0
    for part in range(count):
        end = start + size + (part < longer)
        yield columns[start:end]
        start = end


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum


def _table(comparison: Comparison, columns: Sequence[MetricColumns], spread: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column(_heading("", "arm"), no_wrap=True)
    cells = [[Text(name) for name in row_names(comparison)]]
    for column in columns:
        _add_column(table, column.metric.title, column.metric.unit)
        cells.append(_aligned(column.values, spread))
        if column.differences is not None:
            _add_column(table, "", difference_heading(comparison))
            cells.append(_aligned(column.differences, spread))
    for number, row in enumerate(zip(*cells, strict=True)):
        is_base = comparison.base is not None and number == 0
        table.add_row(*row, style="dim" if is_base else "")
    return table


def _add_column(table: Table, *heading: str) -> None:
    table.add_column(_heading(*heading), justify="right", no_wrap=True)


def _heading(title: str, unit: str) -> Text:
    return Text.assemble(title, "\n", (unit, "not bold dim"))


def _aligned(cells: Sequence[Cell], spread: bool) -> list[Text]:
    """Return a column's cells, padded so that numbers and spreads stand under each other."""
    spreads = [f" ± {cell.spread}" if spread and cell.spread else "" for cell in cells]
    width = max(map(len, spreads))
    return [
        Text.assemble(cell.number, (behind.rjust(width), "dim")) for cell, behind in zip(cells, spreads, strict=True)
    ]
