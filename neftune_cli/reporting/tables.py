"""The comparison on a terminal: advice, tables that fold to its width, what choosing gains, footnotes, claims."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.paper_claims import EACH_AT_ITS_OWN_LEVEL
from neftune_cli.analysis.results import Comparison, HypothesisResult, Status, Word
from neftune_cli.reporting.cells import NOT_FINITE, Block, Cell, Difference, Section, sections, title
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.reporting.selection import BEST_ARM_TITLE, best_arm_sentences, early_stopping_section

WORD_STYLES: dict[Word | None, str] = {
    "better": "green",
    "worse": "red",
    "higher": "magenta",
    "lower": "magenta",
    "equivalent": "cyan",
    "inconclusive": "yellow",
    None: "dim",
}
"""Colours repeat what the words say: without them nothing is lost."""

_GAP = 2
"""Spaces between the columns of such a table."""

_SPREAD, _INTERVAL, _VERDICT = "spread", "interval", "verdict"
_WHOLE_HEADINGS, _WHOLE_NAMES = "headings on one line", "names on one line"
_LAYOUTS: tuple[set[str], ...] = (
    {_SPREAD, _INTERVAL, _VERDICT, _WHOLE_NAMES, _WHOLE_HEADINGS},
    {_SPREAD, _INTERVAL, _VERDICT, _WHOLE_NAMES},
    {_INTERVAL, _VERDICT, _WHOLE_NAMES},
    {_INTERVAL, _VERDICT},
    {_VERDICT, _WHOLE_NAMES},
    {_VERDICT},
    set(),
)
"""What a table has beside means and differences, from all of it to what the narrowest terminal gets."""


def print_comparisons(console: Console, comparisons: Sequence[Comparison], *, hypotheses: bool = False) -> None:
    """Print the sweeps one after another; with `hypotheses`, each one's findings beside the paper's claims."""
    for number, comparison in enumerate(comparisons):
        if number:
            console.print("\n")
        print_comparison(console, comparison, hypotheses=hypotheses)


def print_comparison(console: Console, comparison: Comparison, *, hypotheses: bool = False) -> None:
    """Print one sweep, folded to the console's width.

    A table too wide is folded into several with fewer metrics each; where even one metric is too wide, spreads go
    first, then long names are broken at their commas, then intervals go.
    """
    console.print(Text(title(comparison), style="bold underline"))
    for paragraph in filter(None, (comparison.apart, advice(comparison))):
        console.print()
        console.print(Text(paragraph))
    for section in sections(comparison):
        _print_section(console, section)
    if sentences := best_arm_sentences(comparison):
        _print_heading(console, BEST_ARM_TITLE, sentences)
    if stopping := early_stopping_section(comparison):
        _print_section(console, stopping)
    console.print()
    for line in footnotes(comparison):
        console.print(Text(line, style="dim"))
    if hypotheses:
        print_hypotheses(console, comparison.hypotheses)


def _print_heading(console: Console, heading: str, sentences: str = "") -> None:
    console.print()
    console.print(Text(heading, style="bold"))
    if sentences:
        console.print()
        console.print(Text(sentences))


def _print_section(console: Console, section: Section) -> None:
    _print_heading(console, section.title, section.note)
    for blocks, columns in _folded(console.width, section):
        console.print()
        if len(blocks) == 1:
            console.print(Text(blocks[0].title, style="bold"))
        console.print(_table(columns, dim_first=section.has_base))


@dataclass(frozen=True)
class _Column:
    heading: tuple[str, str]
    """Upper and lower line."""
    cells: list[Text]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        return max(line.cell_len for text in (*map(Text, self.heading), *self.cells) for line in text.split("\n"))


_Folded = list[tuple[Sequence[Block], list[_Column]]]


def _folded(width: int, section: Section) -> _Folded:
    """Return as few tables as the width allows, with about equally many blocks in each."""
    for layout in _LAYOUTS:
        for parts in range(1, len(section.blocks) + 1):
            tables = [(part, _all_columns(section, part, layout)) for part in section.parts(parts)]
            if all(_width(columns) <= width for _, columns in tables):
                return tables
    return tables


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _table(columns: Sequence[_Column], *, dim_first: bool) -> Table:
    one_line = not any(column.heading[0] for column in columns)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    for column in columns:
        upper, lower = column.heading
        heading = Text.assemble("" if one_line else f"{upper}\n", (lower, "not bold dim"))
        table.add_column(heading, justify=column.justify, no_wrap=True)
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*row, style="dim" if dim_first and number == 0 else "")
    return table


def _all_columns(section: Section, blocks: Sequence[Block], layout: set[str]) -> list[_Column]:
    names = section.rows if _WHOLE_NAMES in layout else [name.replace(",", ",\n  ") for name in section.rows]
    columns = [_Column(("", "arm"), [Text(name) for name in names], "left")]
    columns += (column for block in blocks for column in _columns(section, block, layout, named=len(blocks) > 1))
    return columns


def _columns(section: Section, block: Block, layout: set[str], *, named: bool) -> Iterator[_Column]:
    """Yield a block's columns; a block alone in its table is named above it, which leaves the columns narrower."""
    spread = _SPREAD in layout and any(cell.spread for cell in block.values)
    values = (block.heading, block.unit) if named else ("", "mean ± sd" if spread else "mean")
    yield _Column(values, _aligned(block.values, spread=spread))
    if block.differences is None:
        return
    stacked = named or _WHOLE_HEADINGS not in layout
    yield _Column(_heading(section.against, stacked), [Text(one.number) for one in block.differences])
    if _INTERVAL in layout:
        yield _Column(_heading(section.interval, stacked), _aligned_intervals(block.differences))
    if _VERDICT in layout:
        words = [Text(one.verdict, style=WORD_STYLES[one.word]) for one in block.differences]
        yield _Column(("", "verdict"), words, "left")


