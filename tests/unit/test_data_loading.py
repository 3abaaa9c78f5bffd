"""Loading: bundled and local data sets are split, fingerprinted and described in notes; bad rows are counted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import GenerationDefaults, InstructionData
from neftune_cli.data.loading import load_data
from neftune_cli.errors import UsageError

pytestmark = pytest.mark.usefixtures("empty_working_directory")

REPOSITORY = Path(__file__).parents[2]


def load(dataset: str | Path, **fields: Any) -> InstructionData:
    return load_data(InputSpec(dataset=str(dataset), **fields))


def row(number: int, **more: object) -> dict[str, object]:
    return {"instruction": f"{number}+1?", "output": str(number + 1), **more}


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def write_sums(path: Path, numbers: list[int]) -> Path:
    return write_rows(path, [row(number) for number in numbers])


def prompts_of(examples: Any) -> set[str]:
    return {example.prompt[0]["content"] for example in examples}


def test_notes_on_a_local_file() -> None:
    data = load(write_sums(Path("sums.jsonl"), [*range(50), 7, 8, 9]), train_examples=30)
    assert data.name == "sums.jsonl"
    assert (len(data.train), len(data.held_out), len(data.probe)) == (30, 10, 30)
    assert data.generation == GenerationDefaults(max_new_tokens=128, repetition_penalty=1.2)
    assert data.notes == (
        "sums.jsonl has the layout alpaca (columns: instruction, output).",
        "30 examples for training and 10 held out, chosen by content hash.",
        "3 examples dropped as duplicates (same prompt and completion).",
        "10 examples not used.",
    )


def test_fingerprint_depends_on_the_examples_and_not_on_the_file() -> None:
    one = load(write_sums(Path("one.jsonl"), list(range(40))))
    reversed_rows = load(write_sums(Path("two.jsonl"), list(range(39, -1, -1))))
    other = load(write_sums(Path("three.jsonl"), list(range(1, 41))))
    assert one.fingerprint == reversed_rows.fingerprint != other.fingerprint


def test_fingerprint_of_a_data_set_without_splits_stays_the_same_in_later_versions() -> None:
    assert load(write_sums(Path("sums.jsonl"), list(range(40)))).fingerprint == "9073f9b4109a0873"


def test_notes_on_the_bundled_data_set() -> None:
    data = load("bios", train_examples=20, eval_examples=10)
    assert (len(data.train), len(data.held_out), len(data.probe)) == (20, 10, 20)
    assert data.generation == GenerationDefaults(max_new_tokens=96, repetition_penalty=1.0)
    assert data.notes == (
        "20 examples for training and 10 held out, chosen by content hash.",
        "bios is split by person: held-out questions are about other people and have other phrasings.",
    )


def test_loading_the_bundled_data_set_imports_no_heavy_library() -> None:
    code = (
        "import sys; from neftune_cli.config.spec import InputSpec; from neftune_cli.data.loading import load_data; "
        "load_data(InputSpec()); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    loaded = ran.stdout.split()
    assert not {"torch", "transformers", "datasets", "pandas", "pyarrow"} & set(loaded)


@pytest.mark.parametrize("column", ["split", "Split"])
@pytest.mark.parametrize("held_out", ["test", "validation", "eval", "dev", "Test"])
def test_rows_of_a_split_column_are_held_out(column: str, held_out: str) -> None:
    rows = [row(number, **{column: held_out if number % 4 == 0 else "train"}) for number in range(40)]
    data = load(write_rows(Path("mine.jsonl"), rows))
    assert prompts_of(data.held_out) == {f"{number}+1?" for number in range(0, 40, 4)}
    assert len(data.train) == 30
    assert f"30 examples for training and 10 held out: mine.jsonl (split {held_out})." in data.notes


@pytest.mark.parametrize(
    ("training", "held_out", "read"),
    [
        ("Train", "Test", "'Train' as train, 'Test' as test"),
        ("TRAIN", "VAL", "'TRAIN' as train, 'VAL' as validation"),
        ("train", "Dev", "'Dev' as validation"),
    ],
)
def test_split_names_in_any_case_are_read_and_named(training: str, held_out: str, read: str) -> None:
    rows = [row(number, split=held_out if number % 4 == 3 else training) for number in range(40)]
    data = load(write_rows(Path("mine.jsonl"), rows))
    assert (len(data.train), len(data.held_out)) == (30, 10)
    assert f"mine.jsonl: Upper and lower case do not matter in values of the column 'split': {read}." in data.notes


def test_two_spellings_of_the_split_to_hold_out_are_refused() -> None:
    rows = [row(number, split=("train", "train", "test", "TEST")[number % 4]) for number in range(40)]
    file = write_rows(Path("mine.jsonl"), rows)
    with pytest.raises(UsageError) as error:
        load(file)
    assert str(error.value) == (
        "mine.jsonl has splits whose names differ in upper and lower case only: test, TEST. Name the one to hold out, "
        "for example --eval-split test, or write both names in one spelling."
    )
    assert len(load(file, eval_split="TEST").held_out) == 10


def test_a_list_of_turns_among_rows_with_messages_is_called_so() -> None:
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    Path("mine.jsonl").write_text(f"{json.dumps({'messages': turns})}\n{json.dumps(turns)}\n")
    with pytest.raises(UsageError) as caught:
        load("mine.jsonl")
    assert str(caught.value) == (
        "mine.jsonl, line 2: the row has no columns, because it is a list of turns (layout messages), and other rows "
        'have the column messages (layout messages). Write every row as {"messages": [...]}, or use a file for each '
        "kind of row."
    )


def test_only_the_test_split_is_held_out_if_there_are_several() -> None:
    rows = [row(number, split=("train", "train", "validation", "test")[number % 4]) for number in range(40)]
    data = load(write_rows(Path("mine.jsonl"), rows))
    assert prompts_of(data.held_out) == {f"{number}+1?" for number in range(3, 40, 4)}
    assert "Splits of mine.jsonl that are not used: validation (10 rows)." in data.notes


def test_a_column_with_one_split_changes_nothing() -> None:
    numbers = list(range(40))
    plain = load(write_sums(Path("plain.jsonl"), numbers))
    marked = load(write_rows(Path("marked.jsonl"), [row(number, split="train") for number in numbers]))
    assert marked.fingerprint == plain.fingerprint


def saved(name: str, **splits: list[dict[str, object]]) -> str:
    from datasets import Dataset, DatasetDict

    DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()}).save_to_disk(name)
    return name


def write_json(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_split_column_counts_in_every_form_of_the_rows() -> None:
    rows = [row(number, split="test" if number % 4 == 0 else "train") for number in range(40)]
    forms: list[str | Path] = [
        write_rows(Path("mine.jsonl"), rows),
        write_json(Path("mine.json"), {"train": rows}),
        saved("saved", train=rows),
        saved("other", math=rows),
    ]
    for form in forms:
        data = load(form)
        assert prompts_of(data.held_out) == {f"{number}+1?" for number in range(0, 40, 4)}
        assert data.fingerprint == load(forms[0]).fingerprint
        assert not any("'split'" in note for note in data.notes)


@pytest.mark.parametrize(("split", "value"), [("train", "test"), ("train_sft", "dev"), ("test", "training")])
def test_a_split_column_that_contradicts_the_splits_is_refused(split: str, value: str) -> None:
    splits = {"train": [row(number) for number in range(20)], "test": [row(number) for number in range(20, 30)]}
    splits["train_sft"] = splits["train"]
    if split == "train_sft":
        splits.pop("train")
    splits[split] = [{**one, "split": value if index > 2 else split} for index, one in enumerate(splits[split])]
    file = write_json(Path("mine.json"), splits)
    with pytest.raises(UsageError) as error:
        load(file, split=split if split.startswith("train") else "train")
    count, use = len(splits[split]) - 3, "training" if split.startswith("train") else "held-out data"
    assert str(error.value) == (
        f"mine.json (split {split}): column 'split' has the value '{value}' ({count} rows, first mine.json, "
        f"{split} row 4), but this split is {use}. Remove the column or these rows, or leave the column "
        "out: name the columns to read with --columns."
    )
    columns = {"instruction": "instruction", "output": "output"}
    notes = load(file, split=split if split.startswith("train") else "train", columns=columns).notes
    assert any(f"Column 'split' is not read in this layout: {count + 3} rows." in note for note in notes)


def test_a_split_column_that_agrees_with_the_splits_changes_nothing() -> None:
    train, test = [row(number) for number in range(20)], [row(number) for number in range(20, 30)]
    plain = load(write_json(Path("plain.json"), {"train": train, "test": test}))
    marked = {
        "train": [{**one, "split": "train"} for one in train],
        "test": [{**one, "split": "validation"} for one in test],
    }
    found = load(write_json(Path("marked.json"), marked))
    assert found.fingerprint == plain.fingerprint
    assert not any("'split'" in note for note in found.notes)


def test_values_of_a_split_column_that_are_no_splits_are_named() -> None:
    file = write_rows(Path("mine.jsonl"), [row(number, split="easy") for number in range(20)])
    assert "Column 'split' is not read in this layout: 20 rows." in load(file).notes
    folder = saved("saved", train=[row(number, split="ab"[number % 2]) for number in range(20)])
    with pytest.raises(UsageError, match="no value of the column 'split' is the name of a training split: a, b"):
        load(folder)
    data = load(folder, split="train")
    assert len(data.train) == 16
    assert "Column 'split' is not read in this layout: 20 rows." in data.notes


def test_rows_of_a_test_split_alone_are_not_trained_on_unasked() -> None:
    file = write_rows(Path("mine.jsonl"), [row(number, split="test") for number in range(20)])
    with pytest.raises(UsageError) as error:
        load(file)
    assert str(error.value) == (
        "mine.jsonl: the column 'split' has only the value 'test', which is not the name of a training split. "
        "Use --split test to train on these rows, or rename the column."
    )
    assert len(load(file, split="test").train) == 16
    train = write_sums(Path("train.jsonl"), list(range(20, 60)))
    assert len(load(train, eval_dataset="mine.jsonl").held_out) == 20
    only = saved("only", test=[row(number) for number in range(20)])
    assert "only has only the split 'test', which is used for training." in load(only).notes
    assert not any("only the split" in note for note in load(only, split="test").notes)


def test_blank_values_of_a_split_column_are_bad_rows() -> None:
    rows = [row(number, split="" if number < 2 else "train") for number in range(40)]
    file = write_rows(Path("mine.jsonl"), rows)
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 1, line 2: column 'split' is empty"):
        load(file)
    data = load(file, skip_bad_rows=True)
    assert len(data.train) + len(data.held_out) == 38
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 1, line 2: column 'split' is empty"):
        load(write_sums(Path("train.jsonl"), list(range(40, 60))), eval_dataset="mine.jsonl")


def test_split_names_that_differ_in_case_only_are_named() -> None:
    rows = [row(number, split=("train", "Train", "test")[number % 3]) for number in range(60)]
    file = write_rows(Path("mine.jsonl"), rows)
    with pytest.raises(UsageError) as error:
        load(file)
    assert str(error.value) == (
        "mine.jsonl has several training splits: train, Train. Name the one to train on, for example --split train."
    )
    with pytest.raises(UsageError, match=r"--split TRAIN: several splits of mine\.jsonl have this name: train, Train"):
        load(file, split="TRAIN")
    assert len(load(file, split="Train").train) == 20


def test_named_splits() -> None:
    rows = [row(number, split=("a", "b", "c")[number % 3]) for number in range(30)]
    file = write_rows(Path("mine.jsonl"), rows)
    data = load(file, split="c", eval_split="a")
    assert prompts_of(data.train) == {f"{number}+1?" for number in range(2, 30, 3)}
    assert prompts_of(data.held_out) == {f"{number}+1?" for number in range(0, 30, 3)}
    assert len(load(file, split="B").held_out) == 2  # a fifth of the split
    with pytest.raises(UsageError, match=r"--split d: .* has no split of that name"):
        load(file, split="d")
    with pytest.raises(UsageError, match="no value of the column 'split' is the name of a training split: a, b, c"):
        load(file)
    with pytest.raises(UsageError, match="--eval-split a is the split that is trained on"):
        load(file, split="a", eval_split="a")


def test_held_out_data_set() -> None:
    train = write_sums(Path("train.jsonl"), list(range(40)))
    write_rows(Path("other.jsonl"), [{"prompt": f"{n}+1?", "completion": "?"} for n in [*range(38, 50), 45]])
    data = load(train, eval_dataset="other.jsonl")
    assert len(data.train) == 40
    assert prompts_of(data.held_out) == {f"{number}+1?" for number in range(40, 50)}
    assert data.notes[-3:] == (
        "40 examples for training and 10 held out: other.jsonl.",
        "1 held-out example dropped as duplicates (same prompt and completion).",
        "2 held-out examples left out because the prompt, or an earlier turn of it, is also in training.",
    )
    assert len(load(train, eval_dataset="other.jsonl", eval_examples=4).held_out) == 4


def test_held_out_data_that_are_all_in_training() -> None:
    train = write_sums(Path("train.jsonl"), list(range(40)))
    with pytest.raises(UsageError, match="40 held-out examples have a prompt that also occurs in training") as error:
        load(train, eval_dataset="train.jsonl")
    assert error.value.problems[0].fix.startswith("Name other data with --eval-dataset. Without it")
    with pytest.raises(UsageError, match="Add examples: each split needs at least 2"):
        load(train, eval_dataset=str(write_sums(Path("one.jsonl"), [50])))


def test_every_row_is_learned_held_out_or_counted() -> None:
    rows = [row(number, split="test" if number % 3 == 0 else "train") for number in [*range(60), *range(10)]]
    rows += [row(number, split="test") for number in (1, 2, 4)]
    data = load(write_rows(Path("mine.jsonl"), rows), train_examples=30, eval_examples=12)
    counted = [int(note.split()[0]) for note in data.notes if note.split()[1:2] in (["training"], ["held-out"])]
    assert (len(data.train), len(data.held_out)) == (30, 12)
    assert 30 + 12 + sum(counted) == len(rows)


BAD_ROWS = '{"prompt": "Why?"\n{"prompt": "Who?", "completion": ""}\n{"prompt": "Who?", "completion": true}\n'


def write_bad_rows(good: int) -> Path:
    lines = [json.dumps({"prompt": f"{n}+1?", "completion": str(n + 1)}) + "\n" for n in range(good)]
    path = Path("mine.jsonl")
    path.write_text("".join([*lines[:5], *BAD_ROWS.splitlines(keepends=True), *lines[5:]]))
    return path


def test_bad_rows_are_dropped_and_counted_on_request() -> None:
    data = load(write_bad_rows(good=77), skip_bad_rows=True)
    assert len(data.train) + len(data.held_out) == 77
    assert data.notes[1] == (
        "Dropped 3 rows of mine.jsonl that cannot be used: invalid JSON (Expecting ',' delimiter) (1, first "
        "mine.jsonl, line 6); column 'completion' is empty (1, first mine.jsonl, line 7); column 'completion' contains "
        "a boolean, not text (1, first mine.jsonl, line 8)."
    )
    without = "".join(line for line in Path("mine.jsonl").read_text().splitlines(True) if line not in BAD_ROWS)
    Path("without.jsonl").write_text(without)
    assert load("without.jsonl").fingerprint == data.fingerprint


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def test_rows_of_rare_causes_are_counted() -> None:
    roles = [json.dumps({"messages": [{"role": f"r{number}", "content": "a"}]}) for number in (1, 1, 2, 3, 4, 5, 6, 7)]
    good = [json.dumps({"messages": [{**USER, "content": f"{n}?"}, ANSWER]}) for n in range(9)]
    Path("mine.jsonl").write_text("\n".join([*good, *roles]))
    note = load("mine.jsonl", skip_bad_rows=True, max_bad_share=0.9).notes[1]
    assert note.startswith("Dropped 8 rows of mine.jsonl that cannot be used: ")
    assert note.endswith("; 2 rows with other causes.")


@pytest.mark.parametrize(("good", "names_option"), [(77, True), (17, False)])
def test_the_option_that_leaves_out_bad_rows_is_named_if_they_are_few(good: int, names_option: bool) -> None:
    with pytest.raises(UsageError) as error:
        load(write_bad_rows(good))
    advice = [problem.fix.endswith("--skip-bad-rows leaves out bad rows.") for problem in error.value.problems]
    assert advice == [False, False, names_option]


@pytest.mark.parametrize(
    ("rows", "raw", "is_noted"),
    [
        ([{"text": f"Note {number}."} for number in range(20)], False, True),
        ([{"prompt": f"{number}?", "completion": "Yes."} for number in range(20)], True, True),
        ([{"prompt": f"{number}?", "completion": "Yes."} for number in range(20)], False, False),
    ],
)
def test_a_loss_on_turns_is_noted_for_examples_without_turns(
    rows: list[dict[str, object]], raw: bool, is_noted: bool
) -> None:
    data = load(write_rows(Path("mine.jsonl"), rows), raw=raw, loss="all-assistant")
    assert ("--loss all-assistant has no effect: the examples have no turns." in data.notes) == is_noted


def test_more_bad_rows_than_allowed_are_an_error() -> None:
    file = write_bad_rows(good=17)
    with pytest.raises(UsageError) as error:
        load(file, skip_bad_rows=True)
    assert len(error.value.problems) == 4
    assert str(error.value).startswith(
        "mine.jsonl: 15.0% of the rows cannot be used (3 of 20 rows cannot be read). Correct them, or raise "
        "--max-bad-share: --skip-bad-rows drops at most 5.0%.\nmine.jsonl, line 6: invalid JSON"
    )
    assert len(load(file, skip_bad_rows=True, max_bad_share=0.15).train) == 14


def test_all_bad_rows_are_reported_by_cause() -> None:
    Path("mine.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' + BAD_ROWS * 4)
    with pytest.raises(UsageError) as error:
        load("mine.jsonl")
    places = [problem.what.partition(": ")[0] for problem in error.value.problems]
    assert places == [
        "mine.jsonl, line 2, line 5, line 8 and 1 more row",
        "mine.jsonl, line 3, line 6, line 9 and 1 more row",
        "mine.jsonl, line 4, line 7, line 10 and 1 more row",
    ]


def test_the_share_of_bad_rows_counts_over_the_whole_set() -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"{n}+1?", "completion": "" if n < 21 else str(n + 1), "split": "test" if n < 200 else "train"}
        for n in range(1000)
    ]
    file = write_rows(Path("mine.jsonl"), rows)
    data = load(file, skip_bad_rows=True, eval_examples=500)
    assert (len(data.train), len(data.held_out)) == (800, 179)
    rows[999]["completion"] = ""
    write_rows(file, rows)
    with pytest.raises(UsageError) as error:
        load(file, skip_bad_rows=True, max_bad_share=0.02)
    assert str(error.value) == (
        "mine.jsonl: 2.2% of the rows cannot be used (22 of 1,000 rows cannot be read). Correct them, or raise "
        "--max-bad-share: --skip-bad-rows drops at most 2.0%.\nmine.jsonl, line 1, line 2, line 3 and 19 more rows: "
        "column 'completion' is empty. Fill it in, or remove the row."
    )
    pairs: list[dict[str, object]] = [{"prompt": f"{n}?", "completion": "x" if n else ""} for n in range(10)]
    other = write_rows(Path("other.jsonl"), pairs)
    with pytest.raises(
        UsageError, match=r"mine\.jsonl and other\.jsonl: 0\.2% of the rows .*\(2 of 810 rows cannot be read\)"
    ):
        load(file, eval_dataset=str(other), skip_bad_rows=True, max_bad_share=0.001)


def test_the_first_of_equal_rows_is_kept() -> None:
    data = load(write_sums(Path("sums.jsonl"), [*range(10), *range(10)]))
    places = {example.place for example in (*data.train, *data.held_out)}
    assert places == {f"sums.jsonl, line {number}" for number in range(1, 11)}


# Files that are not read, or not twice


def test_file_that_is_named_twice_is_read_once() -> None:
    rows = [json.dumps({"prompt": f"{number}+1?", "completion": str(number + 1)}) for number in range(20)]
    Path("a.jsonl").write_text("\n".join(rows[:10]))
    Path("b.jsonl").write_text("\n".join(rows[10:]))
    for names in ("a.jsonl,./a.jsonl,b.jsonl", "*.jsonl,a.jsonl"):
        data = load(names)
        assert "Files that are named more than once and read once: a.jsonl." in data.notes
        assert not any("duplicates" in note for note in data.notes)
        assert data.fingerprint == load("*.jsonl").fingerprint
    assert not any("more than once" in note for note in load("a.jsonl,b.jsonl").notes)


def test_files_of_a_folder_in_other_formats_are_named() -> None:
    Path("data").mkdir()
    rows = [json.dumps({"prompt": f"{number}+1?", "completion": str(number + 1)}) for number in range(20)]
    Path("data/a.jsonl").write_text("\n".join(rows))
    for name in ("README.md", "notes.txt", "more.xlsx", ".hidden.txt"):
        Path("data", name).write_text("-")
    expected = "Files of data that are not read, because of their format: data/more.xlsx, data/notes.txt."
    assert expected in load("data").notes


@pytest.mark.parametrize("name", ["held-out", "Held Out", "test-set", "dev_set"])
def test_names_of_splits_with_dashes_and_spaces(name: str) -> None:
    rows = [{"prompt": f"{n}?", "completion": "a"} for n in range(9)]
    Path("mine.json").write_text(json.dumps({"train-set": rows[:6], name: rows[6:]}))
    data = load("mine.json")
    assert (len(data.train), len(data.held_out)) == (6, 3)
