"""Golden messages for data that cannot be used."""

from pathlib import Path

import pytest

from neftune_cli.data.loading import load_data
from neftune_cli.errors import UsageError

PAIR = '{"prompt": "Why?", "completion": "Because."}\n'
SEVENTEEN_EMPTY_COMPLETIONS = (
    "mine.jsonl, line 1, line 2, line 3 and 14 more rows: column 'completion' is empty. Fill it in, or remove the row."
)
SETS = (
    "instruction, output, [input], [system], [history], [tools] (alpaca); prompt, completion, [input], [system], "
    "[history], [tools] (prompt-completion); messages, [system], [tools] (messages); text (text)."
)


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message_of(name: str, **options: int | str) -> str:
    with pytest.raises(UsageError) as error:
        load_data(name, **options)  # type: ignore[arg-type]
    return str(error.value)


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
            "mine.txt: files with the suffix '.txt' are not supported. Pass a .json, .jsonl, .csv or .parquet file.",
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
            'Put text in double quotes and write "" for a quote inside it, or pass the data as .jsonl.',
        ),
        (
            "mine.parquet",
            "prompt,completion\n",
            "mine.parquet is not a valid Parquet file. Write it again, or pass the data as .jsonl or .csv.",
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
        "Use bios, a .json, .jsonl, .csv or .parquet file, a folder written by save_to_disk, or a hub id."
    )


def test_folder_not_written_by_save_to_disk() -> None:
    Path("data").mkdir()
    without_files = message_of("data")
    Path("data/mine.csv").write_text("text\na\n")
    what = "The folder data was not written by save_to_disk of the datasets library. "
    assert without_files == what + "Pass a file, or a folder written by save_to_disk."
    assert message_of("data") == what + "Pass one of its files: data/mine.csv."


def test_folder_without_a_training_split() -> None:
    from datasets import Dataset, DatasetDict

    one = Dataset.from_list([{"text": "a"}])
    DatasetDict(dev=one, test=one).save_to_disk("data")
    assert message_of("data") == (
        "data has no split 'train'. Its splits are: dev, test. "
        "Save the split to use on its own: dataset[SPLIT].save_to_disk('FOLDER')."
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
            {"train_examples": 1, "eval_examples": 0},
            "--train-examples 1 is too small. Use 2 or more.\n--eval-examples 0 is too small. Use 2 or more.",
        ),
        (
            {"layout": "alpaka"},
            "--format must be alpaca, prompt-completion, messages or text; 'alpaka' was given. Did you mean 'alpaca'?",
        ),
        (
            {"layout": "messages"},
            "The columns of sums.csv do not match the layout messages: prompt, completion. "
            "Name them, for example --columns messages=COLUMN, or rename them to one of these sets: messages, [system], "
            "[tools] (messages).",
        ),
    ],
)
def test_unusable_options(options: dict[str, int | str], message: str) -> None:
    Path("sums.csv").write_text("prompt,completion\n" + "".join(f"{n}+1?,{n + 1}\n" for n in range(30)))
    assert message_of("sums.csv", **options) == message


def test_layout_of_the_bundled_data_set() -> None:
    assert message_of("bios", layout="text") == (
        "--format text does not apply to the bundled data set bios. Remove --format."
    )