def _heading(words: str, stacked: bool) -> tuple[str, str]:
    """Return the words on two lines, so that they don't widen their column, or on the lower one."""
    first, _, rest = words.partition(" ")
    return (first, rest) if stacked and rest else ("", words)


def _aligned(cells: Sequence[Cell], *, spread: bool) -> list[Text]:
    """Return a column's cells, padded so that numbers and spreads stand under each other."""
    spreads = [f" ± {cell.spread}" if spread and cell.spread else "" for cell in cells]
    widths = [0 if cell.number == NOT_FINITE else max(map(len, spreads)) for cell in cells]
    aligned = (behind.rjust(width) for behind, width in zip(spreads, widths, strict=True))
    return [Text.assemble(cell.number, (behind, "dim")) for cell, behind in zip(cells, aligned, strict=True)]


def _aligned_intervals(differences: Sequence[Difference]) -> list[Text]:
    """Return the intervals, padded so that lower bounds and upper bounds stand under each other."""
    bounds = [one.bounds for one in differences if one.bounds]
    low, high = (max((len(bound[side]) for bound in bounds), default=0) for side in (0, 1))
    return [
        Text(f"[{one.bounds[0]:>{low}}, {one.bounds[1]:>{high}}]" if one.bounds else one.interval)
        for one in differences
    ]


HYPOTHESES_TITLE = "Claims of the NEFTune paper (arXiv 2310.05914)"

STATUS_STYLES: dict[Status, str] = {
    "supported": "bold green",
    "refuted": "bold red",
    "inconclusive": "bold yellow",
    "not measured": "bold dim",
}
NO_CLAIMS = "These trials allow no look at any of them."


def print_hypotheses(console: Console, results: Sequence[HypothesisResult]) -> None:
    """Print each claim with its status first, then what the paper reports, what was found here, and the caveat."""
    console.print()
    console.print(Text(HYPOTHESES_TITLE, style="bold"))
    console.print()
    console.print(_claims(results) if results else Text(NO_CLAIMS))
    if results:
        console.print()
        console.print(Text(EACH_AT_ITS_OWN_LEVEL, style="dim"))


def facts(result: HypothesisResult) -> Iterator[tuple[str, str]]:
    """Yield what stands under a claim, label and sentences; empty ones are left out."""
    for label, sentence in (("Paper", result.paper), ("Here", result.here), ("Caveat", result.caveat)):
        if sentence:
            yield label, sentence


def _claims(results: Sequence[HypothesisResult]) -> Table:
    claims = Table.grid(padding=(0, 2), collapse_padding=True, pad_edge=False)
    claims.add_column(no_wrap=True)
    claims.add_column()
    for number, result in enumerate(results):
        if number:
            claims.add_row()
        claims.add_row(Text(result.status, style=STATUS_STYLES[result.status]), Text(result.claim, style="bold"))
        for label, sentence in facts(result):
            claims.add_row("", Text.assemble((f"{label}: ", "dim"), sentence))
    return claims
