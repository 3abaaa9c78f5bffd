"""Columns that a layout does not read: notes on them, and errors for those that change what is trained."""

import unicodedata
from collections.abc import Iterator, Mapping

from neftune_cli.config.choices import MESSAGES
from neftune_cli.config.values import columns_option
from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.columns import JOIN_TURNS, ROLE_COLUMNS, ChosenColumns, turns_in_rows
from neftune_cli.data.preferences import LABELS, PAIRS, bad_completions, preference_problem
from neftune_cli.data.rows import RowValues, Table, has_content, is_filled
from neftune_cli.data.spellings import ANSWER_COLUMNS, INPUT_COLUMNS, MASK_KEYS, PROMPT_COLUMNS, SYSTEM_COLUMNS
from neftune_cli.data.turns import list_in_text, media_clause, role_of
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

WEIGHT = "weight"
MEANINGFUL = (
    *SYSTEM_COLUMNS,
    *INPUT_COLUMNS,
    "history",
    "tools",
    "functions",
    "chat_template_kwargs",
    *MASK_KEYS,
)
"""Columns that change what is trained in every layout. They are read or refused, and never ignored silently."""


def check_unread(table: Table, chosen: ChosenColumns) -> None:
    """Check that no column with values that changes the meaning of the examples is left out.

    Columns that the user named with `--columns` are the only ones to read, so that everything else may be left out.

    Raises:
        UsageError: there are such columns.
    """
    if chosen.are_named:
        return
    problems = [problem for column in _unread(table, chosen) for problem in _problems(table, column, chosen)]
    problems += _answers(table, chosen)
    if problems:
        raise UsageError(*problems)


def unread_notes(table: Table, chosen: ChosenColumns) -> tuple[str, ...]:
    """Return a note on the columns with values that are not read, with the number of rows that have them."""
    counts = {column: table.filled(column) for column in _unread(table, chosen)}
    counts = {column: rows for column, rows in counts.items() if rows and not _is_weight(column, chosen)}
    if not counts:
        return ()
    hint = "".join(
        f" To train on the column '{other.learned}' instead, use --format {other.column_set.layout} or "
        f"{other.as_option}."
        for other in chosen.others
    )
    hint = f" Only the column '{chosen.learned}' is trained on, as plain text.{hint}" if hint else ""
    if len(counts) == 1:
        ((column, rows),) = counts.items()
        return (f"Column '{column}' is not read in this layout: {counted(rows, 'row')}.{hint}",)
    listed = ", ".join(f"'{column}' ({counted(rows, 'row')})" for column, rows in counts.items())
    return (f"Columns that are not read in this layout: {listed}.{hint}",)


def _unread(table: Table, chosen: ChosenColumns) -> Iterator[str]:
    read = {*chosen.names.values(), table.split_column}
    return (column for column in table.columns if column not in read)


def _is_weight(column: str, chosen: ChosenColumns) -> bool:
    """Return whether the column has weights, all of which are 1: other weights are refused."""
    return _plain(column) == WEIGHT and not chosen.are_named


def _problems(table: Table, column: str, chosen: ChosenColumns) -> Iterator[Problem]:
    name = _plain(column)
    if name == WEIGHT:
        yield from _weights(table, column, chosen)
        return
    if name in LABELS and chosen.column_set.has_completion:
        problem = bad_completions(table, column, chosen.as_option)
        yield from (problem,) if problem else ()
        return
    if name in PROMPT_COLUMNS and name not in chosen.column_set.meaningful:
        yield from _other_prompt(table, column, chosen)
        return
    clause = media_clause(name)
    is_meaningful = bool(clause) or name in (*MEANINGFUL, *chosen.column_set.meaningful)
    is_role = name in ROLE_COLUMNS and not chosen.column_set.has_completion
    turns = turns_in_rows(table, has_known_roles=not is_meaningful) if is_role else ""
    if not (is_meaningful or turns) or not (rows := table.filled(column)):
        return
    values = f"{table.source}: column '{column}' has values in {counted(rows, 'row')}"
    unused = f"that {'--raw' if chosen.is_raw else 'this layout'} cannot use"
    if turns:
        yield Problem(f"{values} {unused}. {turns}", JOIN_TURNS)
        return
    what = f"{values}, and {clause}." if clause else f"{values} {unused}. {_CHANGES_MEANING}"
    yield Problem(what, f"{_layouts(chosen)}Use {chosen.as_option} to leave it out, or remove the column.")


