"""Golden messages for files that are damaged or truncated, or whose encoding or format is not the expected one."""

import gzip
from pathlib import Path

import pytest

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from tests.cli.data_messages import PAIR, message_of

pytestmark = pytest.mark.usefixtures("empty_working_directory")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("LATIN1", "Où est la bibliothèque ? Elle est près du théâtre."),
        ("LATIN1", "Größe und Höhe über alles, süße Grüße."),
        ("CP1252", "\u201cDon\u2019t,\u201d she said \u2013 it\u2019s €5\u2026"),
        ("CP1251", "Как дела? Всё хорошо, спасибо большое."),
        ("KOI8-R", "Как дела? Всё хорошо, спасибо большое."),
        ("GB18030", "你好、请问图书馆在哪里。图书馆在剧院旁边。"),
        ("BIG5", "你好、請問圖書館在哪裡。圖書館在劇院旁邊。"),
        ("SHIFT_JIS", "図書館はどこですか。劇場の近くにあります。"),
        ("EUC-JP", "図書館はどこですか。劇場の近くにあります。"),
        ("EUC-KR", "도서관이 어디에 있습니까? 극장 옆에 있습니다."),
        ("UTF-16LE", "Where is the library?"),
        ("UTF-16BE", "Where is the library?"),
        ("UTF-32LE", "Where is the library?"),
    ],
)
def test_advice_on_encodings(encoding: str, text: str) -> None:
    Path("mine.csv").write_bytes(f'prompt,completion\n"{text}",x\n'.encode(encoding))
    assert message_of("mine.csv").endswith(
        f"Convert the file to UTF-8, for example: iconv -f {encoding} -t UTF-8 mine.csv > utf8.csv"
    )


def test_a_few_rows_in_another_encoding() -> None:
    umlaut = PAIR.replace("y", "ü")
    Path("mine.jsonl").write_bytes((PAIR + umlaut).encode() + umlaut.encode("cp1252") * 2)
    assert message_of("mine.jsonl") == (
        "mine.jsonl, line 3, line 4: byte 0xfc is not valid UTF-8. "
        "Write it as UTF-8, as the other rows are, or remove the row."
    )


def test_rows_that_a_double_quote_joins_are_never_dropped() -> None:
    rows = [f"{number}?,{number}" for number in range(30)]
    rows[10] = '10?,"10'
    rows[14] = '"14"?,x,14'
    Path("mine.csv").write_text("\n".join(["prompt,completion", *rows]))
    assert message_of("mine.csv", skip_bad_rows=True, max_bad_share=0.9).startswith("mine.csv, line 12: invalid CSV")
    rows[14] = '14?",x,14'
    Path("mine.csv").write_text("\n".join(["prompt,completion", *rows]))
    assert message_of("mine.csv", skip_bad_rows=True, max_bad_share=0.9) == (
        "mine.csv, line 12: 4 values for 2 columns (prompt, completion): the row takes 5 lines, because of a double "
        "quote. "
        'Put text in double quotes and write "" for a quote inside it, or use the data as .jsonl.'
    )


