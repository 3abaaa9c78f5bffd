"""Column sets of layouts, and the choice of the set that fits a table."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from neftune_cli.config.choices import TEXT
from neftune_cli.config.spec import InputSpec
from neftune_cli.config.values import columns_option
from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.conversations import Conversation
from neftune_cli.data.csv_files import CSV_DELIMITERS
from neftune_cli.data.examples import Example
from neftune_cli.data.files import split_suffix
from neftune_cli.data.preferences import preference_problem
from neftune_cli.data.rows import RowValues, Table, is_filled
from neftune_cli.data.spellings import BARE_LIST, CONTENT_KEYS, OTHER_LAYOUT_NAMES, ROLE_KEYS, ROLE_OF
from neftune_cli.errors import Problem, UsageError, alternatives, suggestion
from neftune_cli.formatting import listed, listed_at_most, quoted

MOST_NAMES = 30
"""Largest number of columns that a message lists."""
RowReader = Callable[[RowValues], Example | Conversation]
"""Converts a row, whose columns have the names of the column set, to an example."""


@dataclass(frozen=True)
class ColumnSet:
    """One set of columns of a layout, and the function that converts a row with these columns."""

    layout: str
    """Value of `--format`. Several column sets can have the same layout."""
    required: tuple[str, ...]
    read: RowReader
    optional: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of a column in data sets, in order of preference; by default the name in `required` or `optional`."""
    read_raw: RowReader | None = None
    """Conversion of a row with `--raw`, without the optional columns; None if it does not apply."""
    meaningful: tuple[str, ...] = ()
    """Names of columns that change what is trained, in lower case: they are refused if they are not read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the required and the optional columns."""
        return (*self.required, *self.optional)

    @property
    def has_completion(self) -> bool:
        """Return whether a part of the row is the completion; plain text is learned as a whole."""
        return self.layout != TEXT

    @property
    def in_words(self) -> str:
        """Return the columns separated by commas, optional ones in brackets, with the layout."""
        columns = ", ".join([*self.required, *(f"[{column}]" for column in self.optional)])
        return f"{columns} ({self.layout})"

    def names_of(self, column: str) -> tuple[str, ...]:
        """Return the names of a column in data sets, in order of preference."""
        return self.names.get(column, (column,))


@dataclass(frozen=True)
class ChosenColumns:
    """A column set, and the name in the table of each of its columns that the table has."""

    column_set: ColumnSet
    names: Mapping[str, str]
    are_named: bool = False
    """Whether the user named the columns."""
    is_raw: bool = False
    """Whether no chat template is used."""
    others: tuple["ChosenColumns", ...] = ()
    """Other layouts that fit, if plain text is read."""

    @property
    def learned(self) -> str:
        """Return the name in the table of the column that is learned."""
        return self.names[self.column_set.required[-1]]

    @property
    def in_words(self) -> str:
        """Return the required columns with the layout, for a message."""
        names = [self.names[column] for column in self.column_set.required]
        if names == [BARE_LIST]:
            return f"no columns, because it is a {BARE_LIST} (layout {self.column_set.layout})"
        return f"the {'columns' if len(names) > 1 else 'column'} {', '.join(names)} (layout {self.column_set.layout})"

    @property
    def as_option(self) -> str:
        """Return the `--columns` option that names these columns."""
        return columns_option(self.names)

    def as_option_with(self, second: str) -> str:
        """Return the option that also reads a second column of prompts. An `instruction` is the first paragraph."""
        asked, learned, *_ = (self.names[column] for column in self.column_set.required)
        first, second = (second, asked) if second.strip().lower() == "instruction" else (asked, second)
        others = {column: name for column, name in self.names.items() if column in self.column_set.optional}
        return columns_option({"prompt": first, "input": second, "completion": learned, **others})


def choose(table: Table, sets: Sequence[ColumnSet], inputs: InputSpec) -> ChosenColumns:
    """Return the first column set that fits the table and the columns that the user named.

    Column names match in any case and with surrounding spaces. Exact names and columns with values go first.

    Raises:
        UsageError: there is no layout of that name, or no column set fits.
    """
    candidates = sets if inputs.layout is None else _of_layout(sets, inputs.layout)
    if inputs.columns:
        chosen = _named(table, candidates, inputs.columns)
    else:
        chosen = _recognized(table, candidates, inputs.layout)
    return _raw(chosen) if inputs.raw else chosen


def layout_of_row(row: RowValues, sets: Sequence[ColumnSet], chosen: ChosenColumns) -> ChosenColumns | None:
    """Return the columns of a row that lacks some of the chosen ones, but fits another column set; None otherwise."""
    filled = [column for column in row if is_filled(row, column)]
    missing = [column for column in chosen.column_set.required if chosen.names[column] not in filled]
    if not missing or chosen.are_named:
        return None
    for column_set, names in _fitting(filled, sets):
        if column_set.has_completion or len(missing) == len(chosen.column_set.required):
            return ChosenColumns(column_set, names)
    return None


