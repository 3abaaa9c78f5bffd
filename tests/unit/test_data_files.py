"""Reading rows: files of every format, compression and encoding, several files, folders, and a stubbed hub."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.csv_files import MISSING_CELLS
from neftune_cli.data.loading import load_data
from neftune_cli.data.rows import Located, RowValues
from neftune_cli.data.selection import select
from neftune_cli.data.sources import open_source
from neftune_cli.data.spellings import BARE_LIST
from neftune_cli.errors import UsageError

Row = dict[str, Any]
ROWS: list[Row] = [
    {"prompt": 'Say "hi", twice', "completion": "hi\nhi"},
    {"prompt": "Où ? \u2028", "completion": "Là"},
]
SUMS: list[Row] = [{"prompt": f"{number}+1?", "completion": str(number + 1)} for number in range(20)]


def rows_of(dataset: str | Path, **fields: Any) -> tuple[Located[RowValues], ...]:
    part = select(InputSpec(dataset=str(dataset), **fields)).training
    assert not part.rows.bad_rows
    return part.rows.rows


def values_of(dataset: str | Path, **fields: Any) -> list[Row]:
    return [dict(row.value) for row in rows_of(dataset, **fields)]


def places_of(dataset: str | Path) -> list[str]:
    return [row.place for row in rows_of(dataset)]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def json_lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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


# The same rows in every form have the same fingerprint.

NO_CHARACTER = "\u0a00"  # the sign of damage in UTF-16
CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=NO_CHARACTER)
PLAIN = st.text(CHARACTERS, min_size=1, max_size=20).filter(
    lambda text: text.strip() and text.lower() not in ("nan",) and not text.startswith("[")
)


def zstandard(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": zstandard,
    ".ZST": lambda content: b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + zstandard(content),
    ".GZ": gzip.compress,
}


def as_csv(rows: list[Row], delimiter: str) -> str:
    return str(pandas.DataFrame(rows).to_csv(index=False, sep=delimiter))


def as_parquet(rows: list[Row]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


TEXT_FORMS: dict[str, tuple[str, Callable[[list[Row]], str]]] = {
    "json lines": (".jsonl", json_lines),
    "ASCII json lines": (".ndjson", lambda rows: "\r\n".join(json.dumps(row) for row in rows)),
    "list": (".json", lambda rows: json.dumps(rows, indent=1, ensure_ascii=False)),
    "columns": (".json", lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]})),
    "csv": (".csv", lambda rows: as_csv(rows, ",")),
    "semicolons": (".csv", lambda rows: as_csv(rows, ";")),
    "tsv": (".tsv", lambda rows: as_csv(rows, "\t")),
}


@given(
    st.lists(st.tuples(PLAIN, PLAIN), min_size=8, max_size=12, unique_by=lambda pair: " ".join(pair[0].split())),
    st.sampled_from(list(TEXT_FORMS)),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "parquet"]),
    st.sampled_from(list(COMPRESSIONS)),
    st.booleans(),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_rows_have_the_same_fingerprint_in_every_form(
    tmp_path: Path, pairs: list[tuple[str, str]], form: str, encoding: str, compression: str, in_folder: bool
) -> None:
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    expected = load_data(InputSpec(dataset=str(written(tmp_path / "plain.jsonl", json_lines(rows)))))
    suffix, write = TEXT_FORMS[form]
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]] if in_folder else [rows]
    folder = tmp_path / "forms"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, half in enumerate(halves):
        content = as_parquet(half) if encoding == "parquet" else write(half).encode(encoding)
        name = f"part{number}{'.parquet' if encoding == 'parquet' else suffix}{compression}"
        (folder / name).write_bytes(COMPRESSIONS[compression](content))
    found = load_data(InputSpec(dataset=str(folder)))
    assert found.fingerprint == expected.fingerprint
    assert [example.id for example in found.train] == [example.id for example in expected.train]


@pytest.mark.parametrize("answer", [4, -1, 0, 10**30, 2.5, 1e-7])
def test_numbers_are_their_text_in_every_form(answer: float) -> None:
    rows = [{"question": f"{number}?", "answer": answer} for number in range(9)]
    written(Path("mine.jsonl"), json_lines(rows))
    pandas.DataFrame(rows).to_csv("mine.csv", index=False)
    forms = ["mine.jsonl", "mine.csv"]
    if answer != 10**30:
        Path("mine.parquet").write_bytes(as_parquet(rows))
        forms.append("mine.parquet")
    loaded = [load_data(InputSpec(dataset=form)) for form in forms]
    assert {data.fingerprint for data in loaded} == {loaded[0].fingerprint}
    assert {example.completion for example in loaded[0].train} == {str(answer)}


@pytest.mark.parametrize("number", ["12.50", "1e3", "-0.0", "100000000000000000000.0", "12345678901234567890.5"])
def test_a_number_of_json_is_its_text_as_it_is_written(number: str) -> None:
    objects = [f'{{"prompt": "{row}?", "completion": {number}}}' for row in range(9)]
    written(Path("mine.jsonl"), "\n".join(objects))
    written(Path("mine.json"), f"[{', '.join(objects)}]")
    written(Path("mine.csv"), "prompt,completion\n" + "".join(f"{row}?,{number}\n" for row in range(9)))
    loaded = [load_data(InputSpec(dataset=name)) for name in ("mine.csv", "mine.jsonl", "mine.json")]
    assert {example.completion for data in loaded for example in data.train} == {number}
    assert len({data.fingerprint for data in loaded}) == 1


def test_numbers_of_tool_calls_are_numbers() -> None:
    turns = '[{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": 12.50}}]}]'
    lines = "".join(
        f'{{"prompt": [{{"role": "user", "content": {row}.50}}], "completion": {turns}}}\n' for row in range(9)
    )
    example = load_data(InputSpec(dataset=str(written(Path("mine.jsonl"), lines)))).train[0]
    assert example.prompt[0]["content"].endswith(".50")
    assert '{"x": 12.5}' in json.dumps(example.turns)


@pytest.mark.parametrize("kind", [pyarrow.float16(), pyarrow.float32(), pyarrow.float64()])
def test_short_numbers_have_no_more_digits_than_in_a_csv_file(kind: pyarrow.DataType) -> None:
    """The text of the number in the table is the truth. Nested numbers are those of a tool call."""
    texts = ["0.1", "2.7", "3.3", "1.5", "-0.25", "1024.0", "0.001"]
    rows: Row = {"prompt": [f"{text}?" for text in texts], "completion": pyarrow.array(map(float, texts), kind)}
    parquet.write_table(pyarrow.table(rows), "mine.parquet")
    data = load_data(InputSpec(dataset="mine.parquet"))
    assert sorted(example.completion for example in (*data.train, *data.held_out)) == sorted(texts)
    nested = pyarrow.array([[{"size": 0.1}], [{"size": None}]], pyarrow.list_(pyarrow.struct([("size", kind)])))
    parquet.write_table(pyarrow.table({"prompt": nested}), "nested.parquet")
    assert values_of("nested.parquet") == [{"prompt": [{"size": 0.1}]}, {"prompt": [{"size": None}]}]


def test_columns_without_values_are_blank_in_every_form() -> None:
    rows = [{"prompt": f"{number}?", "completion": "x"} for number in range(9)]
    nothing: Row = {"images": [], "chat_template_kwargs": {"enable_thinking": None, "more": {"a": None}}, "tools": None}
    full = [{**row, **nothing} for row in rows]
    written(Path("mine.jsonl"), json_lines(full))
    Path("mine.parquet").write_bytes(as_parquet(full))
    with Path("mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(full[0]))
        writer.writeheader()
        writer.writerows({**row, "images": "[]", "chat_template_kwargs": "{}", "tools": "null"} for row in rows)
    as_text = [{**row, "images": "[]", "chat_template_kwargs": "{}", "tools": "null"} for row in rows]
    Path("text.parquet").write_bytes(as_parquet(as_text))
    expected = load_data(InputSpec(dataset=str(written(Path("plain.jsonl"), json_lines(rows)))))
    for form in ("mine.jsonl", "mine.parquet", "mine.csv", "text.parquet"):
        found = load_data(InputSpec(dataset=form))
        assert found.fingerprint == expected.fingerprint
        assert len(found.notes) == len(expected.notes)


# Several files, folders and the hub.


MISSING = ["NaN", "nan", "NA", "N/A", "None", "null", "NULL", "<NA>", "#N/A", "n/a", "-nan", "1.#QNAN"]
PRESENT = ["none", "Null", "na", "NAN", " NaN", "-", "[]", "{}", "inf"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_cells_of_optional_columns_are_missing_where_pandas_reads_them_so(suffix: str) -> None:
    full = [
        {"instruction": f"{cell}?", "input": cell, "system": "Be kind.", "output": "a"} for cell in [*MISSING, *PRESENT]
    ]
    written(Path(f"mine{suffix}"), as_csv(full, "," if suffix == ".csv" else "\t"))
    read = pandas.read_csv(f"mine{suffix}", sep=None, engine="python")
    read.to_json("mine.jsonl", orient="records", lines=True)
    assert read["input"].isna().tolist() == [cell in MISSING for cell in [*MISSING, *PRESENT]]
    of_cells, of_pandas = (load_data(InputSpec(dataset=name)) for name in (f"mine{suffix}", "mine.jsonl"))
    assert of_cells.fingerprint == of_pandas.fingerprint
    assert "Column 'input' has the cell 'NaN', which counts as missing: 1 row." in of_cells.notes


def test_missing_cells_are_those_of_the_installed_pandas() -> None:
    of_pandas = import_module("pandas._libs.parsers").STR_NA_VALUES
    assert of_pandas - {""} == MISSING_CELLS


def test_missing_cells_of_every_optional_column_and_of_columns_that_are_not_read() -> None:
    optional = ["input", "system", "history", "tools"]
    rows: list[Row] = [{"instruction": f"{number}?", "output": f"{number}!"} for number in range(9)]
    written(Path("mine.jsonl"), json_lines(rows))
    full = [{**row, **dict.fromkeys([*optional, "image", "label", "weight"], "None")} for row in rows]
    written(Path("mine.csv"), as_csv([{**full[0], "label": "True"}, *full[1:]], ","))
    data = load_data(InputSpec(dataset="mine.csv"))
    assert data.fingerprint == load_data(InputSpec(dataset="mine.jsonl")).fingerprint
    counted = [f"Column '{column}' has the cell 'None', which counts as missing: 9 rows." for column in optional]
    assert [note for note in data.notes if "missing" in note] == counted


def test_a_prompt_or_completion_is_text_whatever_pandas_reads() -> None:
    rows: list[Row] = [{"prompt": f"{number}?", "completion": "None"} for number in range(9)]
    written(Path("mine.csv"), as_csv([{"prompt": "NA", "completion": "Sodium"}, *rows], ","))
    written(Path("mine.jsonl"), json_lines([{"prompt": "NA", "completion": "Sodium"}, *rows]))
    data, lines = (load_data(InputSpec(dataset=name)) for name in ("mine.csv", "mine.jsonl"))
    assert data.fingerprint == lines.fingerprint
    assert {type(example.completion) for example in data.train} == {str}
    assert [note for note in data.notes if "missing" in note] == [
        "Column 'prompt' has the cell 'NA', which is text here, and missing for pandas and TRL: 1 row.",
        "Column 'completion' has the cell 'None', which is text here, and missing for pandas and TRL: 9 rows.",
    ]


@pytest.mark.parametrize("name", ["one.jsonl,two.csv", "one.jsonl, two.csv", "[ot]*.[jc]s*", "./one.jsonl,tw*"])
def test_several_files(name: str) -> None:
    written(Path("one.jsonl"), json_lines(ROWS[:1]))
    written(Path("two.csv"), as_csv(ROWS[1:], ","))
    written(Path("readme.txt"), "nothing")
    rows = rows_of(name)
    assert [dict(row.value) for row in rows] == ROWS
    assert [row.position for row in rows] == ["one.jsonl, line 1", "two.csv, line 2"]


def test_a_file_name_may_have_a_comma() -> None:
    assert values_of(written(Path("one,two[1].jsonl"), json_lines(ROWS))) == ROWS


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.jsonl", "test.jsonl"),
        ("mine_train.jsonl.gz", "mine-valid.jsonl"),
        ("data/train-00000-of-00001.jsonl", "data/validation-00000-of-00001.jsonl"),
        ("train/a.jsonl", "dev/a.jsonl"),
        ("train.jsonl", "held_out.jsonl"),
        ("x.training.ndjson", "x.eval.ndjson"),
    ],
)
def test_files_of_a_folder_are_splits_by_their_names(train: str, test: str) -> None:
    for name, numbers in ((train, range(20)), (test, range(20, 25))):
        text = json_lines([{"prompt": f"{number}?", "completion": "x"} for number in numbers])
        path = written(Path("set") / name, text)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    data = load_data(InputSpec(dataset="set"))
    assert {example.prompt[0]["content"] for example in data.held_out} == {f"{number}?" for number in range(20, 25)}
    assert len(data.train) == 20
    assert {example.place.partition(", ")[0] for example in data.held_out} == {f"set/{test}"}


def test_files_of_a_folder_that_are_not_read_are_named() -> None:
    for name in ("train.csv", "test.csv", "extra.csv"):
        written(
            Path("set") / name, as_csv([{"prompt": f"{name}{number}", "completion": "x"} for number in range(9)], ",")
        )
    written(Path("set/.hidden.csv"), "x")
    written(Path("set/dataset_infos.json"), "{}")
    notes = load_data(InputSpec(dataset="set")).notes
    assert notes[0] == ("Files that are not read, because their names are not those of a split: set/extra.csv.")


@pytest.mark.parametrize("name", ["set", "set/alpaca.jsonl,set/test.jsonl", "set/*.jsonl"])
def test_files_beside_a_test_split_are_not_left_out_in_favour_of_it(name: str) -> None:
    for file, first in (("alpaca", 0), ("test", 20)):
        rows = [{"prompt": f"{number}?", "completion": "x"} for number in range(first, first + 20)]
        written(Path(f"set/{file}.jsonl"), json_lines(rows))
    with pytest.raises(UsageError) as error:
        load_data(InputSpec(dataset=name))
    assert str(error.value) == (
        f"{name} has no training split (splits: test), but files whose names are not those of a split: "
        "set/alpaca.jsonl. Use --dataset for the files to train on, and --eval-dataset for the others. "
        "Or name the split to train on with --split."
    )
    trained = load_data(InputSpec(dataset=name, split="test")).train
    assert {example.place.partition(", ")[0] for example in trained} == {"set/test.jsonl"}
    apart = load_data(InputSpec(dataset="set/alpaca.jsonl", eval_dataset=name))
    assert {example.place.partition(", ")[0] for example in apart.held_out} == {"set/test.jsonl"}


def test_folders_that_other_programs_read_as_columns_are_named() -> None:
    columns: Row = {"lang": ["en", "de"] * 10, "split": ["train"] * 15 + ["test"] * 5}
    table = pandas.DataFrame({"prompt": [f"{n}?" for n in range(20)], "completion": ["x"] * 20, **columns})
    table.to_parquet("set", partition_cols=["lang", "split"])
    table[:15].drop(columns="split").to_parquet("a=b/one", partition_cols=["lang"])
    note = "Names of folders are not read as columns: lang=de, lang=en."
    data = load_data(InputSpec(dataset="set"))
    assert note in data.notes
    assert len(data.held_out) == 5  # the folders split=test are read
    for name in ("a=b/one", "a=b/one/*/*.parquet"):
        assert note in load_data(InputSpec(dataset=name)).notes
    (file,) = Path("a=b/one/lang=en").iterdir()
    assert "columns:" not in "".join(load_data(InputSpec(dataset=str(file))).notes[1:])


CARD = """---
license: mit
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: raw/part-*.jsonl
  - split: test
    path: raw/held.jsonl