_CHANGES_MEANING = "Ignoring them would change the meaning of these examples."


def _answers(table: Table, chosen: ChosenColumns) -> Iterator[Problem]:
    """Yield the problem of conversations that end with a question whose answer is in another column."""
    if chosen.column_set.layout != MESSAGES:
        return
    turns = chosen.names["messages"]
    for column in _unread(table, chosen):
        if _plain(column) not in (PAIRS[0][0], *ANSWER_COLUMNS):
            continue
        answered = [row for row in table.rows if is_filled(row.value, column)]
        rows = sum(_ends_with_question(row.value, turns) for row in answered)
        if rows <= len(answered) / 2:  # the conversations have answers, and the column has more about them
            continue
        if problem := preference_problem(table, (_plain(turns),)):
            yield problem
            return
        others = {meaning: name for meaning, name in chosen.names.items() if meaning != "messages"}
        option = columns_option({"prompt": turns, "completion": column, **others})
        what = f"{table.source}: in {counted(rows, 'row')}, column '{turns}' ends with a question, and its answer is in"
        fix = f"Use {option} to train on it, or {chosen.as_option} to leave it out."
        yield Problem(f"{what} column '{column}', which this layout does not read.", fix)
        return


def _ends_with_question(row: RowValues, column: str) -> bool:
    """Return whether the last turn of a conversation is one that the assistant has to answer."""
    try:
        value = row.get(column)
        turns = list_in_text(value, column) if isinstance(value, str) else value
    except RowError:
        return False
    return isinstance(turns, list | tuple) and bool(turns) and role_of(turns[-1]) in ("user", "tool")


def _other_prompt(table: Table, column: str, chosen: ChosenColumns) -> Iterator[Problem]:
    """Yield the problem of a second column of prompts, unless most of its rows repeat the text that is read."""
    meaning = next((one for one in ("prompt", "instruction") if one in chosen.names), "")
    if not (meaning and chosen.column_set.has_completion):
        return
    read = [chosen.names[one] for one in (meaning, "input") if one in chosen.names]
    filled = [row.value for row in table.rows if is_filled(row.value, column)]
    others = [row for row in filled if not any(_is_repeated(row, column, name) for name in read)]
    if 2 * len(others) > len(filled):
        what = f"{table.source}: column '{column}' has another text than column '{read[0]}' in "
        what += f"{counted(len(others), 'row')}, and only one of the two is read. {_CHANGES_MEANING}"
        both = f"{chosen.as_option_with(column)} to read both, or " if len(read) == 1 and not chosen.is_raw else ""
        yield Problem(what, f"Use {both}{chosen.as_option} to leave it out.")


def _is_repeated(row: RowValues, one: str, other: str) -> bool:
    """Return whether the text of one column contains that of the other, as a prompt in a rendered form does."""
    try:
        first, second = (_without_typography(" ".join(_texts(row.get(name)))) for name in (one, other))
    except RowError:
        return True
    return first in second or second in first


def _without_typography(text: str) -> str:
    """Return a text in lower case, without spaces, and with one form of quotes and of each character."""
    return "".join(unicodedata.normalize("NFKC", text).translate(_STRAIGHT).lower().split())


_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, also in turns."""
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)


def _layouts(chosen: ChosenColumns) -> str:
    layouts = " or ".join(other.column_set.layout for other in chosen.others)
    return f"Use --format {layouts} if that fits. " if layouts else ""


def _weights(table: Table, column: str, chosen: ChosenColumns) -> Iterator[Problem]:
    others = [row for row in table.rows if not _is_one(row.value, column)]
    if others:
        first = others[0].position
        what = f"{first}: column '{column}' has a weight other than 1 ({counted(len(others), 'row')} in all)"
        fix = f"Remove these rows, or use {chosen.as_option} to give all rows the same weight."
        yield Problem(f"{what}, but all rows have the same weight in training.", fix)


def _is_one(row: RowValues, column: str) -> bool:
    try:
        value = row.get(column)
        return not has_content(value) or float(str(value)) == 1
    except (ValueError, RowError):
        return False


def _plain(column: str) -> str:
    return column.strip().lower()