def _of_layout(sets: Sequence[ColumnSet], layout: str) -> Sequence[ColumnSet]:
    candidates = tuple(column_set for column_set in sets if column_set.layout == layout)
    if not candidates:
        layouts = tuple(dict.fromkeys(column_set.layout for column_set in sets))
        meant = OTHER_LAYOUT_NAMES.get(layout.lower())
        fix = f"Use {meant}." if meant else f"{suggestion(layout, layouts)}Use {alternatives(layouts)}."
        raise UsageError(Problem(f"--format {layout}: there is no such layout.", fix))
    return candidates


def _recognized(table: Table, candidates: Sequence[ColumnSet], layout: str | None) -> ChosenColumns:
    for present in (table.filled_columns, table.columns):
        for column_set, names in _fitting(present, candidates):
            others = _other_layouts(present, candidates) if not column_set.has_completion else ()
            return ChosenColumns(column_set, _resolved(column_set, table.columns, _in_any_case, names), others=others)
    raise UsageError(preference_problem(table) or _missing_columns(table, candidates, layout))


def _fitting(present: Sequence[str], candidates: Sequence[ColumnSet]) -> Iterator[tuple[ColumnSet, dict[str, str]]]:
    """Yield the column sets whose required columns are present, in any case. Exact names of a set go first."""
    plain = {name.strip().lower() for name in present}
    for column_set in candidates:
        # before _in_any_case, which refuses columns that differ in case, also for sets that do not fit
        if not all(plain.intersection(column_set.names_of(column)) for column in column_set.required):
            continue
        for find in (_exact, _in_any_case):
            names = _resolved(column_set, present, find)
            if set(column_set.required) <= set(names):
                yield column_set, _resolved(column_set, present, _in_any_case, names)
                break


def _other_layouts(present: Sequence[str], candidates: Sequence[ColumnSet]) -> tuple[ChosenColumns, ...]:
    """Return the layouts other than plain text that fit, each with the first column set that does."""
    found: dict[str, ChosenColumns] = {}
    for column_set, names in _fitting(present, [one for one in candidates if one.has_completion]):
        found.setdefault(column_set.layout, ChosenColumns(column_set, names))
    return tuple(found.values())