- config_name: other
  data_files: other/*.jsonl
---
# Mine
"""


def test_clone_of_a_hub_data_set() -> None:
    written(Path("set/README.md"), CARD)
    for name, start in (("raw/part-1", 0), ("raw/part-2", 10), ("raw/held", 20), ("other/a", 30)):
        rows = [{"prompt": f"{number}?", "completion": "x"} for number in range(start, start + 10)]
        written(Path(f"set/{name}.jsonl"), json_lines(rows))
    data = load_data(InputSpec(dataset="set"))
    assert {example.prompt[0]["content"] for example in data.train} == {f"{number}?" for number in range(20)}
    assert {example.prompt[0]["content"] for example in data.held_out} == {f"{number}?" for number in range(20, 30)}
    assert "Files that set/README.md does not name, and that are not read: set/other/a.jsonl." in data.notes
    written(Path("set/README.md"), CARD.replace("  default: true\n", ""))
    with pytest.raises(UsageError, match="has several configurations: main, other"):
        load_data(InputSpec(dataset="set"))


def prompts(name: str, count: int = 4) -> str:
    return json_lines([{"prompt": f"{name}{number}?", "completion": "x"} for number in range(count)])


@pytest.mark.parametrize("dataset", ["set", "set/**/*.jsonl", "set/**", "**/s[e]t/**/*.jsonl"])
def test_folders_that_are_links_are_read_once(dataset: str) -> None:
    for name in ("set/a", "set/real/b", "other/deep/c", "outside"):
        written(Path(f"{name}.jsonl"), prompts(name))
    for link, target in (("latest", "real"), ("more", "../other"), ("self", "."), ("up", "..")):
        Path("set", link).symlink_to(target)
    Path("other/back").symlink_to("../set")
    Path("set/.hidden").symlink_to("..")
    read = {row.file for row in rows_of(dataset)}
    assert read == {"set/a.jsonl", "set/real/b.jsonl", "set/more/deep/c.jsonl"}


