"""Reading several files: lists and patterns, folders, saved data sets, cards, and a stubbed hub."""

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from datasets import Dataset, DatasetDict

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from neftune_cli.data.sources import open_source
from neftune_cli.errors import UsageError
from tests.data_files import ROWS, Row, as_csv, json_lines, rows_of, values_of, written

pytestmark = pytest.mark.usefixtures("empty_working_directory")


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
        ("'*.txt'", "set/README.md names files in formats that are not read: *.txt. Pass the names of .json"),
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
    note = "Some of the files that belong together are missing: set/train-*-of-00003.jsonl (2 of 3 found)."
    assert note in load_data(InputSpec(dataset=dataset)).notes
    written(Path("set/train-00001-of-00003.jsonl"), prompts("1", 9))
    assert "missing" not in "".join(load_data(InputSpec(dataset="set")).notes)


def test_files_that_belong_together_may_each_have_a_hash() -> None:
    """`push_to_hub` of the datasets library before version 2.14 wrote such names."""
    for number, tag in enumerate(("a3ecf92756993583", "0a1804bcb6ae68c6")):
        written(Path(f"set/data/train-{number:05}-of-00003-{tag}.jsonl"), prompts(str(number), 9))
    written(Path("set/data/train-00000-of-00003-ffffffffffffffff.jsonl"), prompts("other", 9))
    note = "Some of the files that belong together are missing: set/data/train-*-of-00003-*.jsonl (2 of 3"
    assert note in "".join(load_data(InputSpec(dataset="set")).notes)
    written(Path("set/data/train-00002-of-00003-ee42120492dce0a3.jsonl"), prompts("2", 9))
    assert "missing" not in "".join(load_data(InputSpec(dataset="set")).notes)


@pytest.mark.parametrize("setting", ["skiprows: 3", "column_names: [prompt, completion]", "field: rows"])
def test_cards_with_settings_that_change_the_rows_are_refused(setting: str) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files: a.jsonl\n  {}\n---\n"
    written(Path("set/a.jsonl"), prompts("a", 9))
    written(Path("set/README.md"), card.format(setting))
    with pytest.raises(UsageError, match=rf"set/README\.md sets {setting.partition(':')[0]}, which would change"):
        load_data(InputSpec(dataset="set"))
    written(Path("set/README.md"), card.format("sep: ';'"))
    assert len(rows_of("set")) == 9


def test_a_saved_split_without_rows_is_named() -> None:
    rows: dict[str, list[str]] = {"train": ["Because."], "test": []}
    DatasetDict({split: Dataset.from_dict({"text": texts}) for split, texts in rows.items()}).save_to_disk("saved")
    with pytest.raises(UsageError) as error:
        open_source("saved")
    assert str(error.value) == (
        "The data set in saved cannot be read: the datasets library cannot open a split without rows. "
        "Save it again without the empty split."
    )


def test_folders_written_by_save_to_disk() -> None:
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
