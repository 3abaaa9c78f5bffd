"""Examples as a data set of the datasets library, in the columns that TRL's trainers read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neftune_cli.data.examples import Example

if TYPE_CHECKING:
    from datasets import Dataset


def trl_dataset(examples: Sequence[Example]) -> "Dataset":
    """Return a data set with one row per example.

    Conversations have the columns `prompt` and `completion`, lists of messages, and `tools`, JSON text, if any example
    has tools. Raw examples have the same columns with text. Plain texts have the column `text`.
    """
    from datasets import Dataset

    has_tools = any(example.tools for example in examples)
    rows = [_row(example, has_tools=has_tools) for example in examples]
    # Without `use_json`, the arguments of each tool call would get the keys of all others, with null as the value.
    return Dataset.from_list(rows, on_mixed_types="use_json")


def _row(example: Example, *, has_tools: bool) -> dict[str, Any]:
    if example.raw_prompt:
        return {"prompt": example.raw_prompt, "completion": example.completion}
    if not example.prompt:
        return {"text": example.completion}
    turns = [{key: value for key, value in turn.items() if key != "weight"} for turn in example.turns]
    completion = len(turns) - example.completion_turns
    tools = {"tools": example.tools or None} if has_tools else {}
    return {"prompt": turns[:completion], "completion": turns[completion:], **tools}
