"""Damaged data files: each gives examples or messages, never another exception, and every row is accounted for."""

import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.data.layouts import read_examples
from neftune_cli.data.loading import load_data
from neftune_cli.data.rows import Table
from neftune_cli.data.selection import select
from neftune_cli.errors import Problems

ODD_VALUES: list[Any] = [
    None,
    "",
    " ",
    0,
    -1.5,
    10**30,
    True,
    [],
    {},
    ["a"],
    {"role": "user"},
    "\ud800",
    "<|end|>",
    "x" * 10_000,
    [[["deep"]]],
]
BATCH = 100
"""Files of one test."""


def rows_of(choose: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(12)]
    if choose.random() < 0.3:
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"Question {n}?"},
                    {"role": "assistant", "content": f"Answer {n}."},
                ]
            }
            for n in range(12)
        ]
    for _ in range(choose.choice([0, 0, 1, 3])):
        row = choose.choice(rows)
        row[choose.choice([*row, "system", "tools", "weight", "other"])] = choose.choice(ODD_VALUES)
    for _ in range(choose.choice([0, 0, 1])):
        rows.insert(choose.randrange(len(rows)), dict(choose.choice(rows)))
    return rows


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(errors="replace")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    texts = [{key: str(value).encode(errors="replace").decode() for key, value in row.items()} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts), stream)
    return stream.getvalue()


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a.jsonl": as_json_lines,
    "a.json": lambda rows: json.dumps(rows).encode(),
    "b.json": lambda rows: json.dumps({"train": rows[:8], "test": rows[8:]}).encode(),
    "a.csv": as_csv,
    "a.tsv": lambda rows: as_csv(rows, "\t"),
    "a.parquet": as_parquet,
    "a.jsonl.gz": lambda rows: gzip.compress(as_json_lines(rows)),
    "a.jsonl.zst": lambda rows: pyarrow.compress(as_json_lines(rows), "zstd", asbytes=True),
}


def damaged(content: bytes, choose: random.Random) -> bytes:
    for _ in range(choose.choice([0, 1, 1, 3])):
        place = choose.randrange(len(content) + 1)
        match choose.choice(["flip", "cut", "insert", "remove", "swap lines"]):
            case "flip":
                content = content[:place] + bytes([choose.randrange(256)]) + content[place + 1 :]
            case "cut":
                content = content[:place]
            case "insert":
                content = content[:place] + choose.randbytes(choose.randrange(1, 9)) + content[place:]
            case "remove":
                content = content[:place] + content[place + choose.randrange(1, 40) :]
            case "swap lines":
                lines = content.split(b"\n")
                choose.shuffle(lines)
                content = b"\n".join(lines)
        content = content or b"\n"
    return content


def check(file: Path, inputs: InputSpec) -> InstructionData | None:
    """Load a file. Check that each row is an example or a bad row, and each example used or counted."""
    problems = Problems()
    data = problems.attempt(lambda: load_data(inputs))
    if data is None:
        assert problems.found
        assert all(problem.what.strip() and problem.fix.strip() for problem in problems.found)
        return None
    parts = [part for part in (select(inputs).training, select(inputs).held_out) if part is not None]
    readings = [read_examples(Table(part.name, part.rows.rows), inputs) for part in parts if part.rows.rows]
    read = sum(len(reading.examples) + len(reading.bad_rows) for reading in readings)
    assert read + sum(len(part.rows.bad_rows) for part in parts) == sum(part.rows.count for part in parts)
    used = len(data.train) + len(data.held_out)
    examples = sum(len(reading.examples) for reading in readings)
    assert used + sum(map(left_out, data.notes)) == examples, data.notes
    return data


def left_out(note: str) -> int:
    """Return the number of examples that a note says are not used."""
    found = re.match(r"([\d,]+) (?:held-out )?examples? (?:dropped as duplicates|not used|left out)", note)
    return int(found[1].replace(",", "")) if found else 0


def load_damaged(folder: Path, seed: int) -> InstructionData | None:
    choose = random.Random(seed)
    name = choose.choice(list(FORMS))
    file = folder / name
    file.write_bytes(damaged(FORMS[name](rows_of(choose)), choose))
    skips = choose.random() < 0.5
    inputs = InputSpec(dataset=str(file), skip_bad_rows=skips, max_bad_share=0.9, raw=choose.random() < 0.2)
    return check(file, inputs)


def test_some_damaged_files(tmp_path: Path) -> None:
    loaded = [load_damaged(tmp_path, seed) for seed in range(60)]
    assert 0 < sum(data is not None for data in loaded) < 60


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("batch", range(20))
def test_2000_damaged_files(tmp_path: Path, batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        load_damaged(tmp_path, seed)