def test_a_folder_of_links_has_the_splits_of_their_names() -> None:
    for name in ("one", "two"):
        written(Path(f"{name}/x.jsonl"), prompts(name))
    Path("set").mkdir()
    Path("set/train").symlink_to("../one")
    Path("set/test").symlink_to("../two")
    assert {row.file for row in rows_of("set")} == {"set/train/x.jsonl"}
    assert {row.file for row in rows_of("set", split="test")} == {"set/test/x.jsonl"}


@pytest.mark.parametrize(
    ("data_files", "message"),
    [
        ("[a.jsonl, b.txt]", "set/b.txt: files with the suffix '.txt' are not supported."),
        ("b.txt", "set/b.txt: files with the suffix '.txt' are not supported."),
        ("'*.txt'", "set/README.md names only files of other formats: *.txt. Pass the names of .json"),
        ("[a.jsonl, gone.jsonl]", "set/README.md names files that the folder does not have: gone.jsonl."),
    ],
)
def test_files_of_other_formats_that_a_card_names_are_refused(data_files: str, message: str) -> None:
    written(Path("set/README.md"), f"---\nconfigs:\n- config_name: default\n  data_files: {data_files}\n---\n")
    for name in ("a.jsonl", "b.txt"):
        written(Path("set", name), prompts(name))
    with pytest.raises(UsageError) as error:
        load_data(InputSpec(dataset="set"))
    assert message in str(error.value)


