"""Reading rows: every file format, saved folders and a stubbed hub give the same rows."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from neftune_cli.data.loading import read_rows
from neftune_cli.data.rows import Table
from neftune_cli.errors import UsageError

ROWS: list[dict[str, Any]] = [
    {"prompt": 'Say "hi", twice', "completion": "hi\nhi"},
    {"prompt": "Où ? \u2028", "completion": "Là"},
]


def values_of(table: Table) -> list[dict[str, object]]:
    return [dict(row.value) for row in table.rows]


def places_of(table: Table) -> list[str]:
    return [row.place for row in table.rows]


def written(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def test_json_lines(tmp_path: Path) -> None:
    lines = "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    table = read_rows(written(tmp_path / "mine.jsonl", lines, "utf-8-sig"))
    assert values_of(table) == ROWS
    assert places_of(table) == ["line 1", "line 3"]


@pytest.mark.parametrize("document", [ROWS, {"version": 1, "data": ROWS}])
def test_json(tmp_path: Path, document: object) -> None:
    table = read_rows(written(tmp_path / "mine.json", json.dumps(document, indent=2)))
    assert values_of(table) == ROWS
    assert places_of(table) == ["row 1", "row 2"]


def test_json_lines_in_a_json_file(tmp_path: Path) -> None:
    table = read_rows(written(tmp_path / "mine.json", "\n".join(json.dumps(row) for row in ROWS)))
    assert values_of(table) == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_written_by_pandas(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "mine.CSV"
    pandas.DataFrame(ROWS).to_csv(path, index=False, sep=delimiter)
    table = read_rows(str(path))
    assert values_of(table) == ROWS
    assert places_of(table) == ["line 2", "line 4"]  # the first row's completion has a line break


def test_parquet_written_by_pandas(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pandas.DataFrame(ROWS).to_parquet(path)
    table = read_rows(str(path))
    assert values_of(table) == ROWS
    assert places_of(table) == ["row 1", "row 2"]


def test_folders_written_by_save_to_disk(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list(ROWS)
    reversed_rows = saved.select([1, 0])
    saved.save_to_disk(tmp_path / "plain")
    DatasetDict(train=saved, test=reversed_rows).save_to_disk(tmp_path / "both")
    DatasetDict(test=reversed_rows).save_to_disk(tmp_path / "only")
    assert values_of(read_rows(str(tmp_path / "plain"))) == ROWS
    assert values_of(read_rows(str(tmp_path / "both"))) == ROWS
    assert values_of(read_rows(str(tmp_path / "only"))) == ROWS[::-1]


@pytest.mark.parametrize("name", ["squad", "tatsu-lab/alpaca", "teknium/OpenHermes-2.5"])
def test_hub_ids_are_loaded_from_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.chdir(tmp_path)
    loaded: list[str] = []

    def load_dataset(hub_id: str) -> Any:
        loaded.append(hub_id)
        return datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert values_of(read_rows(name)) == ROWS
    assert loaded == [name]


@pytest.mark.parametrize("name", ["mine.jsonl", "./mine", "../mine", "data/mine", "a/b/c", "notes.txt", "~/nothing"])
def test_mistyped_paths_never_go_to_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="There is no file or folder"):
        read_rows(name)
