"""Golden messages for data that cannot be used."""

import gzip
import json
from pathlib import Path

import pytest

from tests.cli.data_messages import PAIR, message_of

pytestmark = pytest.mark.usefixtures("empty_working_directory")

SEVENTEEN_EMPTY_COMPLETIONS = (
    "mine.jsonl, line 1, line 2, line 3 and 14 more rows: column 'completion' is empty. Fill it in, or remove the row."
)
SETS = (
    "instruction, output, [input], [system], [history], [tools] (alpaca); prompt, completion, [input], [system], "
    "[history], [tools] (prompt-completion); messages, [system], [tools] (messages); text (text)."
)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("mine.jsonl", "", "mine.jsonl is empty. Add examples to it."),
        ("mine.jsonl", "\n \n", "mine.jsonl has no rows. Add examples to it."),
        ("mine.json", "[]", "mine.json has no rows. Add examples to it."),
        ("mine.csv", "prompt,completion\n", "mine.csv has no rows. Add examples to it."),
        (
            "mine.txt",
            "Why?",
            "mine.txt: files with the suffix '.txt' are not supported. Use a .json, .jsonl, .ndjson, .csv, .tsv, "
            ".parquet or .arrow file, also with .gz or .zst after the suffix.",
        ),
        (
            "mine.jsonl",
            PAIR + "{'prompt': 'single quotes are Python, and this line is rather long'}\n",
            "mine.jsonl, line 2: invalid JSON at column 2 (Expecting property name enclosed in double quotes). The "
            "line starts with: {'prompt': 'single quotes are Python, and this line is rathe… Write one JSON object "
            "per line. A list of objects belongs in a .json file.",
        ),
        (
            "mine.jsonl",
            '["Why?"]\n',
            'mine.jsonl, line 1: ["Why?"] is not a JSON object. Write one JSON object per line. A list of objects '
            "belongs in a .json file.",
        ),
        (
            "mine.json",
            '[{"prompt": "Why?"},\n {"prompt" "Who?"}]',
            "mine.json, line 2: invalid JSON at column 12 (Expecting ':' delimiter). "
            'The line starts with: {"prompt" "Who?"}] Correct it, or write one object per line in a .jsonl file.',
        ),
        (
            "mine.json",
            '{"prompt": "Why?"}',
            "mine.json contains neither a list of objects nor an object with such a list under the key 'data'. "
            'Write [{"instruction": "...", "output": "..."}, ...].',
        ),
        (
            "mine.json",
            '["Why?"]',
            'mine.json, row 1: "Why?" is not a JSON object. Write each example as an object with one key per column.',
        ),
        (
            "mine.csv",
            "prompt,completion\nWhy?,Because,so\n",
            "mine.csv, line 2: 3 values for 2 columns (prompt, completion). "
            "Put text with commas or line breaks in double quotes.",
        ),
        (
            "mine.csv",
            'prompt,completion\nWhy?,"Because\nso\n',
            "mine.csv, line 2: invalid CSV (unexpected end of data). "
            'Put text in double quotes and write "" for a quote inside it, or use the data as .jsonl.',
        ),
        (
            "mine.parquet",
            "prompt,completion\n",
            "mine.parquet is not a valid Parquet file. Write it again, or use the data as .jsonl or .csv.",
        ),
        (
            "mine.jsonl",
            '{"frage": "Why?", "antwort": "Because."}\n',
            "The columns of mine.jsonl match no supported layout: frage, antwort. Name them, for example --columns "
            f"prompt=COLUMN,completion=COLUMN, or rename them to one of these sets: {SETS}",
        ),
        ("mine.jsonl", '{"prompt": "Why?", "completion": ""}\n' * 17, SEVENTEEN_EMPTY_COMPLETIONS),
        (
            "mine.jsonl",
            PAIR * 9,
            "mine.jsonl has too few examples for a training and a held-out split (distinct examples: 1, distinct "
            "prompts: 1). Add examples: each split needs at least 2, with different prompts.",
        ),
    ],
)
def test_unusable_file(file: str, content: str, message: str) -> None:
    Path(file).write_text(content)
    assert message_of(file) == message


def test_rows_with_different_faults_are_reported_apart() -> None:
    Path("mine.csv").write_text("prompt,completion\na,b\nc,d,e\nf\ng,h,i\n")
    fix = "Put text with commas or line breaks in double quotes."
    assert message_of("mine.csv") == (
        f"mine.csv, line 3, line 5: 3 values for 2 columns (prompt, completion). {fix}\n"
        f"mine.csv, line 4: 1 value for 2 columns (prompt, completion). {fix}"
    )


