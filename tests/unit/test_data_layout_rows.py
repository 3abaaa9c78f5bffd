"""Layouts: rows of every layout, converted to hand-written examples, and messages for rows that cannot be used."""

from collections.abc import Mapping
from typing import Any

import pytest

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.bad_rows import problems_of
from neftune_cli.data.examples import Example, content_id, fingerprint
from neftune_cli.data.layouts import read_examples
from neftune_cli.data.rows import Located, Table
from neftune_cli.errors import UsageError

USER = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4"}


def table_of(*rows: Mapping[str, Any]) -> Table:
    return Table(
        "mine.jsonl", tuple(Located(f"line {number}", row, "mine.jsonl") for number, row in enumerate(rows, start=1))
    )


def read_one(row: Mapping[str, Any], layout: str | None = None) -> Example:
    table = table_of(row)
    reading = read_examples(table, InputSpec(layout=layout))
    if reading.bad_rows:
        raise UsageError(*problems_of(reading.bad_rows))
    (example,) = reading.examples
    return example


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "2+2?", "output": "4"},
        {"instruction": "2+2?", "input": "", "output": "4", "text": "rendered"},
        {"instruction": "2+2?", "input": None, "output": "4"},
        {"instruction": "2+2?", "context": " ", "response": "4", "category": "sums"},
        {"prompt": "2+2?", "completion": "4"},
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": [USER], "completion": "4"},
        {"messages": [USER, ANSWER]},
        {"messages": [{"role": "system", "content": ""}, USER, ANSWER, {"role": "user", "content": "Thanks"}]},
        {"prompt": "2+2?", "messages": [USER, ANSWER]},
        {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
        {"conversations": [USER, ANSWER]},
    ],
)
def test_all_layouts_give_the_same_example(row: Mapping[str, Any]) -> None:
    example = read_one(row)
    assert example.prompt == ({"role": "user", "content": "2+2?"},)
    assert example.completion == "4"
    assert example.id == example.cluster == "9bf545c43481533b"


def test_alpaca_input_becomes_the_second_paragraph_of_the_prompt() -> None:
    example = read_one({"instruction": "Translate.", "input": "Guten Tag", "output": "Hello"})
    assert example.prompt == ({"role": "user", "content": "Translate.\n\nGuten Tag"},)


def test_last_assistant_turn_is_the_completion_and_earlier_turns_are_the_prompt() -> None:
    system = {"role": "system", "content": "Be brief."}
    again = {"role": "user", "content": "3+3?"}
    example = read_one({"messages": [system, USER, ANSWER, again, {"role": "assistant", "content": "6"}]})
    assert list(example.prompt) == [system, USER, ANSWER, again]
    assert example.completion == "6"


def test_plain_text_has_no_prompt_and_keeps_its_white_space() -> None:
    example = read_one({"text": "  def f():\n"})
    assert example.prompt == ()
    assert example.completion == "  def f():\n"


def test_explicit_layout_overrides_the_recognized_one() -> None:
    row = {"instruction": "2+2?", "output": "4", "text": "2+2=4"}
    assert read_one(row, "text").completion == "2+2=4"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "   "}, "column 'text' is empty."),
        ({"text": None}, "column 'text' is empty."),
        ({"prompt": "a", "completion": float("inf")}, "column 'completion' contains a number that is not finite."),
        ({"prompt": "a", "completion": True}, "column 'completion' contains a boolean, not text."),
        ({"prompt": {"a": 1}, "completion": "b"}, "column 'prompt' contains an object, not text."),
        ({"prompt": [], "completion": "b"}, "column 'prompt' has no user turn before the last assistant turn."),
        (
            {"prompt": [USER], "completion": [USER]},
            "column 'completion' has no assistant turn (turns: user).",
        ),
        ({"messages": "hello"}, "column 'messages' contains text, not a list of turns."),
        ({"messages": ["hello"]}, "column 'messages', turn 1 is text, not an object."),
        ({"messages": [USER]}, "column 'messages' has no assistant turn (turns: user)."),
        ({"messages": []}, "column 'messages' has no assistant turn (turns: none)."),
        ({"messages": [ANSWER]}, "column 'messages' has no user turn before the last assistant turn."),
        (
            {"messages": [USER, {"role": "narrator", "content": "4"}]},
            "'messages', turn 2 has the unknown role 'narrator'.",
        ),
        ({"messages": [USER, {"content": "4"}]}, "column 'messages', turn 2 has no role (keys: 'content')."),
        ({"messages": [USER, {"role": "assistant"}]}, "column 'messages', turn 2 is empty."),
        ({"text": "half \ud800"}, "column 'text' contains a lone surrogate, which is not valid Unicode."),
    ],
)
def test_unusable_row_is_reported_with_its_line(row: Mapping[str, Any], what: str) -> None:
    with pytest.raises(UsageError) as error:
        read_one(row)
    (problem,) = error.value.problems
    assert problem.what.startswith("mine.jsonl, line 1: ")
    assert what in problem.what
    assert problem.fix


def test_row_that_lacks_a_column_of_the_other_rows_is_reported() -> None:
    table = table_of({"prompt": "a", "completion": "b"}, {"prompt": "a", "note": "b"})
    (bad,) = read_examples(table, InputSpec()).bad_rows
    assert (bad.place, bad.what) == ("mine.jsonl, line 2", "column 'completion' is missing.")


def test_content_id_is_the_hash_of_canonical_json() -> None:
    # printf '[[["user","\\u00e9"]],"x"]' | sha256sum
    assert content_id([{"role": "user", "content": "é"}], "x") == "2f3d98aaab1296e2"


def test_fingerprint_depends_on_order_and_split() -> None:
    one, two = (read_one({"text": text}) for text in ("one", "two"))
    prints = [fingerprint([one, two], [], []), fingerprint([two, one], [], []), fingerprint([one], [two], [])]
    assert len(set(prints)) == 3
    assert fingerprint([one], [two], []) == fingerprint((one,), (two,), ())
