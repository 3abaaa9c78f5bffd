"""Reading rows of one file: JSON, CSV, Arrow and Parquet, in any encoding."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from datasets import Dataset
from pyarrow import ipc, parquet

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from neftune_cli.data.spellings import BARE_LIST
from neftune_cli.errors import UsageError
from tests.data_files import ROWS, SUMS, Row, json_lines, places_of, rows_of, values_of, written

pytestmark = pytest.mark.usefixtures("empty_working_directory")


def test_json_lines(tmp_path: Path) -> None:
    lines = "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    path = written(tmp_path / "mine.jsonl", lines, "utf-8-sig")
    assert values_of(path) == ROWS
    assert places_of(path) == ["line 1", "line 3"]


@pytest.mark.parametrize("suffix", [".ndjson", ".json", ".JSONL"])
def test_other_suffixes_of_json_lines(suffix: str, tmp_path: Path) -> None:
    assert values_of(written(tmp_path / f"mine{suffix}", json_lines(ROWS))) == ROWS


@pytest.mark.parametrize("document", [ROWS, {"version": 1, "data": ROWS}, {"train": ROWS, "test": ROWS[:1]}])
def test_json(tmp_path: Path, document: object) -> None:
    path = written(tmp_path / "mine.json", json.dumps(document, indent=2))
    assert values_of(path) == ROWS
    assert [place.split()[-1] for place in places_of(path)] == ["1", "2"]


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
def test_json_written_by_pandas(tmp_path: Path, orient: Any) -> None:
    path = tmp_path / "mine.json"
    pandas.DataFrame(ROWS).to_json(path, orient=orient)
    assert [{name: row[name] for name in ROWS[0]} for row in values_of(path)] == ROWS


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        (
            {"version": 1, "data": SUMS, "license": None, "tags": ["a"]},
            "Keys of mine.json that are not read: version, tags",
        ),
        ({"train": SUMS[4:], "test": SUMS[:4], "info": {"by": {"me": 1}}}, "Keys of mine.json that are not read: info"),
        ({"train": SUMS, "test": None, "extra": {"prompt": ["z"]}}, "Keys of mine.json that are not read: extra"),
    ],
)
def test_keys_of_json_that_are_not_read_are_named(tmp_path: Path, document: object, keys: str) -> None:
    written(tmp_path / "mine.json", json.dumps(document))
    assert f"{keys}." in load_data(InputSpec(dataset="mine.json")).notes


@pytest.mark.parametrize("orient", ["split", "table"])
def test_keys_that_pandas_writes_are_not_named(tmp_path: Path, orient: Any) -> None:
    pandas.DataFrame(SUMS).to_json(tmp_path / "mine.json", orient=orient)
    assert not any("Keys" in note for note in load_data(InputSpec(dataset="mine.json")).notes)


def test_json_with_a_list_for_each_column(tmp_path: Path) -> None:
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    assert values_of(written(tmp_path / "mine.json", json.dumps(columns))) == ROWS
    with_data = {**columns, "data": [1, 2]}
    assert values_of(written(tmp_path / "data.json", json.dumps(with_data))) == [
        {**row, "data": number} for number, row in enumerate(ROWS, start=1)
    ]
    assert values_of(written(tmp_path / "splits.json", json.dumps({"train": columns, "test": columns}))) == ROWS


def test_json_lists_of_turns(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]
    expected = [{BARE_LIST: turns}] * 2
    assert values_of(written(tmp_path / "mine.json", json.dumps([turns] * 2))) == expected
    assert values_of(written(tmp_path / "mine.jsonl", f"{json.dumps(turns)}\n" * 2)) == expected


def test_json_with_large_and_special_numbers(tmp_path: Path) -> None:
    line = f'{{"prompt": "a", "id": {"9" * 5000}, "score": NaN, "other": 1e999}}'
    (row,) = values_of(written(tmp_path / "mine.jsonl", line))
    assert str(row["id"]) == "9" * 5000
    assert row["other"] == float("inf")


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_of_many_digits_is_its_text(digits: int) -> None:
    number = "7" * digits
    lines = "".join(f'{{"prompt": "{row}?", "completion": {number}}}\n' for row in range(9))
    data = load_data(InputSpec(dataset=str(written(Path("mine.jsonl"), lines))))
    assert {example.completion for example in data.train} == {number}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_written_by_pandas(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "mine.CSV"
    pandas.DataFrame(ROWS).to_csv(path, index=False, sep=delimiter)
    assert values_of(path) == ROWS
    assert places_of(path) == ["line 2", "line 4"]  # the first row's completion has a line break


def test_csv_with_a_column_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pandas.DataFrame(ROWS).to_csv(path)  # with row numbers
    assert values_of(path) == [{"column 1": str(number), **row} for number, row in enumerate(ROWS)]


def test_csv_of_excel_with_a_line_for_the_delimiter(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.csv", "sep=;\r\nprompt;completion\r\na, b;c\r\n", "utf-16")
    assert values_of(path) == [{"prompt": "a, b", "completion": "c"}]
    assert places_of(path) == ["line 3"]


def test_csv_with_spaces_before_quotes(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.csv", 'prompt, completion\n"Say ""a, b""", "a, b"\nq, "say ""c"""\nr, d\n')
    expected = [('Say "a, b"', "a, b"), ("q", 'say "c"'), ("r", "d")]
    assert [tuple(row.values()) for row in values_of(path)] == expected