def test_lines_of_broken_json_are_reported_by_reason() -> None:
    lines = ['{"prompt": "a", ', "not json", '{"prompt": "b",}', '{"prompt": ', "[1, 2]", "[3]", "7"]
    Path("mine.jsonl").write_text(PAIR + "\n".join(lines))
    fix = "Write one JSON object per line. A list of objects belongs in a .json file."
    start = "The line starts with:"
    assert message_of("mine.jsonl").splitlines() == [
        "mine.jsonl, line 2: invalid JSON at column 17 (Expecting property name enclosed in double quotes). "
        f'{start} {{"prompt": "a", {fix}',
        f"mine.jsonl, line 3: invalid JSON at column 1 (Expecting value). {start} not json {fix}",
        "mine.jsonl, line 4: invalid JSON at column 16 (comma before the closing bracket). "
        f'{start} {{"prompt": "b",}} {fix}',
        f'mine.jsonl, line 5: invalid JSON at column 12 (the text ends too early). {start} {{"prompt": {fix}',
        "mine.jsonl, line 6, line 7: a list is not a JSON object. First row: [1, 2] is not a JSON object. " + fix,
        f"mine.jsonl, line 8: 7 is not a JSON object. {fix}",
    ]


def test_rows_with_the_same_fault_in_different_turns() -> None:
    conversation = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}\n'
    Path("mine.jsonl").write_text(conversation % ("a", "") + conversation % ("", "b") + conversation % ("c", "d"))
    assert message_of("mine.jsonl") == (
        "mine.jsonl, line 1, line 2: column 'messages', a turn is empty. First row: column 'messages', turn 2 is "
        "empty. Fill it in, or remove the row."
    )


def test_all_causes_are_reported() -> None:
    boolean = '{"prompt": "a", "completion": true}'
    roles = [f'{{"prompt": "a", "completion": [{{"role": "r{n}", "content": "b"}}]}}' for n in range(22)]
    Path("mine.jsonl").write_text("\n".join([PAIR.strip(), boolean, *roles[:12]]))
    assert len(message_of("mine.jsonl").splitlines()) == 13
    Path("mine.jsonl").write_text("\n".join([PAIR.strip(), boolean, *roles]))
    lines = message_of("mine.jsonl").splitlines()
    assert len(lines) == 21
    assert lines[-1] == "3 more rows have other problems. Fix the problems above first, then run the command again."


def test_file_that_is_not_utf8() -> None:
    Path("mine.jsonl").write_bytes(PAIR.encode() + '{"prompt": "Où ?"}'.encode("latin-1"))
    assert message_of("mine.jsonl") == (
        "mine.jsonl, line 2: byte 0xf9 is not valid UTF-8. "
        "Convert the file to UTF-8, for example: iconv -f LATIN1 -t UTF-8 mine.jsonl > utf8.jsonl"
    )


def test_mistyped_file_name() -> None:
    Path("mine.jsonl").write_text(PAIR)
    assert message_of("mien.jsonl") == (
        "There is no file or folder 'mien.jsonl'. Did you mean mine.jsonl? "
        "Use bios, a .json, .jsonl, .ndjson, .csv, .tsv, .parquet or .arrow file, a folder with such files, "
        "or a hub id."
    )


@pytest.mark.parametrize(
    ("pattern", "fix"),
    [
        ("sub/**.jsonl", "sub/**/*.jsonl"),
        ("**x/*.csv", "**/*x/*.csv"),
        ("sub/**/m**e.jsonl", "sub/**/m*e.jsonl"),
        ("/sub/m**.jsonl", "/sub/m*.jsonl"),
    ],
)
def test_pattern_with_two_asterisks_inside_a_name(pattern: str, fix: str) -> None:
    Path("sub").mkdir()
    Path("sub/mine.jsonl").write_text(PAIR)
    expected = f"The pattern '{pattern}' has ** inside a name. Use '{fix}'. ** must be alone in a name."
    assert message_of(f"sub/mine.jsonl,{pattern}") == expected


def test_card_with_a_pattern_that_is_not_valid() -> None:
    Path("sub").mkdir()
    Path("sub/mine.jsonl").write_text(PAIR)
    Path("sub/README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: 'raw/**.jsonl'\n---\n")
    assert message_of("sub") == (
        "The pattern 'raw/**.jsonl' has ** inside a name. Use 'raw/**/*.jsonl'. ** must be alone in a name."
    )
    Path("sub/README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: '/raw/x.jsonl'\n---\n")
    assert message_of("sub") == (
        "sub/README.md names files that the folder does not have: /raw/x.jsonl. "
        "Download the whole data set, or pass the names of data files."
    )