def test_utf16_with_a_missing_byte() -> None:
    content = (PAIR * 9).encode("utf-16")
    Path("mine.jsonl").write_bytes(content[:111] + content[112:-1])
    assert message_of("mine.jsonl", skip_bad_rows=True, max_bad_share=0.9) == (
        "mine.jsonl, line 2: the UTF-16 text is damaged. A byte is missing, or there is one too many. "
        "Write the file again, as UTF-8."
    )


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("mine.parquet", LFS.encode(), "mine.parquet is a Git LFS pointer file, not the data. Run git lfs pull in ."),
        ("mine.csv", b"PK\x03\x04...", "mine.csv is a ZIP archive or an Excel workbook. Unpack it, or save"),
        ("mine.jsonl", b"\x00\x01\x02\x00\xff" * 9, "mine.jsonl is a binary file, not text. Use the data as"),
        ("mine.jsonl", b"PAR1...", "mine.jsonl is a Parquet file. Rename it to .parquet."),
        ("mine.jsonl.gz", b"{}", "mine.jsonl.gz is not compressed with gzip. Remove the suffix .gz, or download"),
        ("mine.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:20], "mine.jsonl.gz is truncated or damaged (gzip: "),
        ("mine.jsonl.zst", b"\x28\xb5\x2f\xfd...", "mine.jsonl.zst is truncated or damaged (zstandard: "),
        ("mine.jsonl.gz", gzip.compress(b"", mtime=0), "mine.jsonl.gz is empty. Add examples to it."),
        ("mine.parquet", b"PAR1 and nothing", "mine.parquet is truncated. Write it again, or use"),
        ("mine.parquet", b"PAR1 and nothing PAR1", "mine.parquet is damaged or not a valid Parquet file ("),
        ("mine.arrow", b"ARROW1 and nothing", "mine.arrow is damaged or not a valid Arrow file ("),
        (
            "mine.jsonl",
            "\ufeff{}".encode("utf-16-le") + b"x",
            "mine.jsonl starts with the byte order mark of UTF-16, but byte 7 is",
        ),
        (
            "mine.csv",
            b"prompt,completion,prompt,prompt\na,b,c,d\n",
            "mine.csv, line 1: the column name 'prompt' occurs 3 times (columns 1, 3, 4). Rename or remove the others.",
        ),
        (
            "mine.jsonl",
            b'{"prompt": "a", "completion": "b", "prompt": "c"}',
            "mine.jsonl, line 1: the key 'prompt' occurs twice in one object (columns 2 and 36). Rename or remove one",
        ),
        (
            "mine.json",
            b'[\n{"prompt": "a",\n"completion": "b",\n"prompt": "c"}]',
            "mine.json: the key 'prompt' occurs twice in one object (lines 2 and 4). Rename or remove one of them.",
        ),
        (
            "mine.jsonl",
            b'{"prompt": "a", "completion": "b",}',
            "mine.jsonl, line 1: invalid JSON at column 35 (comma before the closing bracket). The line starts with: {",
        ),
        (
            "mine.jsonl",
            b'{"prompt": "a", "completion": "b"},',
            "mine.jsonl, line 1: invalid JSON at column 35 (comma after the object). The line starts with: {",
        ),
        (
            "mine.jsonl",
            b'{"prompt": None}',
            "mine.jsonl, line 1: invalid JSON at column 12 (None is Python, JSON has null, true and false). The line",
        ),
        (
            "mine.jsonl",
            b'{"prompt": "\\ud800", "completion": "b"}',
            "mine.jsonl, line 1: column 'prompt' contains a lone surrogate, which is not valid Unicode. Delete",
        ),
        (
            "mine.jsonl",
            b'{"\\ud800": "a"}',
            "mine.jsonl, line 1: the column name '\\ufffd' contains a lone surrogate, which is not valid Unicode.",
        ),
        ("mine.jsonl", b'{"a": ' * 9_999, "mine.jsonl, line 1: the row is nested too deeply. Remove the row."),
        (
            "mine.json",
            b'[{"a": 1},\n' + b'{"a": ' * 9_999,
            "mine.json, line 2: the row is nested too deeply. Remove the row.",
        ),
        (
            "mine.json",
            b'{"columns": ["prompt", "completion", "prompt"], "data": [["a", "b", "c"]]}',
            "mine.json: the column name 'prompt' occurs 2 times (columns 1, 3). Rename or remove the others.",
        ),
        (
            "mine.json",
            b'{"columns": ["prompt", "completion"], "data": [["a", "b", "c"], ["d"]]}',
            "mine.json, row 1: 3 values for 2 columns (prompt, completion). Write one value for each column.",
        ),
        (
            "mine.json",
            b'{"data": [{"prompt": "a", "completion": "b"}], "test": [{"prompt": "c"}], "more": [1]}',
            "mine.json: the keys 'test' and 'more' have values beside the rows in 'data'. Use the names of splits for "
            'all lists, such as {"train": [...], "test": [...]}, or remove the others.',
        ),
        (
            "mine.json",
            b'{"train": [{"prompt": "a", "completion": "b"}], "test": "t.jsonl", "dev": {"path": "v.json"}}',
            "mine.json: the key 'test' is the name of a split, but contains text, not rows. Write a list of objects, "
            "or remove the key.\nmine.json: the key 'dev' is the name of a split, but contains an object, not rows.",
        ),
        (
            "mine.json",
            b'{"prompt": ["a", "b"], "completion": ["c"]}',
            "mine.json: the columns have different numbers of values (prompt: 2, completion: 1). Write [{",
        ),
        (
            "mine.csv",
            b'prompt,completion\n"He said "hi"",b\nc,d,e\n',
            "mine.csv, line 2: invalid CSV (',' expected after '\"'). Put text in double quotes and write",
        ),
    ],
)
def test_start_of_the_message_on_a_damaged_file(file: str, content: bytes, message: str) -> None:
    Path(file).write_bytes(content)
    found = message_of(file)
    assert found.startswith(message)
    assert "\x00" not in found
    assert found.isprintable() or "\n" in found


def test_duplicate_columns_of_a_parquet_file() -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["prompt", "prompt"])
    parquet.write_table(table, "mine.parquet")
    assert message_of("mine.parquet") == (
        "mine.parquet: the column name 'prompt' occurs 2 times (columns 1, 2). Rename or remove the others."
    )


