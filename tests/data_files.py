"""Files of rows for tests: write them, and read the rows of a data set."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.rows import Located, RowValues
from neftune_cli.data.selection import select

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


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: list[Row], delimiter: str) -> str:
    return str(pandas.DataFrame(rows).to_csv(index=False, sep=delimiter))