def _resolved(
    column_set: ColumnSet,
    present: Sequence[str],
    find: Callable[[str, Sequence[str]], str | None],
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the name in the table of each column that is present. No name is used twice."""
    resolved = dict(known or {})
    for column in (column for column in column_set.columns if column not in resolved):
        free = [name for name in present if name not in resolved.values()]
        found = (find(name, free) for name in column_set.names_of(column))
        if name := next((name for name in found if name is not None), None):
            resolved[column] = name
    return {column: resolved[column] for column in column_set.columns if column in resolved}


def _exact(name: str, present: Sequence[str]) -> str | None:
    return name if name in present else None


def _in_any_case(name: str, present: Sequence[str]) -> str | None:
    same = [other for other in present if other.strip().lower() == name.strip().lower()]
    if name in same:
        return name
    if len(same) > 1:
        what = f"The columns {quoted(same)} differ in upper and lower case or in spaces only."
        raise UsageError(
            Problem(what, f"Rename one of them, or name the one to read: --columns {name}='{same[0]}',...")
        )
    return same[0] if same else None


def _named(table: Table, candidates: Sequence[ColumnSet], named: Mapping[str, str]) -> ChosenColumns:
    names = _checked_names(table, candidates, named)
    for column_set in candidates:
        if set(column_set.required) <= set(names) <= set(column_set.columns):
            return ChosenColumns(
                column_set, {column: names[column] for column in column_set.columns if column in names}, True
            )
    if lacking := [one for one in candidates if set(names) < set(one.columns)]:
        closest = min(lacking, key=lambda one: len(set(one.required) - set(names)))
        missing = [name for name in closest.required if name not in names]
        free = [column for column in table.columns if column not in names.values()]
        option = columns_option({**named, **dict.fromkeys(missing, "COLUMN")})
        what = f"--columns must also name {listed(missing)}."
        one_of = "is" if len(free) == 1 else "is one of"
        fix = f"Use {option}, where COLUMN {one_of} {', '.join(free)}."
        raise UsageError(Problem(what, fix if free else "The data have no other column. Use data that have one."))
    what = f"--columns names {', '.join(names)}. Together these are not the columns of a layout."
    raise UsageError(Problem(what, f"Use one of these sets: {_sets_in_words(candidates)}."))


def _checked_names(table: Table, candidates: Sequence[ColumnSet], named: Mapping[str, str]) -> dict[str, str]:
    """Return the name in the table of each named column.

    Raises:
        UsageError: a meaning is unknown, the table lacks a column, or a column has two meanings.
    """
    meanings = tuple(dict.fromkeys(column for column_set in candidates for column in column_set.columns))
    names = {meaning: _in_any_case(column, table.columns) for meaning, column in named.items()}
    problems = [
        Problem(
            f"--columns {meaning}={named[meaning]}: there is no meaning '{meaning}'.", f"Use {alternatives(meanings)}."
        )
        for meaning in named
        if meaning not in meanings
    ]
    problems += [
        Problem(
            f"--columns {meaning}={named[meaning]}: {table.source} has no column '{named[meaning]}'.",
            f"{suggestion(named[meaning], table.columns)}Use one of its columns: "
            f"{listed_at_most(table.columns, MOST_NAMES)}.",
        )
        for meaning, name in names.items()
        if name is None
    ]
    found = [name for name in names.values() if name is not None]
    problems += [
        Problem(f"--columns gives two meanings to the column '{name}'.", "Remove one of them.")
        for name in dict.fromkeys(found)
        if found.count(name) > 1
    ]
    if problems:
        raise UsageError(*problems)
    return {meaning: name for meaning, name in names.items() if name is not None}


def _raw(chosen: ChosenColumns) -> ChosenColumns:
    column_set = chosen.column_set
    if column_set.read_raw is None:
        what = f"--raw does not apply to the layout {column_set.layout}: the chat template renders conversations."
        raise UsageError(Problem(what, "Remove --raw, or pass data with the columns prompt and completion."))
    if chosen.are_named and (extra := [column for column in chosen.names if column in column_set.optional]):
        what = (
            f"--raw does not apply to the columns {', '.join(extra)} of --columns: it reads prompt and completion only."
        )
        raise UsageError(Problem(what, "Remove --raw, or these columns from --columns."))
    required = {column: chosen.names[column] for column in column_set.required}
    return replace(
        chosen, column_set=replace(column_set, read=column_set.read_raw, optional=()), names=required, is_raw=True
    )


def _missing_columns(table: Table, candidates: Sequence[ColumnSet], layout: str | None) -> Problem:
    match = f"do not match the layout {layout}" if layout else "match no supported layout"
    what = f"The columns of {table.source} {match}: {listed_at_most(table.columns, MOST_NAMES) or 'none'}."
    if turns := turns_in_rows(table):
        return Problem(f"{what} {turns}", JOIN_TURNS)
    example = ",".join(f"{column}=COLUMN" for column in candidates[0].required) if layout else _EXAMPLE
    rename = f"rename them to one of these sets: {_sets_in_words(candidates)}."
    is_csv = bool(table.rows) and split_suffix(table.rows[0].file)[0] in CSV_DELIMITERS
    name = f"{_HEADER}Otherwise name the columns" if is_csv and layout is None else "Name them"
    return Problem(what, f"{name}, for example --columns {example}, or {rename}")


def turns_in_rows(table: Table, *, has_known_roles: bool = False) -> str:
    """Return a sentence if the rows of a table seem to be turns, as exports of chats have them; otherwise nothing.

    Args:
        table: the rows.
        has_known_roles: whether the roles must be known ones; otherwise a column of conversations is enough.
    """
    filled = table.filled_names
    role, text = (next((filled[name] for name in names if name in filled), "") for names in (ROLE_COLUMNS, _TEXTS))
    if not role or not text:
        return ""
    chats = [column for name, column in filled.items() if _CONVERSATION_ID.fullmatch(name)]
    chat = next((column for column in chats if _repeats(table, column)), "")
    if chats and not chat:  # each row is a conversation of its own, as tickets with their replies are
        return ""
    if (has_known_roles or not chat) and not all(_is_role(row.value, role) for row in table.rows):
        return ""
    columns = {"conversation": chat, "role": role, "text": text}
    named = ", ".join(f"{meaning}: '{column}'" for meaning, column in columns.items() if column)
    return f"Each row seems to be one turn of a conversation ({named})."


def _repeats(table: Table, column: str) -> bool:
    """Return whether two rows have the same value in a column."""
    values = [str(row.value.get(column)) for row in table.rows if is_filled(row.value, column)]
    return len(set(values)) < len(values)


def _is_role(row: RowValues, column: str) -> bool:
    try:
        return str(row.get(column)).strip().lower() in ROLE_OF
    except RowError:
        return False


ROLE_COLUMNS = (*ROLE_KEYS, "sender", "author")
"""Columns with the role of a turn, in data with one turn in each row."""
_TEXTS = (*CONTENT_KEYS, "message", "utterance")
_CONVERSATION_ID = re.compile(r"(?:conversation|conv|dialog|dialogue|chat|thread|session|ticket)[ _-]?(?:id|number)?")
JOIN_TURNS = (
    "Combine the rows of each conversation, in the order of its turns, into one row of a .jsonl file: "
    '{"messages": [{"role": "user", "content": "..."}, ...]}.'
)


def _sets_in_words(candidates: Sequence[ColumnSet]) -> str:
    return "; ".join(dict.fromkeys(column_set.in_words for column_set in candidates))


_HEADER = "The first line must have the column names. If it is an example, add a line with the names above it. "
_EXAMPLE = "prompt=COLUMN,completion=COLUMN"
