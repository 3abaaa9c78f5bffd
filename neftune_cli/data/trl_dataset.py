"""Rows for the trainers of TRL: examples as a dataset with the columns that SFTTrainer reads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neftune_cli.data.bad_rows import BadRow, RowError, problems_of
from neftune_cli.data.examples import Example
from neftune_cli.errors import UsageError

if TYPE_CHECKING:
    from datasets import Dataset


def trl_dataset(examples: Sequence[Example]) -> "Dataset":
    """Return a data set with one row per example.

    Conversations have the columns `prompt` and `completion`, lists of messages, and `tools`, JSON text, if any example
    has tools. Raw examples have the same columns with text. Plain texts have the column `text`. TRL has no weights: the
    completion starts after the last assistant turn that is not learned.

    Raises:
        UsageError: a turn that is not learned comes after a learned turn of the completion.
    """
    rows, bad_rows = trl_rows(examples)
    if bad_rows:
        raise UsageError(*problems_of(bad_rows))
    return dataset_of_rows(rows)


def trl_rows(examples: Sequence[Example]) -> tuple[list[dict[str, Any]], list[BadRow]]:
    """Return a row for each example that TRL can learn, and the others."""
    has_tools = any(example.tools for example in examples)
    rows, bad_rows = [], []
    for example in examples:
        try:
            rows.append(_row(example, has_tools=has_tools))
        except RowError as error:
            bad_rows.append(BadRow(example.place, error.what, error.fix, error.cause))
    return rows, bad_rows


def dataset_of_rows(rows: list[dict[str, Any]]) -> "Dataset":
    """Return the rows of `trl_rows` as a data set."""
    from datasets import Dataset

    # Without `use_json`, the arguments of each tool call would get the keys of all others, with null as the value.
    return Dataset.from_list(rows, on_mixed_types="use_json")


def _row(example: Example, *, has_tools: bool) -> dict[str, Any]:
    if example.raw_prompt:
        return {"prompt": example.raw_prompt, "completion": example.completion}
    if not example.prompt:
        return {"text": example.completion}
    start = _start_of_completion(example)
    turns = [{key: value for key, value in turn.items() if key != "weight"} for turn in example.turns]
    tools = {"tools": example.tools or None} if has_tools else {}
    return {"prompt": turns[:start], "completion": turns[start:], **tools}


def _start_of_completion(example: Example) -> int:
    """Return the index of the first turn of the completion, all of which TRL learns."""
    first = len(example.turns) - example.completion_turns
    answers = [index for index, turn in enumerate(example.turns) if index >= first and turn["role"] == "assistant"]
    unlearned = [index for index in answers if example.turns[index].get("weight") == 0]
    if not unlearned:
        return first
    learned = [index for index in answers if index > unlearned[-1]]
    if len(learned) + len(unlearned) < len(answers):
        what = "the completion has an assistant turn with the weight 0 after a learned one, which TRL cannot skip."
        raise RowError(what, "Divide the row into one for each learned turn, or remove it.")
    return learned[0]
