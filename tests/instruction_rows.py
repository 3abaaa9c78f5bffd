"""Reading of instruction rows, for tests: rows in, examples or the message of a refusal out."""

from collections.abc import Mapping
from typing import Any

import pytest

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.bad_rows import problems_of
from neftune_cli.data.examples import Example
from neftune_cli.data.layouts import Reading, read_examples
from neftune_cli.data.rows import Located, Table
from neftune_cli.errors import UsageError

QUESTION, ANSWER = "Quelle heure est-il ?", "Il est midi."


def reading_of(*rows: Mapping[str, Any], source: str = "mine.jsonl", **inputs: Any) -> Reading:
    """Read rows of a file. A bad row raises its problem."""
    located = tuple(Located(f"line {number}", row, source) for number, row in enumerate(rows, start=1))
    reading = read_examples(Table(source, located), InputSpec(**inputs))
    if reading.bad_rows:
        raise UsageError(*problems_of(reading.bad_rows))
    return reading


def read_one(row: Mapping[str, Any], **inputs: Any) -> Example:
    """Return the example of one row."""
    (example,) = reading_of(row, **inputs).examples
    return example


def refusal_of(*rows: Mapping[str, Any], **inputs: Any) -> str:
    """Return the message with which rows are refused."""
    with pytest.raises(UsageError) as error:
        reading_of(*rows, **inputs)
    return str(error.value)


def turn(role: str, content: str) -> dict[str, str]:
    """Return one turn of a conversation."""
    return {"role": role, "content": content}