def test_arrow_file_with_values_outside_its_buffers() -> None:
    import pyarrow
    from pyarrow import ipc

    table = pyarrow.table({"prompt": [str(number) * 9 for number in range(20)], "completion": ["x"] * 20})
    with ipc.new_stream("mine.arrow", table.schema) as writer:
        writer.write_table(table)
    offsets = table["prompt"].chunk(0).buffers()[1].to_pybytes()
    content = Path("mine.arrow").read_bytes()
    assert content.count(offsets) == 1
    damaged = offsets[:8] + (2**31 - 1).to_bytes(4, "little") + offsets[12:]
    Path("mine.arrow").write_bytes(content.replace(offsets, damaged))
    assert message_of("mine.arrow").startswith("mine.arrow: column 'prompt' is damaged (")


def test_arrow_streams_without_their_end() -> None:
    import pyarrow
    from pyarrow import ipc

    table = pyarrow.table({"prompt": [str(number) * 9 for number in range(20)], "completion": ["x"] * 20})
    with ipc.new_stream("whole.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    content = Path("whole.arrow").read_bytes()
    Path("mine.arrow").write_bytes(content[:-8])
    assert message_of("mine.arrow") == (
        "mine.arrow does not end with Arrow's end-of-stream marker, so its last rows may be missing. "
        "Write it again, or use the data as .jsonl or .csv."
    )
    Path("mine.arrow").write_bytes(content + b"more")
    assert message_of("mine.arrow").startswith("mine.arrow is damaged or not a valid Arrow file (")


@pytest.mark.parametrize(("name", "kind"), [("mine.arrow", "Arrow"), ("mine.parquet", "Parquet")])
def test_files_one_after_the_other(name: str, kind: str) -> None:
    import pyarrow
    from pyarrow import ipc, parquet

    for text in ("q", "r"):
        table = pyarrow.table({"prompt": [f"{text}{number}" for number in range(20)], "completion": ["x"] * 20})
        if kind == "Arrow":
            with ipc.new_file(name, table.schema) as writer:
                writer.write_table(table)
        else:
            parquet.write_table(table, name)
        with Path("all").open("ab") as joined:
            joined.write(Path(name).read_bytes())
    Path("all").replace(name)
    assert message_of(name) == (
        f"{name} has several {kind} files one after the other, of which only one can be read. "
        "Pass the original files instead, separated by commas."
    )


def test_a_value_with_the_marks_of_two_files_is_text() -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"prompt": [f"PAR1PAR1 {number}" for number in range(20)], "completion": ["x"] * 20})
    parquet.write_table(table, "mine.parquet", compression="none")
    assert b"PAR1PAR1" in Path("mine.parquet").read_bytes()
    assert len(load_data(InputSpec(dataset="mine.parquet")).train) == 16


@pytest.mark.parametrize("second", ["prompt,completion", '\ufeff"prompt","completion"', "Prompt, Completion"])
def test_column_names_of_joined_csv_files_are_no_example(second: str) -> None:
    rows = [f"q{number},a{number}" for number in range(20)]
    Path("mine.csv").write_text("\n".join(["prompt,completion", *rows[:10], second, *rows[10:]]), encoding="utf-8")
    assert message_of("mine.csv") == (
        "mine.csv, line 12: the row has the column names, as in a second file that was joined to the first. "
        "Remove the line. --skip-bad-rows leaves out bad rows."
    )
    data = load_data(InputSpec(dataset="mine.csv", skip_bad_rows=True))
    assert {example.completion for example in (*data.train, *data.held_out)} == {f"a{number}" for number in range(20)}


def test_joined_csv_files_with_another_order_of_columns() -> None:
    Path("mine.csv").write_text("prompt,completion\nq,a\ncompletion,prompt\nb,r\n")
    assert message_of("mine.csv", skip_bad_rows=True) == (
        "mine.csv, line 3: the row has the column names in another order, as in a second file that was joined to the "
        "first. Pass the original files instead, separated by commas."
    )


@pytest.mark.parametrize(
    ("columns", "row"),
    [(["text"], ["text"]), (["prompt", "completion"], ["prompt", "prompt"]), (["text", "id"], ["text", "3"])],
)
def test_column_names_in_a_row_with_other_values_are_text(columns: list[str], row: list[str]) -> None:
    lines = [columns, *([f"x{number}"] * len(columns) for number in range(20)), row]
    Path("mine.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    data = load_data(InputSpec(dataset="mine.csv"))
    assert row[0] in {
        example.raw_prompt or example.turns[0]["content"] if example.has_prompt else example.completion
        for example in (*data.train, *data.held_out)
    }
