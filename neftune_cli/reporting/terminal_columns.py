"""Columns of tables on a terminal, and the widest layout of them that fits its width."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from rich.cells import chop_cells
from rich.text import Text

from neftune_cli.analysis.results import Verdict

COLUMN_GAP = 2
"""Spaces between columns."""
WIDEST_PART_OF_NAME, NARROW_PART_OF_NAME = 24, 12
"""Cells of a line of a broken name: usually, and where there is no room for the verdict or the numbers otherwise."""
_INDENT = 2
"""Spaces before the further lines of a broken name."""
VERDICT_STYLES: Mapping[Verdict | None, str] = {
    "better": "green",
    "worse": "red",
    "higher": "magenta",
    "lower": "magenta",
    "equivalent": "cyan",
    "inconclusive": "yellow",
    None: "dim",
}
"""Colors repeat the verdicts: the text is complete without them."""

Layout = TypeVar("Layout")


@dataclass(frozen=True)
class PrintedColumn:
    """One column of a table."""

    key: str
    heading: tuple[str, str]
    """Upper and lower line."""
    cells: tuple[Text, ...]
    align: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        """Return the width in characters."""
        return max(line.cell_len for text in (*map(Text, self.heading), *self.cells) for line in text.split("\n"))


def widest_that_fits(
    layouts: Iterable[Layout], width: int, tables: Callable[[Layout], Iterable[Sequence[PrintedColumn]]]
) -> Layout:
    """Return the first layout all of whose tables fit the width, or the last one.

    Args:
        layouts: at least one, from the widest to the narrowest.
        width: in characters.
        tables: the columns of each table of a layout.
    """
    for layout in layouts:
        if all(_width(columns) <= width for columns in tables(layout)):
            break
    return layout


def _width(columns: Sequence[PrintedColumn]) -> int:
    return sum(column.width + COLUMN_GAP for column in columns) - COLUMN_GAP


def broken_name(name: str, widest: int = WIDEST_PART_OF_NAME) -> str:
    """Return the name of an arm in lines of at most `widest` cells, broken after commas and within long parts.

    Lines after the first are indented.
    """
    parts = [part.strip() for part in name.replace(",", ",\n").split("\n")]
    pieces = [piece.strip() for part in parts for piece in chop_cells(part, widest - _INDENT)]
    return f"\n{' ' * _INDENT}".join(pieces)


def aligned(cells: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the cells with each part after the first padded on the left to the widest of its position."""
    several = [parts for parts in cells if len(parts) > 1]
    widths = [max(map(len, parts)) for parts in zip(*several, strict=True)]
    return [
        (parts[0], *(part.rjust(width) for part, width in zip(parts[1:], widths[1:], strict=True)))
        if len(parts) > 1
        else parts
        for parts in cells
    ]