def test_folder_among_several_files() -> None:
    Path("sub").mkdir()
    Path("mine.jsonl").write_text(PAIR)
    assert message_of("sub,mine.jsonl") == (
        "'sub' is a folder, and only files can be joined with commas. Name its files, for example 'sub/*.jsonl'."
    )
    assert message_of(",") == (
        "',' names no file. Use bios, a .json, .jsonl, .ndjson, .csv, .tsv, .parquet or .arrow file, a folder with "
        "such files, or a hub id."
    )


def test_bundled_data_among_several_files() -> None:
    Path("mine.jsonl").write_text(PAIR)
    assert message_of("bios,mine.jsonl") == (
        "'bios' is the bundled data set, and only files can be joined with commas. Use bios alone, or files only."
    )


@pytest.mark.parametrize("name", ["", " "])
def test_empty_names(name: str) -> None:
    Path("mine.jsonl").write_text(PAIR)
    assert message_of(name) == "--dataset is empty. Use a name, or remove --dataset."
    assert message_of("mine.jsonl", split=name, eval_dataset=name, eval_split=name).splitlines() == [
        f"--{option} is empty. Use a name, or remove --{option}." for option in ("split", "eval-dataset", "eval-split")
    ]


@pytest.mark.parametrize("document", ['{"examples": [%s]}', '{"version": "1", "rows": [%s, %s]}'])
def test_rows_under_another_key(document: str) -> None:
    Path("mine.json").write_text(document.replace("%s", PAIR.strip()))
    key = "examples" if "examples" in document else "rows"
    assert message_of("mine.json") == (
        f"mine.json: the rows are under the key '{key}', which is not read. Rename the key to 'data' or to the name of "
        "a split, such as 'train', or write the list alone."
    )


def test_empty_split() -> None:
    rows = f"[{PAIR.strip()}]"
    Path("mine.json").write_text(f'{{"train": {rows}, "test": [], "dev": {rows}}}')
    assert message_of("mine.json") == "mine.json (split test) has no rows. Use --eval-split dev."
    assert message_of("mine.json", split="test") == ("mine.json (split test) has no rows. Use --split train.")
    Path("mine.json").write_text(f'{{"train": {rows}, "test": []}}')
    assert message_of("mine.json") == (
        "mine.json (split test) has no rows. Add examples to it, remove it, or use --eval-dataset."
    )


def test_csv_file_without_column_names() -> None:
    Path("mine.csv.gz").write_bytes(gzip.compress(b"Who are you?,A bot\nHi,Hello\n"))
    assert message_of("mine.csv.gz").startswith(
        "The columns of mine.csv.gz match no supported layout: Who are you?, A bot. The first line must have the "
        "column names. If it is an example, add a line with the names above it. Otherwise name the columns, for "
        "example --columns prompt=COLUMN,completion=COLUMN, or rename them to one of these sets: "
    )


def test_folder_with_a_description_beside_the_data() -> None:
    Path("data").mkdir()
    for name in ("config.json", "train-1.jsonl", "train-2.jsonl"):
        Path("data", name).write_text(PAIR)
    assert message_of("data").endswith("Use the files of one format, for example 'data/*.jsonl'.")


def test_folders_that_cannot_be_read() -> None:
    Path("data").mkdir()
    assert message_of("data") == (
        "The folder data has no data files. Use a folder with .json, .jsonl, .ndjson, .csv, .tsv, .parquet or .arrow "
        "files, or one written by save_to_disk."
    )
    Path("data/mine.csv").write_text("text\na\n")
    Path("data/mine.jsonl").write_text(PAIR)
    assert message_of("data") == (
        "The folder data has data files of several formats: data/mine.csv, data/mine.jsonl. "
        "Use the files of one format, for example 'data/*.csv'."
    )


def test_names_that_are_no_data() -> None:
    Path("out/trials").mkdir(parents=True)
    Path("out/sweep.yaml").touch()
    Path("out/loss.csv").touch()
    assert message_of("out").startswith("The folder out has the results of a sweep, not data. Use bios, ")
    assert message_of("https://host/mine.jsonl") == (
        "'https://host/mine.jsonl' is an address, which is not read. Download the file, and use its path."
    )


