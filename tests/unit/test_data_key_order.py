"""The same tool calls have the same fingerprint and the same tokens, whatever file or order of keys they come in."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from neftune_cli import load_examples
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import tokenize
from neftune_cli.data.tool_calls import in_key_order
from tests.unit.test_data_rendered_parts import WITH_CALLS
from tests.unit.test_data_tokenization import tokenizer_with


def shuffled(value: Any, order: random.Random) -> Any:
    """Return a JSON value with the keys of each object in a random order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


def row(number: int) -> dict[str, Any]:
    properties = {"unit": {"type": "string", "description": "C or F"}, "city": {"type": "string", "description": "A."}}
    parameters = {"type": "object", "properties": properties, "required": ["city"]}
    function = {"name": "weather", "description": "The weather.", "parameters": parameters}
    call = {"name": "weather", "arguments": {"city": f"city {number}", "unit": "C", "at": {"hour": number, "day": 2}}}
    asked = {"role": "user", "content": f"Is it warm in city {number}?"}
    answered = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    return {"messages": [asked, answered], "tools": [{"type": "function", "function": function}]}


ROWS = [row(number) for number in range(12)]


def write_jsonl(rows: list[dict[str, Any]]) -> str:
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "mine.jsonl"


def write_parquet(rows: list[dict[str, Any]]) -> str:
    parquet.write_table(pyarrow.Table.from_pylist(rows), "mine.parquet")
    return "mine.parquet"


def write_csv(rows: list[dict[str, Any]]) -> str:
    with Path("mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["messages", "tools"])
        writer.writeheader()
        writer.writerows({name: json.dumps(value) for name, value in one.items()} for one in rows)
    return "mine.csv"


def loaded(name: str) -> tuple[InstructionData, list[tuple[int, ...]]]:
    data = load_data(InputSpec(dataset=name))
    tokenized = tokenize((*data.train, *data.held_out), tokenizer_with(WITH_CALLS), max_length=2_000)
    return data, [one.input_ids for one in tokenized.examples]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet, write_csv])
def test_the_same_rows_have_the_same_fingerprint_and_tokens(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, tokens = loaded(write_jsonl(ROWS))
    order = random.Random(1)
    other, other_tokens = loaded(write([shuffled(one, order) for one in ROWS]))
    assert (other.fingerprint, other_tokens) == (data.fingerprint, tokens)


def test_load_examples_has_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    order = random.Random(2)
    rows = list(load_examples(write_jsonl([shuffled(one, order) for one in ROWS])))
    arguments = [one["completion"][0]["tool_calls"][0]["function"]["arguments"] for one in rows]
    assert [list(one) for one in arguments] == [["at", "city", "unit"]] * 12
    assert {json.dumps(json.loads(one["tools"])) for one in rows} == {json.dumps(in_key_order(ROWS[0]["tools"]))}


def test_the_order_is_that_of_published_tool_definitions() -> None:
    """transformers.utils.get_json_schema is the source of the tools that chat models were trained with."""
    from transformers.utils.chat_template_utils import get_json_schema

    def weather(city: str, unit: str) -> str:
        """
        The weather.

        Args:
            city: The city.
            unit: C or F. (choices: ["C", "F"])
        """
        return f"{city} {unit}"

    schema = get_json_schema(weather)
    assert json.dumps(in_key_order(schema)) == json.dumps(schema)
