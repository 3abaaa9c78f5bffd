"""Comparisons on a terminal: the first screen, and on request all tables, footnotes and the claims of the paper."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.paper_claims import UNADJUSTED_CLAIMS_NOTE
from neftune_cli.analysis.results import ClaimResult, Comparison, Status
from neftune_cli.formatting import terminal_text
from neftune_cli.reporting.cells import Cell
from neftune_cli.reporting.columns import TERMINAL_DROPS, ArmRow, TableColumn
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.reporting.outlooks import outlook_section
from neftune_cli.reporting.output_formats import FIRST_SCREEN, ScreenOptions
from neftune_cli.reporting.screen import print_screen
from neftune_cli.reporting.sections import (
    ADVICE_TITLE,
    BEST_ARM_TITLE,
    CLAIMS_TITLE,
    Block,
    Section,
    claim_details,
    early_stopping_section,
    sections,
)
from neftune_cli.reporting.terminal_columns import VERDICT_STYLES, PrintedColumn, aligned, broken_name, widest_that_fits
from neftune_cli.store import REPORT_FILE

STATUS_STYLES: dict[Status, str] = {
    "supported": "bold green",
    "refuted": "bold red",
    "inconclusive": "bold yellow",
    "not measured": "bold dim",
}
NO_CLAIMS = "These trials do not test any of the claims."


def print_comparisons(
    console: Console, comparisons: Sequence[Comparison], options: ScreenOptions = FIRST_SCREEN
) -> None:
    """Print comparisons one after another, in a layout for the console's width."""
    for number, comparison in enumerate(comparisons):
        if number:
            console.print("\n")
        print_screen(console, comparison, report=_report(comparison, options.reported))
        if options.full:
            print_details(console, comparison)
        if options.hypotheses:
            print_claims(console, comparison.claims)


def _report(comparison: Comparison, reported: Collection[str]) -> str:
    folders = comparison.origin.folders
    return f"{folders[0]}/{REPORT_FILE}" if len(folders) == 1 and folders[0] in reported else ""


def print_details(console: Console, comparison: Comparison) -> None:
    """Print the advice, all tables and the footnotes of a comparison, folded to the console's width.

    A table that is too wide is split into several with fewer metrics each. If one metric alone is too wide, standard
    deviations are left out, then long names are broken into lines, then columns are left out.
    """
    _print_heading(console, ADVICE_TITLE, advice(comparison))
    for section in sections(comparison):
        _print_section(console, section)
    if sentences := best_arm_sentences(comparison):
        _print_heading(console, BEST_ARM_TITLE, sentences)
    for section in filter(None, (early_stopping_section(comparison), outlook_section(comparison))):
        _print_section(console, section)
    console.print()
    for line in footnotes(comparison):
        console.print(_text(line, "dim"))


def print_claims(console: Console, results: Sequence[ClaimResult]) -> None:
    """Print each claim with its status, the paper's result, the result of these trials, and the caveat."""
    console.print()
    console.print(Text(CLAIMS_TITLE, style="bold"))
    console.print()
    console.print(_claims(results) if results else Text(NO_CLAIMS))
    if results:
        console.print()
        console.print(Text(UNADJUSTED_CLAIMS_NOTE, style="dim"))


def _text(text: str, style: str = "") -> Text:
    return Text(terminal_text(text), style=style)


def _print_heading(console: Console, heading: str, sentences: str = "") -> None:
    console.print()
    console.print(_text(heading, "bold"))
    if sentences:
        console.print()
        console.print(_text(sentences))


def _print_section(console: Console, section: Section) -> None:
    _print_heading(console, section.title, section.note)
    for blocks, columns in _folded(console.width, section):
        console.print()
        if len(blocks) == 1:
            console.print(_text(blocks[0].title, "bold"))
        console.print(_table(columns, dim_first=section.has_base))


@dataclass(frozen=True)
class _TableLayout:
    """Content of a table at one width."""

    dropped: frozenset[str] = frozenset()
    """Keys of the columns left out."""
    has_spread: bool = False
    has_whole_names: bool = False
    """Long names are not broken into lines."""
    has_whole_headings: bool = False
    """Headings are on one line."""