@pytest.mark.parametrize("card", ["", "---\nconfigs:\n- config_name: default\n  data_files: 'a.*'\n---\n"])
def test_files_of_other_formats_in_a_folder_are_named(card: str) -> None:
    written(Path("set/README.md"), card)
    written(Path("set/a.jsonl"), prompts("a", 9))
    others = ["a.TXT", "a.jsonl.lz4", "b.tar.gz", "c.txt.gz", "d.gz", "e.pq", "f.jsonlines", "g.feather"]
    for name in [*others, "NOTES", "plot.png"]:
        written(Path("set", name), prompts(name))
    named = ", ".join(f"set/{name}" for name in others[:5])
    note = f"Files of set that are not read, because of their format: {named} and 3 more."
    assert note in load_data(InputSpec(dataset="set")).notes


@pytest.mark.parametrize(
    "dataset", ["set", "set/train*", "set/train-00000-of-00003.jsonl,set/train-00002-of-00003.jsonl"]
)
def test_missing_files_of_several_that_belong_together_are_named(dataset: str) -> None:
    for number in (0, 2):
        written(Path(f"set/train-{number:05}-of-00003.jsonl"), prompts(str(number), 9))
    note = "Some of the files that belong together are missing: set/train-*-of-00003.jsonl (2 of 3)."
    assert note in load_data(InputSpec(dataset=dataset)).notes
    written(Path("set/train-00001-of-00003.jsonl"), prompts("1", 9))
    assert "missing" not in "".join(load_data(InputSpec(dataset="set")).notes)


