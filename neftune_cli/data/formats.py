"""Layouts of instruction data: the registered column sets, and the conversion of a table to examples."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from neftune_cli.config.choices import LAYOUTS
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.columns import ChosenColumns, ColumnSet, choose, layout_of_row
from neftune_cli.data.conversations import Conversation, example_of
from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.layouts import BUILT_IN
from neftune_cli.data.markers import marker_remarks
from neftune_cli.data.rows import BadRow, NamedRow, RowError, RowValues, Table, sift
from neftune_cli.data.spellings import BARE_LIST
from neftune_cli.data.turns import Remark
from neftune_cli.data.unread import check_unread, unread_notes
from neftune_cli.formatting import counted

__all__ = ["ColumnSet", "Reading", "example", "read_examples", "register_columns"]


@dataclass(frozen=True)
class Reading:
    """The examples of a table, and everything that was not read."""

    layout: str
    examples: tuple[Example, ...]
    """One example for each row that can be used, in the order of the rows. `place` names the row."""
    notes: tuple[str, ...]
    """Notes for the user on the layout, on columns and keys that are not read, and on dropped turns."""
    bad_rows: tuple[BadRow, ...]
    """Rows that cannot be used. The caller raises `problems_of(bad_rows)`, or drops and counts them."""


def read_examples(table: Table, inputs: InputSpec) -> Reading:
    """Convert every row to an example.

    Args:
        table: rows of one source.
        inputs: layout, columns and raw.

    Raises:
        UsageError: the columns match no layout, or a column that is not read changes what is trained.
    """
    chosen = choose(table, _COLUMN_SETS, inputs)
    check_unread(table, chosen)
    rows, bad_rows = sift(table.source, table.rows, lambda row: _read(row, chosen))
    examples = tuple(replace(row.value[0], place=row.place_in(table.source)) for row in rows)
    remarks = _remark_notes(row.value[1] for row in rows)
    notes = (_recognized(table, chosen), *unread_notes(table, chosen), *remarks)
    return Reading(chosen.columns.layout, examples, notes, bad_rows)


def register_columns(columns: ColumnSet) -> None:
    """Add a column set in this process, with preference over the existing ones."""
    _COLUMN_SETS.insert(0, columns)
    LAYOUTS.insert(0, columns.layout)


def example(prompt: Sequence[Message], completion: str) -> Example:
    """Return an example that is identified by its content."""
    identity = content_id(prompt, completion)
    return Example(id=identity, prompt=tuple(prompt), completion=completion, cluster=identity)


def _read(row: RowValues, chosen: ChosenColumns) -> tuple[Example, tuple[Remark, ...]]:
    try:
        found = chosen.columns.read(NamedRow(row, chosen.names))
    except RowError as error:
        raise _of_another_layout(row, chosen) or error from error
    example, remarks = (example_of(found), found.remarks) if isinstance(found, Conversation) else (found, ())
    return example, (*remarks, *marker_remarks(example))


def _of_another_layout(row: RowValues, chosen: ChosenColumns) -> RowError | None:
    other = layout_of_row(row, _COLUMN_SETS, chosen)
    if other is None:
        return None
    what = f"the row has {other.in_words}, and other rows have {chosen.in_words}."
    if BARE_LIST in (*other.names.values(), *chosen.names.values()):
        return RowError(what, 'Write every row as {"messages": [...]}, or use a file for each kind of row.')
    return RowError(what, "Write all rows with the same columns, or use a file for each layout.")


def _recognized(table: Table, chosen: ChosenColumns) -> str:
    columns = ", ".join(chosen.names.values())
    if columns == BARE_LIST:
        return f"{table.source} has the layout {chosen.columns.layout} (each row is a {BARE_LIST})."
    return f"{table.source} has the layout {chosen.columns.layout} (columns: {columns})."


def _remark_notes(remarks: Iterable[Sequence[Remark]]) -> tuple[str, ...]:
    """Return a note for each remark, with the number of rows that have it."""
    counts = Counter(remark for of_row in remarks for remark in dict.fromkeys(of_row))
    return tuple(f"{remark.what}: {counted(rows, 'row')}. {remark.fix}".rstrip() for remark, rows in counts.items())


_COLUMN_SETS = list(BUILT_IN)
"""All column sets in order of preference."""