def test_folder_without_a_training_split() -> None:
    from datasets import Dataset, DatasetDict

    one = Dataset.from_list([{"text": "a"}])
    DatasetDict(dev=one, test=one).save_to_disk("data")
    assert message_of("data") == (
        "data has no split 'train'. Its splits are: dev, test. Name the split to train on, for example --split dev."
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "ConnectionError",
            "There is no file 'me/mine', no cached data set of that name, and the Hugging Face Hub cannot be reached. "
            "Set HF_HUB_OFFLINE=0 and check the connection, or pass a local file. Or save the data set on another "
            "machine: datasets.load_dataset('me/mine').save_to_disk('FOLDER'), then --dataset FOLDER.",
        ),
        (
            "DatasetNotFoundError",
            "There is no file 'me/mine', and no data set of that name on the Hugging Face Hub that you can access. "
            "Check the spelling. If it is private or gated, run: hf auth login",
        ),
        (
            "ValueError",
            "The data set 'me/mine' cannot be loaded from the Hugging Face Hub: Config name is missing. Pick one of "
            "a, b. Load it in Python, then pass a folder: datasets.load_dataset('me/mine').save_to_disk('FOLDER'), "
            "then --dataset FOLDER.",
        ),
    ],
)
def test_hub_errors(error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    errors = {
        "ConnectionError": ConnectionError,
        "DatasetNotFoundError": DatasetNotFoundError,
        "ValueError": ValueError,
    }

    def load_dataset(name: str) -> None:
        raise errors[error]("Config name is missing.\nPick one of a, b.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert message_of("me/mine") == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"eval_examples": 500},
            "--eval-examples 500 leaves 0 training examples in sums.csv (distinct examples: 30, distinct prompts: 30). "
            "Use a smaller number, for example --eval-examples 6.",
        ),
        (
            {"train_examples": 1, "eval_examples": 1},
            "--train-examples 1 is too small. Use 2 or more.\n--eval-examples 1 is too small. Use 2 or more.",
        ),
        (
            {"layout": "alpaka"},
            "--format alpaka: there is no such layout. Did you mean alpaca? "
            "Use alpaca, prompt-completion, messages or text.",
        ),
        (
            {"layout": "messages"},
            "The columns of sums.csv do not match the layout messages: prompt, completion. "
            "Name them, for example --columns messages=COLUMN, or rename them to one of these sets: messages, "
            "[system], [tools] (messages).",
        ),
    ],
)
def test_unusable_options(options: dict[str, int | str], message: str) -> None:
    Path("sums.csv").write_text("prompt,completion\n" + "".join(f"{n}+1?,{n + 1}\n" for n in range(30)))
    assert message_of("sums.csv", **options) == message


def test_options_that_do_not_apply_to_the_bundled_data_set() -> None:
    assert message_of("bios", layout="text", columns={"prompt": "q"}, eval_split="test") == (
        "--format text does not apply to the bundled data set bios. Remove --format.\n"
        "--columns does not apply to the bundled data set bios. Remove --columns.\n"
        "--eval-split test does not apply to the bundled data set bios. Remove --eval-split."
    )


def test_splits_that_do_not_exist() -> None:
    Path("mine.jsonl").write_text(PAIR)
    Path("splits.json").write_text(f'{{"train": [{PAIR}], "test": [{PAIR}]}}')
    assert message_of("mine.jsonl", split="train") == "--split train: mine.jsonl has no splits. Remove --split."
    assert message_of("splits.json", eval_split="dev") == (
        "--eval-split dev: splits.json has no split of that name. Its splits are: train, test. Use one of them."
    )


def test_problems_of_all_files_are_reported_at_once() -> None:
    Path("one.jsonl").write_bytes(b"PK\x03\x04")
    Path("two.jsonl").write_text("")
    found = message_of("one.jsonl,two.jsonl", eval_dataset="three.jsonl")
    assert [line.partition(" ")[0] for line in found.splitlines()] == ["one.jsonl", "two.jsonl", "There"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_in_a_file_of_json_lines(indent: int | None) -> None:
    rows = [{"prompt": f"{n}?", "completion": "a"} for n in range(9)]
    Path("mine.jsonl").write_text("\n" + json.dumps(rows, indent=indent))
    fix = "Rename it to .json." if indent else "A list of objects belongs in a .json file."
    assert message_of("mine.jsonl").endswith(fix)


@pytest.mark.parametrize("indent", [None, 2])
def test_json_lists_one_after_the_other(indent: int | None) -> None:
    rows = [{"prompt": f"{n}?", "completion": "a"} for n in range(9)]
    Path("mine.json").write_text("\n".join([json.dumps(rows, indent=indent)] * 2))
    assert message_of("mine.json") == (
        "mine.json has text after the end of its JSON list. Remove the text, or pass several JSON documents as "
        "separate files, separated by commas."
    )


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_json_objects_over_several_lines(suffix: str) -> None:
    rows = [json.dumps({"prompt": f"{n}?", "completion": "a"}, indent=2) for n in range(9)]
    Path(f"mine.{suffix}").write_text("\n\n" + "\n".join(rows))
    assert message_of(f"mine.{suffix}") == (
        f"mine.{suffix}, line 3: the JSON object takes several lines. Write one object per line, for example: "
        f"jq -c . 'mine.{suffix}' > lines.jsonl"
    )
