"""Layouts of instruction data: the columns of each layout, and the conversion of a row to an example."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.rows import BadRow, RowError, RowValues, Table, is_blank, roles_of, sift, text_in, turns_in
from neftune_cli.errors import Problem, UsageError


@dataclass(frozen=True)
class ColumnSet:
    """One set of columns of a layout, and the function that converts a row with these columns."""

    layout: str
    """Value of `--format`. Several column sets can have the same layout."""
    required: tuple[str, ...]
    read: Callable[[RowValues], Example]
    optional: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """Return the columns separated by commas, optional ones in brackets."""
        return ", ".join([*self.required, *(f"[{column}]" for column in self.optional)])

    def found_in(self, table: Table) -> str:
        """Return the columns that a table has, separated by commas."""
        return ", ".join(column for column in (*self.required, *self.optional) if column in table.columns)


def choose_columns(table: Table, layout: str | None) -> ColumnSet:
    """Return the first column set of the layout that the table has all required columns of; of any layout if None.

    Raises:
        UsageError: there is no layout of that name, or the table lacks the columns.
    """
    candidates = tuple(_COLUMN_SETS) if layout is None else _column_sets_of(layout)
    for columns in candidates:
        if set(columns.required) <= set(table.columns):
            return columns
    raise UsageError(_missing_columns(table, candidates, layout))


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
    columns = choose_columns(table, inputs.layout)
    read, bad_rows = sift(table.source, table.rows, columns.read)
    examples = tuple(replace(row.value, place=f"{table.source}, {row.place}") for row in read)
    note = f"{table.source} has the layout {columns.layout} (columns: {columns.found_in(table)})."
    return Reading(columns.layout, examples, (note,), bad_rows)


def layout_names() -> tuple[str, ...]:
    """Return the names of all layouts."""
    return tuple(dict.fromkeys(columns.layout for columns in _COLUMN_SETS))


def register_columns(columns: ColumnSet) -> None:
    """Add a column set in this process, with preference over the existing ones."""
    _COLUMN_SETS.insert(0, columns)


def example(prompt: Sequence[Message], completion: str) -> Example:
    """Return an example that is identified by its content."""
    identity = content_id(prompt, completion)
    return Example(id=identity, prompt=tuple(prompt), completion=completion, cluster=identity)


def _column_sets_of(layout: str) -> tuple[ColumnSet, ...]:
    candidates = tuple(columns for columns in _COLUMN_SETS if columns.layout == layout)
    if not candidates:
        layouts = layout_names()
        close = difflib.get_close_matches(layout, layouts, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(Problem(f"--format {layout}: there is no such layout.", f"{hint}Use {_or(layouts)}."))
    return candidates


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _missing_columns(table: Table, candidates: Sequence[ColumnSet], layout: str | None) -> Problem:
    match = f"do not match the layout {layout}" if layout else "match no supported layout"
    supported = "; ".join(f"{columns.in_words} ({columns.layout})" for columns in candidates)
    what = f"The columns of {table.source} {match}: {', '.join(table.columns) or 'none'}."
    return Problem(what, f"Rename the columns to one of these sets: {supported}.")


def _alpaca(instruction: str, context: str, answer: str) -> Callable[[RowValues], Example]:
    def read(row: RowValues) -> Example:
        paragraphs = [text_in(row, instruction)]
        if not is_blank(row.get(context)):
            paragraphs.append(text_in(row, context))
        return example(_user_turn("\n\n".join(paragraphs)), text_in(row, answer))

    return read


def _prompt_completion(row: RowValues) -> Example:
    return example(_prompt(row), _completion(row))


def _prompt(row: RowValues) -> Sequence[Message]:
    if isinstance(row.get("prompt"), list):
        return _with_user_turn(turns_in(row, "prompt"), "prompt")
    return _user_turn(text_in(row, "prompt"))


def _completion(row: RowValues) -> str:
    if not isinstance(row.get("completion"), list):
        return text_in(row, "completion")
    turns = turns_in(row, "completion")
    if [turn["role"] for turn in turns] != ["assistant"]:
        what = f"column 'completion' must contain one assistant turn, but its turns are: {roles_of(turns)}."
        raise RowError(what, "Move all turns before the last assistant turn to 'prompt'.")
    return turns[0]["content"]


def _conversation(column: str) -> Callable[[RowValues], Example]:
    def read(row: RowValues) -> Example:
        turns = turns_in(row, column)
        answers = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
        if not answers:
            what = f"column '{column}' has no assistant turn (turns: {roles_of(turns)})."
            raise RowError(what, "Add one, or remove the row.")
        return example(_with_user_turn(turns[: answers[-1]], column), turns[answers[-1]]["content"])

    return read


def _text(row: RowValues) -> Example:
    return example((), text_in(row, "text"))


def _user_turn(content: str) -> tuple[Message, ...]:
    return (Message(role="user", content=content),)


def _with_user_turn(prompt: Sequence[Message], column: str) -> Sequence[Message]:
    if not any(message["role"] == "user" for message in prompt):
        what = f"column '{column}' has no user turn before the last assistant turn."
        raise RowError(what, "Add one, or remove the row.")
    return prompt


_COLUMN_SETS = [
    ColumnSet("alpaca", ("instruction", "output"), _alpaca("instruction", "input", "output"), ("input",)),
    ColumnSet("alpaca", ("instruction", "response"), _alpaca("instruction", "context", "response"), ("context",)),
    ColumnSet("prompt-completion", ("prompt", "completion"), _prompt_completion),
    ColumnSet("messages", ("messages",), _conversation("messages")),
    ColumnSet("messages", ("conversations",), _conversation("conversations")),
    ColumnSet("text", ("text",), _text),
]
"""All supported column sets in order of preference. `text` is last: many data sets have it besides other columns."""
