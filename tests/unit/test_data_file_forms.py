"""The same rows in every form of a file: one fingerprint, equal numbers, and equal missing values."""

import csv
import gzip
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.csv_files import MISSING_CELLS
from neftune_cli.data.loading import load_data
from tests.data_files import Row, as_csv, json_lines, values_of, written

pytestmark = pytest.mark.usefixtures("empty_working_directory")


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


# Cells of CSV files that pandas reads as missing values.

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
