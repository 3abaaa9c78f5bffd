"""Golden texts: what a user reads who passes data that can't be used, word for word."""

from pathlib import Path

import pytest

from neftune_cli.data.loading import load_data
from neftune_cli.errors import UsageError

PAIR = '{"prompt": "Why?", "completion": "Because."}\n'
ROWS_TO_MEND = (
    "mine.jsonl, line 1: column 'completion' is empty. Fill it in, or remove the row.\n"
    "mine.jsonl, line 2: column 'completion' is empty. Fill it in, or remove the row.\n"
    "mine.jsonl, line 3: column 'completion' is empty. Fill it in, or remove the row.\n"
    "mine.jsonl, line 4: column 'completion' is empty. Fill it in, or remove the row.\n"
    "mine.jsonl, line 5: column 'completion' is empty. Fill it in, or remove the row.\n"
    "mine.jsonl: and 12 more. Mend or remove all of them, then run the command again."
)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message_of(name: str, **options: int | str) -> str:
    with pytest.raises(UsageError) as refused:
        load_data(name, **options)  # type: ignore[arg-type]
    return str(refused.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("mine.jsonl", "", "mine.jsonl is empty. Put at least a few examples into it."),
        ("mine.jsonl", "\n \n", "mine.jsonl has no rows. Put at least a few examples into it."),
        ("mine.json", "[]", "mine.json has no rows. Put at least a few examples into it."),
        ("mine.csv", "prompt,completion\n", "mine.csv has no rows. Put at least a few examples into it."),
        (
            "mine.txt",
            "Why?",
            "mine.txt: files ending in '.txt' are not understood. "
            "Pass a file ending in .json, .jsonl, .csv or .parquet.",
        ),
        (
            "mine.jsonl",
            PAIR + "{'prompt': 'single quotes are Python, and this line is rather long'}\n",
            "mine.jsonl, line 2: not JSON at column 2 (Expecting property name enclosed in double quotes). The line "
            "starts: {'prompt': 'single quotes are Python, and this line is rathe… Write one JSON object a line; a "
            "list of objects belongs in a .json file.",
        ),
        (
            "mine.jsonl",
            '["Why?"]\n',
            'mine.jsonl, line 1: ["Why?"] is not an object with named columns. Write one JSON object a line; a list of '
            "objects belongs in a .json file.",
        ),
        (
            "mine.json",
            '[{"prompt": "Why?"},\n {"prompt" "Who?"}]',
            'mine.json, line 2: not JSON at column 12 (Expecting \':\' delimiter). The line starts: {"prompt" "Who?"}] '
            "Mend it, or write one object a line in a .jsonl file.",
        ),
        (
            "mine.json",
            '{"prompt": "Why?"}',
            "mine.json holds neither a list of objects nor one under the key 'data'. "
            'Write [{"instruction": "...", "output": "..."}, ...].',
        ),
        (
            "mine.json",
            '["Why?"]',
            'mine.json, row 1: "Why?" is not an object with named columns. '
            "Write every example as an object with named columns.",
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
            "mine.csv, line 2: not CSV (unexpected end of data). "
            'Put text in double quotes and write "" for a quote in it, or pass the data as .jsonl.',
        ),
        (
            "mine.parquet",
            "prompt,completion\n",
            "mine.parquet is not a Parquet file, or a damaged one. Write it again, or pass the data as .jsonl or .csv.",
        ),
        (
            "mine.jsonl",
            '{"question": "Why?", "answer": "Because."}\n',
            "mine.jsonl has the columns question, answer, which don't make the layout alpaca, prompt-completion, "
            "messages, text. Understood are: instruction, output, [input] (alpaca); instruction, response, [context] "
            "(alpaca); prompt, completion (prompt-completion); messages (messages); conversations (messages); "
            "text (text).",
        ),
        ("mine.jsonl", '{"prompt": "Why?", "completion": ""}\n' * 17, ROWS_TO_MEND),
        (
            "mine.jsonl",
            PAIR * 9,
            "mine.jsonl is too small to train on some examples and hold out others (different examples: 1, "
            "different prompts: 1). Add examples; the least are 2 to train on and 2 held out, of other prompts.",
        ),
    ],
)
def test_content(file: str, content: str, message: str) -> None:
    Path(file).write_text(content)
    assert message_of(file) == message