@pytest.mark.parametrize("setting", ["skiprows: 3", "column_names: [prompt, completion]", "field: rows"])
def test_cards_with_settings_that_change_the_rows_are_refused(setting: str) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files: a.jsonl\n  {}\n---\n"
    written(Path("set/a.jsonl"), prompts("a", 9))
    written(Path("set/README.md"), card.format(setting))
    with pytest.raises(UsageError, match=rf"set/README\.md has the setting {setting.partition(':')[0]}, which is not"):
        load_data(InputSpec(dataset="set"))
    written(Path("set/README.md"), card.format("sep: ';'"))
    assert len(rows_of("set")) == 9


def test_a_saved_split_without_rows_is_named() -> None:
    from datasets import DatasetDict

    rows: dict[str, list[str]] = {"train": ["Because."], "test": []}
    DatasetDict({split: Dataset.from_dict({"text": texts}) for split, texts in rows.items()}).save_to_disk("saved")
    with pytest.raises(UsageError) as error:
        open_source("saved")
    assert str(error.value) == (
        "The data set in saved cannot be read: the datasets library cannot open a split without rows. "
        "Save it again without this split."
    )


def test_folders_written_by_save_to_disk() -> None:
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list(ROWS)
    reversed_rows = saved.select([1, 0])
    saved.save_to_disk("plain")
    DatasetDict(train=saved, test=reversed_rows).save_to_disk("both")
    DatasetDict(test=reversed_rows).save_to_disk("only")
    assert values_of("plain") == values_of("both") == ROWS
    assert values_of("only") == values_of("both", split="test") == ROWS[::-1]
    assert [row.position for row in rows_of("both")] == ["both, split train, row 1", "both, split train, row 2"]