def test_spaces_that_are_removed_are_named() -> None:
    rows = [f'q{number}, "a, {number}"\n' for number in range(9)]
    written(Path("mine.csv"), "prompt,completion\n" + "".join([*rows, "q, yes\n"]))
    note = "Spaces after the delimiters of mine.csv are removed, because quoted cells follow such spaces."
    assert note in load_data(InputSpec(dataset="mine.csv")).notes


@pytest.mark.parametrize("cell", [' "a" is a letter', '"x, ""a"" y"', '"\n ""a"" y"', '"a, "', " b"])
def test_other_spaces_in_csv_remain(tmp_path: Path, cell: str) -> None:
    text = f"prompt,completion\nq, 1\nr,{cell}\n"
    (_, *expected) = csv.reader(text.splitlines(keepends=True))
    path = written(tmp_path / "mine.csv", text)
    assert [list(row.values()) for row in values_of(path)] == expected


def test_json_lines_that_end_with_a_carriage_return(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.jsonl", json_lines(ROWS).replace("\n", "\r"))
    assert values_of(path) == ROWS
    assert places_of(path) == ["line 1", "line 2"]


@pytest.mark.parametrize(("character", "name"), [("\x1e", "U+001E"), ("\xa0", "U+00A0")])
def test_an_invisible_character_before_json_is_named(tmp_path: Path, character: str, name: str) -> None:
    lines = "".join(f"{character}{line}\n" for line in json_lines(ROWS).splitlines())
    with pytest.raises(UsageError) as error:
        load_data(InputSpec(dataset=str(written(tmp_path / "mine.jsonl", lines))))
    assert f"invalid JSON (unexpected character {name})" in str(error.value)
    assert 'The line starts with: \ufffd{"prompt"' in str(error.value)


def test_tab_separated_file_with_one_column(tmp_path: Path) -> None:
    assert values_of(written(tmp_path / "mine.tsv", "text\na, b; c\n")) == [{"text": "a, b; c"}]


def test_tab_separated_file_with_commas_in_a_name_and_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    pandas.DataFrame([{"prompt, short": "a"}]).to_csv(path, sep="\t")
    assert values_of(path) == [{"column 1": "0", "prompt, short": "a"}]


def test_csv_with_carriage_returns_between_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.csv", "prompt;completion\ra, b, c;d\re, f, g;h\r")
    assert values_of(path) == [{"prompt": "a, b, c", "completion": "d"}, {"prompt": "e, f, g", "completion": "h"}]


def test_csv_with_cells_of_any_size(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    cell = "x" * 300_000
    path = written(tmp_path / "mine.csv", f"prompt,completion\n{cell},b\n")
    assert values_of(path) == [{"prompt": cell, "completion": "b"}]
    assert csv.field_size_limit() == limit


def test_parquet_written_by_pandas(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pandas.DataFrame(ROWS).to_parquet(path)
    assert values_of(path) == ROWS
    assert places_of(path) == ["row 1", "row 2"]


@pytest.mark.parametrize("open_writer", [ipc.new_file, ipc.new_stream])
def test_arrow_files(tmp_path: Path, open_writer: Callable[..., Any]) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with open_writer(tmp_path / "mine.arrow", table.schema) as writer:
        writer.write_table(table)
    assert values_of(tmp_path / "mine.arrow") == ROWS


def test_all_streams_of_an_arrow_file_are_read(tmp_path: Path) -> None:
    streams = []
    for row in ROWS:
        sink = pyarrow.BufferOutputStream()
        table = pyarrow.Table.from_pylist([row])
        table = table.set_column(0, "prompt", table["prompt"].dictionary_encode())  # each stream has its own dictionary
        with ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        streams.append(sink.getvalue().to_pybytes())
    path = tmp_path / "mine.arrow"
    path.write_bytes(b"".join(streams))
    assert values_of(path) == ROWS
    assert places_of(path) == ["row 1", "row 2"]


@pytest.mark.parametrize("is_legacy", [False, True])
def test_streams_of_any_version_of_arrow_are_read(tmp_path: Path, is_legacy: bool) -> None:
    options = ipc.IpcWriteOptions(use_legacy_format=is_legacy)
    table = pyarrow.Table.from_pylist(ROWS)
    with ipc.new_stream(tmp_path / "mine.arrow", table.schema, options=options) as writer:
        writer.write_table(table)
    assert values_of(tmp_path / "mine.arrow") == ROWS


def unreadable_columns() -> dict[str, pyarrow.Array]:
    """Return columns that Python cannot represent."""
    offsets, bytes_of_text = pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")
    return {
        "far": pyarrow.array([10**12, None], pyarrow.timestamp("s")),
        "bad": pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, offsets, bytes_of_text]),
    }


def test_columns_that_are_not_read_are_not_converted(tmp_path: Path) -> None:
    table = pyarrow.table({**{name: [row[name] for row in ROWS] for name in ROWS[0]}, **unreadable_columns()})
    parquet.write_table(table, tmp_path / "mine.parquet")
    rows = rows_of(tmp_path / "mine.parquet")
    assert [{name: row.value[name] for name in ROWS[0]} for row in rows] == ROWS
    data = pyarrow.concat_tables([table.set_column(0, "prompt", pyarrow.array([f"{n}?", f"{n}!"])) for n in range(4)])
    parquet.write_table(data, tmp_path / "more.parquet")
    notes = load_data(InputSpec(dataset=str(tmp_path / "more.parquet"))).notes
    assert "Columns that are not read in this layout: 'far' (4 rows), 'bad' (8 rows)." in notes


def test_unreadable_values_of_a_column_that_is_read_are_named(tmp_path: Path) -> None:
    bad = unreadable_columns()["bad"]
    parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": bad}), tmp_path / "mine.parquet")
    with pytest.raises(UsageError, match="row 1, row 2: column 'completion' is not valid UTF-8"):
        load_data(InputSpec(dataset=str(tmp_path / "mine.parquet")))


def test_binary_columns_of_parquet_are_text(tmp_path: Path) -> None:
    table = pyarrow.table({name: [row[name].encode() for row in ROWS] for name in ROWS[0]})
    parquet.write_table(table, tmp_path / "mine.parquet")
    assert values_of(tmp_path / "mine.parquet") == ROWS


def conversation_in_parts(number: int) -> Row:
    """Return a row whose values of one key have several types, so that the datasets library stores them as JSON."""
    asked = {"role": "user", "content": f'Say "{number}".'}
    answered = {"role": "assistant", "content": [{"type": "text", "text": f'"{number}"'}]}
    return {"messages": [asked, answered], "score": "" if number % 2 else {"a": None}}


def conversation_with_tools(number: int) -> Row:
    call = {"function": {"name": "look", "arguments": {f"key {number}": number}}}
    turns = [{"role": "user", "content": str(number)}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    return {"prompt": turns[:1], "completion": turns[1:]}


@pytest.mark.parametrize("make_row", [conversation_in_parts, conversation_with_tools])
@pytest.mark.parametrize("form", ["mine.parquet", "saved"])
def test_json_of_the_datasets_library_is_its_value(make_row: Callable[[int], Row], form: str) -> None:
    rows = [make_row(number) for number in range(9)]
    dataset = Dataset.from_list(rows, on_mixed_types="use_json")
    assert "Json" in str(dataset.features)
    dataset.save_to_disk("saved") if form == "saved" else dataset.to_parquet(form)
    expected = load_data(InputSpec(dataset=str(written(Path("mine.jsonl"), json_lines(rows)))))
    found = load_data(InputSpec(dataset=form))
    assert found.train[0].turns == expected.train[0].turns
    assert found.fingerprint == expected.fingerprint
    assert len(found.notes) == len(expected.notes)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[{]", "column 'completion' has a value that cannot be read"),
        ('{"a": 1, "a": 2}', "column 'completion': the key 'a' occurs twice in one object"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_damaged_json_of_the_datasets_library_is_a_bad_row(text: str, what: str) -> None:
    values = pyarrow.ExtensionArray.from_storage(pyarrow.json_(), pyarrow.array(['"x"', text]))
    parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": values}), "mine.parquet")
    with pytest.raises(UsageError, match=rf"mine\.parquet, row 2: .*{what}"):
        load_data(InputSpec(dataset="mine.parquet"))


def test_dictionaries_inside_lists_of_several_row_groups_are_read() -> None:
    role = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    turns = [[{"content": f"{number}?", "role": "user"}, {"content": "x", "role": "assistant"}] for number in range(10)]
    kind = pyarrow.list_(pyarrow.struct([("content", pyarrow.string()), ("role", role)]), 2)
    parquet.write_table(pyarrow.table({"messages": pyarrow.array(turns, kind)}), "mine.parquet", row_group_size=3)
    assert [row["messages"] for row in values_of("mine.parquet")] == turns


def test_a_message_lists_some_of_many_columns() -> None:
    document = {f"q_{number}": {"instruction": "a", "output": "b"} for number in range(5000)}
    written(Path("mine.json"), json.dumps(document))
    with pytest.raises(UsageError) as error:
        load_data(InputSpec(dataset="mine.json"))
    assert "match no supported layout: q_0, q_1, q_2," in str(error.value)
    assert "q_29 and 4970 more." in str(error.value)