def test_bytes_that_are_not_utf8() -> None:
    Path("mine.jsonl").write_bytes(PAIR.encode() + '{"prompt": "Où ?"}'.encode("latin-1"))
    assert message_of("mine.jsonl") == (
        "mine.jsonl, line 2: byte 0xf9 is not UTF-8 text. "
        "Save the file as UTF-8: iconv -f LATIN1 -t UTF-8 mine.jsonl > utf8.txt"
    )


def test_a_mistyped_file() -> None:
    Path("mine.jsonl").write_text(PAIR)
    assert message_of("mien.jsonl") == (
        "There is no file or folder 'mien.jsonl'. Did you mean mine.jsonl? "
        "Pass bios, a hub id, a saved folder, or a file ending in .json, .jsonl, .csv or .parquet."
    )


def test_a_folder_that_datasets_did_not_save() -> None:
    Path("data").mkdir()
    nothing = message_of("data")
    Path("data/mine.csv").write_text("text\na\n")
    told = "The folder data was not saved by datasets' save_to_disk. "
    assert nothing == told + "Pass a file, or a folder written by save_to_disk."
    assert message_of("data") == told + "Pass one of its files: data/mine.csv."


def test_a_folder_without_a_training_split() -> None:
    from datasets import Dataset, DatasetDict

    one = Dataset.from_list([{"text": "a"}])
    DatasetDict(dev=one, test=one).save_to_disk("data")
    assert message_of("data") == (
        "data has no split 'train', but dev, test. "
        "Save the split you mean by itself: dataset[SPLIT].save_to_disk('FOLDER')."
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "ConnectionError",
            "'me/mine' is neither a file here nor in the local cache, and the Hugging Face Hub can't be reached for "
            "it. Set HF_HUB_OFFLINE=0 and check the connection, or pass a local file. Or save it where there is a "
            "connection: datasets.load_dataset('me/mine').save_to_disk('FOLDER'), then --dataset FOLDER.",
        ),
        (
            "DatasetNotFoundError",
            "There is no file 'me/mine' here and no such data set on the Hugging Face Hub, or it is private or gated. "
            "Check the spelling, or log in with: hf auth login",
        ),
        (
            "ValueError",
            "The data set 'me/mine' can't be loaded from the Hugging Face Hub: Config name is missing. Pick one of "
            "a, b. Load it in Python and pass a folder: datasets.load_dataset('me/mine').save_to_disk('FOLDER'), "
            "then --dataset FOLDER.",
        ),
    ],
)
def test_the_hub(error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
            "--eval-examples 500 leaves 0 to train on in sums.csv (different examples: 30, different prompts: 30). "
            "Ask for fewer, for instance --eval-examples 6.",
        ),
        (
            {"train_examples": 1, "eval_examples": 0},
            "--train-examples 1 is too few. Ask for 2 or more.\n--eval-examples 0 is too few. Ask for 2 or more.",
        ),
        (
            {"layout": "alpaka"},
            "--format 'alpaka' is not a layout. Did you mean alpaca? "
            "Layouts are alpaca, prompt-completion, messages, text.",
        ),
        (
            {"layout": "messages"},
            "sums.csv has the columns prompt, completion, which don't make the layout messages. "
            "Understood are: messages (messages); conversations (messages).",
        ),
    ],
)
def test_options(options: dict[str, int | str], message: str) -> None:
    Path("sums.csv").write_text("prompt,completion\n" + "".join(f"{n}+1?,{n + 1}\n" for n in range(30)))
    assert message_of("sums.csv", **options) == message


def test_a_layout_for_the_embedded_data() -> None:
    assert message_of("bios", layout="text") == (
        "--format text is for data of your own; bios has its layout already. Leave --format out."
    )
