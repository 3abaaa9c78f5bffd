"""Layouts of instruction data: which columns mean what, and how a row of them becomes an example."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from neftune_cli.data.examples import Example, Message, content_id
from neftune_cli.data.rows import RowError, Table, Values, is_blank, read_each, roles_of, text_in, turns_in
from neftune_cli.errors import Problem, UsageError


class Layout(StrEnum):
    """The layouts that `--format` names."""

    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt-completion"
    MESSAGES = "messages"
    TEXT = "text"


@dataclass(frozen=True)
class Columns:
    """One set of columns that a layout is written in, and how a row of them is read."""

    layout: Layout
    required: tuple[str, ...]
    read: Callable[[Values], Example]
    optional: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """Return the columns as a message lists them, optional ones in brackets."""
        return ", ".join([*self.required, *(f"[{column}]" for column in self.optional)])

    def found_in(self, table: Table) -> str:
        """Return those of the columns that a table has, as a note lists them."""
        return ", ".join(column for column in (*self.required, *self.optional) if column in table.columns)


def choose_columns(table: Table, layout: str | None) -> Columns:
    """Return the columns to read: those of the named layout, or the first set that the table has all of.

    Raises:
        UsageError: there is no layout of that name, or the table lacks the columns.
    """
    candidates = UNDERSTOOD if layout is None else _written_as(layout)
    for columns in candidates:
        if set(columns.required) <= set(table.columns):
            return columns
    raise UsageError(_missing_columns(table, candidates))


def read_examples(table: Table, columns: Columns) -> tuple[Example, ...]:
    """Turn every row into an example.

    Raises:
        UsageError: rows with empty or non-text values, or conversations that make no example, each by its place.
    """
    return tuple(located.value for located in read_each(table.source, table.rows, columns.read))


def _written_as(name: str) -> tuple[Columns, ...]:
    candidates = tuple(columns for columns in UNDERSTOOD if columns.layout == name)
    if not candidates:
        close = difflib.get_close_matches(name, list(Layout), n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(Problem(f"--format '{name}' is not a layout.", f"{hint}Layouts are {', '.join(Layout)}."))
    return candidates


def _missing_columns(table: Table, candidates: Sequence[Columns]) -> Problem:
    layouts = ", ".join(dict.fromkeys(columns.layout for columns in candidates))
    understood = "; ".join(f"{columns.in_words} ({columns.layout})" for columns in candidates)
    what = (
        f"{table.source} has the columns {', '.join(table.columns) or 'none'}, which don't make the layout {layouts}."
    )
    return Problem(what, f"Understood are: {understood}.")


def _alpaca(instruction: str, context: str, answer: str) -> Callable[[Values], Example]:
    def read(row: Values) -> Example:
        paragraphs = [text_in(row, instruction)]
        if not is_blank(row.get(context)):
            paragraphs.append(text_in(row, context))
        return _example(_question("\n\n".join(paragraphs)), text_in(row, answer))

    return read


def _prompt_completion(row: Values) -> Example:
    return _example(_prompt(row), _completion(row))


def _prompt(row: Values) -> Sequence[Message]:
    if isinstance(row.get("prompt"), list):
        return _with_user_turn(turns_in(row, "prompt"), "prompt")
    return _question(text_in(row, "prompt"))


def _completion(row: Values) -> str:
    if not isinstance(row.get("completion"), list):
        return text_in(row, "completion")
    turns = turns_in(row, "completion")
    if [turn["role"] for turn in turns] != ["assistant"]:
        what = f"column 'completion' has the turns {roles_of(turns)}; one assistant turn is expected."
        raise RowError(what, "Move everything before the last answer into 'prompt'.")
    return turns[0]["content"]


def _conversation(column: str) -> Callable[[Values], Example]:
    def read(row: Values) -> Example:
        turns = turns_in(row, column)
        answers = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
        if not answers:
            what = f"column '{column}' has no assistant turn (turns: {roles_of(turns)})."
            raise RowError(what, "Add the answer to learn, or remove the row.")
        return _example(_with_user_turn(turns[: answers[-1]], column), turns[answers[-1]]["content"])

    return read


def _text(row: Values) -> Example:
    return _example((), text_in(row, "text"))


def _question(content: str) -> tuple[Message, ...]:
    return (Message(role="user", content=content),)


def _with_user_turn(prompt: Sequence[Message], column: str) -> Sequence[Message]:
    if not any(message["role"] == "user" for message in prompt):
        raise RowError(f"column '{column}' has no user turn before the answer.", "Add the question, or remove the row.")
    return prompt


def _example(prompt: Sequence[Message], completion: str) -> Example:
    identity = content_id(prompt, completion)
    return Example(id=identity, prompt=tuple(prompt), completion=completion, cluster=identity)


UNDERSTOOD = (
    Columns(Layout.ALPACA, ("instruction", "output"), _alpaca("instruction", "input", "output"), ("input",)),
    Columns(Layout.ALPACA, ("instruction", "response"), _alpaca("instruction", "context", "response"), ("context",)),
    Columns(Layout.PROMPT_COMPLETION, ("prompt", "completion"), _prompt_completion),
    Columns(Layout.MESSAGES, ("messages",), _conversation("messages")),
    Columns(Layout.MESSAGES, ("conversations",), _conversation("conversations")),
    Columns(Layout.TEXT, ("text",), _text),
)
"""Every set of columns that is recognised, the most telling first: many data sets add a rendered `text` to others."""