@pytest.mark.parametrize("name", ["squad", "tatsu-lab/alpaca", "teknium/OpenHermes-2.5"])
def test_hub_ids_are_loaded_from_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    loaded: list[str] = []

    def load_dataset(hub_id: str) -> Any:
        loaded.append(hub_id)
        return datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert values_of(name) == ROWS
    assert loaded == [name]


MISTYPED = ["mine.jsonl", "./mine", "../mine", "data/mine", "a/b/c", "notes.txt", "~/nothing", "a.csv,b.csv", "x*.csv"]


@pytest.mark.parametrize("name", [*MISTYPED, "mine.jsonl.gz", "mine.tsv", "~nobody-here/x", "x" * 300])
def test_mistyped_paths_never_go_to_the_hub(name: str) -> None:
    Path("data").mkdir()
    with pytest.raises(UsageError, match=r"There is no file or folder|No file matches|cannot be read"):
        open_source(name)


def test_reading_text_files_imports_no_heavy_library() -> None:
    written(Path("mine.jsonl"), json_lines([{"prompt": f"{number}", "completion": "x"} for number in range(9)]))
    code = (
        "import sys; from neftune_cli.config.spec import InputSpec; from neftune_cli.data.loading import load_data; "
        f"load_data(InputSpec(dataset={str(Path('mine.jsonl').resolve())!r})); print(*sys.modules)"
    )
    repository = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repository)
    assert not {"torch", "transformers", "datasets", "pandas", "pyarrow"} & set(ran.stdout.split())