def _layouts() -> Iterator[_TableLayout]:
    """Yield the layouts from the widest to the narrowest."""
    yield _TableLayout(has_spread=True, has_whole_names=True, has_whole_headings=True)
    yield _TableLayout(has_spread=True, has_whole_names=True)
    for count in range(len(TERMINAL_DROPS) + 1):
        dropped = frozenset(TERMINAL_DROPS[:count])
        yield _TableLayout(dropped, has_whole_names=True)
        yield _TableLayout(dropped)


_Tables = list[tuple[Sequence[Block], list[PrintedColumn]]]


def _folded(width: int, section: Section) -> _Tables:
    """Return as few tables as the width allows, with about equally many blocks in each."""
    layouts = (
        [(part, _table_columns(section, part, layout)) for part in section.parts(count)]
        for layout in _layouts()
        for count in range(1, len(section.blocks) + 1)
    )
    return widest_that_fits(layouts, width, lambda tables: [columns for _, columns in tables])


def _table(columns: Sequence[PrintedColumn], *, dim_first: bool) -> Table:
    one_line = not any(column.heading[0] for column in columns)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    for column in columns:
        upper, lower = column.heading
        heading = Text.assemble("" if one_line else f"{upper}\n", (lower, "not bold dim"))
        table.add_column(heading, justify=column.align, no_wrap=True)
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*row, style="dim" if dim_first and number == 0 else "")
    return table


def _table_columns(section: Section, blocks: Sequence[Block], layout: _TableLayout) -> list[PrintedColumn]:
    names = [terminal_text(name) for name in section.rows]
    if not layout.has_whole_names:
        names = list(map(broken_name, names))
    columns = [PrintedColumn("arm", ("", "arm"), tuple(map(Text, names)), "left")]
    columns += (column for block in blocks for column in _block_columns(section, block, layout, named=len(blocks) > 1))
    return columns


def _block_columns(section: Section, block: Block, layout: _TableLayout, *, named: bool) -> Iterator[PrintedColumn]:
    """Yield the columns of a block; the only block of a table is named above the table to save width."""
    has_spread = layout.has_spread and any(cell.spread for cell in block.values)
    heading = _block_heading(block) if named else ("", "mean ± sd" if has_spread else "mean")
    yield PrintedColumn("value", heading, tuple(_value_texts(block.values, has_spread=has_spread)))
    if block.differences is None:
        return
    is_stacked = named or not layout.has_whole_headings
    for column in section.columns():
        if column.compares and column.key not in layout.dropped:
            cells = tuple(_difference_texts(column, section.arm_rows(block)))
            heading = _heading(section.heading(column), is_stacked=is_stacked)
            yield PrintedColumn(column.key, heading, cells, column.align)


def _block_heading(block: Block) -> tuple[str, str]:
    """Return heading and unit. A heading without unit and arrow takes both lines."""
    return (block.heading, block.unit) if block.unit or block.heading[-1] in "↑↓" else _heading(block.heading)


def _heading(heading: str, *, is_stacked: bool = True) -> tuple[str, str]:
    """Return a heading on two lines, which take less width, or on the lower line."""
    text = terminal_text(heading)
    first, _, rest = text.partition(" ")
    return (first, rest) if is_stacked and rest else ("", text)


def _value_texts(cells: Sequence[Cell], *, has_spread: bool) -> list[Text]:
    shown = cells if has_spread else [Cell(cell.number) for cell in cells]
    return [Text.assemble(parts[0], ("".join(parts[1:]), "dim")) for parts in aligned([cell.parts for cell in shown])]


def _difference_texts(column: TableColumn, rows: Sequence[ArmRow]) -> list[Text]:
    cells = aligned([column.parts(row) for row in rows])
    styles = [VERDICT_STYLES[row.difference.verdict] if column.kind == "verdict" else "" for row in rows]
    return [Text("".join(parts), style=style) for parts, style in zip(cells, styles, strict=True)]


def _claims(results: Sequence[ClaimResult]) -> Table:
    claims = Table.grid(padding=(0, 2), collapse_padding=True, pad_edge=False)
    claims.add_column(no_wrap=True)
    claims.add_column()
    for number, result in enumerate(results):
        if number:
            claims.add_row()
        claims.add_row(Text(result.status, style=STATUS_STYLES[result.status]), _text(result.claim, "bold"))
        for label, sentence in claim_details(result):
            claims.add_row("", Text.assemble((f"{label}: ", "dim"), terminal_text(sentence)))
    return claims
