"""Layouts of instruction data: the columns of each layout, and the conversion of a row to an example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.rows import RowError, RowValues, Table, is_blank, read_each, roles_of, text_in, turns_in
from neftune_cli.errors import Problem, UsageError, alternatives, did_you_mean


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


def read_examples(table: Table, columns: ColumnSet) -> tuple[Example, ...]:
    """Convert every row to an example.

    Raises:
        UsageError: rows have empty or non-text values, or incomplete conversations; each with its position.
    """
    return tuple(located.value for located in read_each(table.source, table.rows, columns.read))


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
        what = f"--format must be {alternatives(layouts)}; {layout!r} was given."
        raise UsageError(Problem(what, did_you_mean(layout, layouts) or f"Use --format {layouts[0]}."))
    return candidates


def _missing_columns(table: Table, candidates: Sequence[ColumnSet], layout: str | None) -> Problem:
    match = f"do not match the layout {layout}" if layout else "match no supported layout"
    supported = "; ".join(f"{columns.in_words} ({columns.layout})" for columns in candidates)
    what = f"The columns of {table.source} {match}: {', '.join(table.columns) or 'none'}."
    return Problem(what, f"Rename the columns to one of these sets: {supported}.")


def _alpaca(instruction: str, context: str, response: str) -> Callable[[RowValues], Example]:
    def read(row: RowValues) -> Example:
        paragraphs = [text_in(row, instruction)]
        if not is_blank(row.get(context)):
            paragraphs.append(text_in(row, context))
        return example(_user_turn("\n\n".join(paragraphs)), text_in(row, response))

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
        assistant_turns = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
        if not assistant_turns:
            what = f"column '{column}' has no assistant turn (turns: {roles_of(turns)})."
            raise RowError(what, "Add one, or remove the row.")
        return example(_with_user_turn(turns[: assistant_turns[-1]], column), turns[assistant_turns[-1]]["content"])

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
