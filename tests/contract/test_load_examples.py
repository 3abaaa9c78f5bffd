"""`load_examples` gives datasets that SFTTrainer trains on, with NEFTuneCallback, in every layout README shows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli import NEFTuneCallback, load_examples
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import tokenize
from neftune_cli.errors import UsageError
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import BUNDLED_MODEL_DIRECTORY, find_model
from tests.data_files import json_lines

pytestmark = pytest.mark.usefixtures("empty_working_directory")

STEPS, BATCH_SIZE = 2, 2
ROWS = 4


def pair(number: int) -> tuple[str, str]:
    return f"What follows {number}?", f"{number + 1}."


def alpaca(number: int) -> dict[str, Any]:
    question, answer = pair(number)
    return {"instruction": question, "input": "", "output": answer}


def prompt_completion(number: int) -> dict[str, Any]:
    question, answer = pair(number)
    return {"prompt": question, "completion": answer}


def messages(number: int) -> dict[str, Any]:
    question, answer = pair(number)
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def text(number: int) -> dict[str, Any]:
    return {"text": " ".join(pair(number))}


CONVERSATIONAL = {"alpaca": alpaca, "prompt-completion": prompt_completion, "messages": messages}


def written(make_row: Any) -> str:
    Path("mine.jsonl").write_text(json_lines(make_row(number) for number in range(ROWS)))
    return "mine.jsonl"


def trainer_of(file: str) -> SFTTrainer:
    return SFTTrainer(
        model=str(BUNDLED_MODEL_DIRECTORY),
        args=SFTConfig(
            "out", max_steps=STEPS, per_device_train_batch_size=BATCH_SIZE, use_cpu=True, report_to="none", bf16=False
        ),
        train_dataset=load_examples(file),
        callbacks=[NEFTuneCallback(alpha=5.0)],
    )


@pytest.mark.parametrize("make_row", [*CONVERSATIONAL.values(), text], ids=[*CONVERSATIONAL, "text"])
def test_sft_trainer_trains_with_noise(make_row: Any) -> None:
    trainer = trainer_of(written(make_row))
    trainer.train()
    (noise,) = [one for one in trainer.callback_handler.callbacks if isinstance(one, NEFTuneCallback)]
    assert trainer.state.global_step == STEPS
    assert noise.attestation is not None
    assert noise.attestation.calls == STEPS
    assert noise.attestation.rms == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("make_row", CONVERSATIONAL.values(), ids=CONVERSATIONAL)
def test_trl_and_a_sweep_compute_the_loss_on_the_same_tokens(make_row: Any) -> None:
    file = written(make_row)
    data = load_data(InputSpec(dataset=file, eval_examples=2))
    tokenized = tokenize((*data.train, *data.held_out), load_model(find_model("tiny")).tokenizer, max_length=512)
    in_sweep = {one.input_ids[one.prompt_length :] for one in tokenized.examples}
    rows: Any = trainer_of(file).train_dataset
    in_trl = {tuple(token for token in row["labels"] if token != -100) for row in rows}
    assert in_trl == in_sweep


def test_all_rows_are_loaded_in_order_with_duplicates() -> None:
    Path("mine.csv").write_text("prompt,completion\n" + "Why?,Because.\n" * 2 + "Who?,Ada.\n")
    dataset = load_examples("mine.csv")
    assert dataset.column_names == ["prompt", "completion"]
    assert [row["completion"][0]["content"] for row in dataset] == ["Because.", "Because.", "Ada."]
    assert dataset[2]["prompt"] == [{"role": "user", "content": "Who?"}]


def test_bundled_data_set_gives_its_training_examples() -> None:
    dataset = load_examples("bios")
    assert [row["prompt"] for row in dataset] == [list(one.prompt) for one in load_data(InputSpec()).train]


def test_unusable_rows_are_reported_with_their_lines() -> None:
    Path("mine.jsonl").write_text('{"prompt": "Why?", "completion": "Because."}\n{"prompt": "", "completion": "So."}')
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2: column 'prompt' is empty"):
        load_examples("mine.jsonl")


def test_importing_it_imports_no_heavy_library() -> None:
    code = "import sys; from neftune_cli import load_examples; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "datasets", "pandas", "pyarrow"} & set(loaded)


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_a_turn_that_is_not_learned_is_no_part_of_the_completion() -> None:
    completion = [turn("assistant", "Wrong.", weight=0), turn("user", "Sure?"), turn("assistant", "Right.")]
    rows = [{"prompt": [turn("user", f"Question {number}")], "completion": completion} for number in range(ROWS)]
    Path("mine.jsonl").write_text(json_lines(rows))
    dataset = load_examples("mine.jsonl")
    assert [[one["content"] for one in row["completion"]] for row in dataset] == [["Right."]] * ROWS
    assert [one["content"] for one in dataset[0]["prompt"]] == ["Question 0", "Wrong.", "Sure?"]
    data = load_data(InputSpec(dataset="mine.jsonl", eval_examples=2))
    tokenizer = load_model(find_model("tiny")).tokenizer
    tokenized = tokenize((*data.train, *data.held_out), tokenizer, max_length=512)
    in_sweep = {tuple(label for label in one.labels if label != -100) for one in tokenized.examples}
    prepared: Any = trainer_of("mine.jsonl").train_dataset
    assert {tuple(label for label in row["labels"] if label != -100) for row in prepared} == in_sweep


def test_a_turn_that_is_not_learned_after_a_learned_one_is_reported_with_its_line() -> None:
    answers = [turn("assistant", "Right."), turn("user", "Sure?"), turn("assistant", "Wrong.", weight=0)]
    good = {"prompt": [turn("user", "Why?")], "completion": [turn("assistant", "So.")]}
    bad = {"prompt": [turn("user", "Why?")], "completion": [*answers, turn("user", "Sure?"), turn("assistant", "Yes.")]}
    Path("mine.jsonl").write_text(json_lines([good, bad, bad]))
    with pytest.raises(UsageError) as error:
        load_examples("mine.jsonl")
    assert str(error.value) == (
        "mine.jsonl, line 2, line 3: the completion has an assistant turn with the weight 0 after a learned one, which "
        "TRL cannot skip. Divide the row into one for each learned turn, or remove it."
    )


PREFERENCES = [{"prompt": f"What follows {n}?", "chosen": f"{n + 1}.", "rejected": "None."} for n in range(ROWS)]


@pytest.mark.parametrize(
    "columns", [{"prompt": "prompt", "completion": "chosen"}, "prompt=prompt,completion=chosen"], ids=["dict", "text"]
)
def test_preference_data_are_read_as_the_message_says(columns: Any) -> None:
    Path("mine.jsonl").write_text(json_lines(PREFERENCES))
    with pytest.raises(UsageError) as error:
        load_examples("mine.jsonl")
    assert str(error.value).endswith(
        "Use --columns prompt=prompt,completion=chosen to train on the preferred answers. "
        'In load_examples: columns="MEANING=COLUMN,...".'
    )
    dataset = load_examples("mine.jsonl", columns=columns)
    assert [row["completion"][0]["content"] for row in dataset] == [one["chosen"] for one in PREFERENCES]


def test_a_split_is_chosen_by_name() -> None:
    DatasetDict(
        {split: Dataset.from_list([{"prompt": "Why?", "completion": split}]) for split in ("train_sft", "train_gen")}
    ).save_to_disk("data")
    with pytest.raises(UsageError, match=r'for example --split \w+\. In load_examples: split="NAME"\.$'):
        load_examples("data")
    (row,) = load_examples("data", split="train_gen")
    assert row["completion"][0]["content"] == "train_gen"


def test_a_test_split_may_be_empty() -> None:
    Path("data").mkdir()
    Path("data", "train.jsonl").write_text(json.dumps(alpaca(1)))
    Path("data", "test.jsonl").write_text("[]")
    assert len(load_examples("data")) == 1


def test_bad_rows_are_dropped_with_a_warning() -> None:
    good = [{"prompt": [turn("user", f"{n}?")], "completion": [turn("assistant", "So.")]} for n in range(8)]
    answers = [turn("assistant", "Right."), turn("user", "Sure?"), turn("assistant", "Wrong.", weight=0)]
    unlearnable = {"prompt": [turn("user", "9?")], "completion": [*answers, turn("user", "?"), turn("assistant", "Y.")]}
    rows = [*good, {"prompt": [turn("user", "8?")], "completion": []}, unlearnable]
    Path("mine.jsonl").write_text(json_lines(rows))
    with pytest.raises(UsageError) as error:
        load_examples("mine.jsonl", skip_bad_rows=True, max_bad_share=0.1)
    assert "20.0% of the rows cannot be used" in str(error.value)
    assert "In load_examples: skip_bad_rows=True, max_bad_share=SHARE." in str(error.value)
    with pytest.warns(UserWarning, match=r"Dropped 2 rows of mine\.jsonl that cannot be used") as caught:
        dataset = load_examples("mine.jsonl", skip_bad_rows=True, max_bad_share=0.25)
    assert caught[0].filename == __file__
    assert [row["prompt"][0]["content"] for row in dataset] == [f"{n}?" for n in range(8)]


def test_raw_texts_are_used_as_they_are() -> None:
    Path("mine.jsonl").write_text(json.dumps({"prompt": "<|user|>Why?\n", "completion": "So."}))
    assert list(load_examples("mine.jsonl", raw=True)) == [{"prompt": "<|user|>Why?\n", "completion": "So."}]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"columns": {"prompt": 5}}, r"^columns=\{'prompt': 5\}: "),
        ({"columns": "question"}, "^--columns: 'question' has no column"),
        ({"layout": 5}, "^layout=5: "),
        ({"split": ""}, "^--split is empty"),
        ({"max_bad_share": 2}, "^max_bad_share=2: "),
        ({"skip_bad_rows": "maybe"}, "^skip_bad_rows='maybe': "),
    ],
)
def test_keywords_that_are_not_valid_are_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_examples(written(alpaca), **keywords)


def test_saved_examples_are_a_data_set() -> None:
    load_examples(written(messages)).save_to_disk("saved")
    load_examples("mine.jsonl").to_parquet("saved.parquet")
    expected = load_data(InputSpec(dataset="mine.jsonl"))
    assert [load_data(InputSpec(dataset=form)).fingerprint for form in ("saved", "saved.parquet")] == [
        expected.fingerprint
    ] * 2


def test_a_path_is_a_data_set_and_a_number_is_not(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json_lines(alpaca(number) for number in range(ROWS)))
    assert len(load_examples(file)) == ROWS
    with pytest.raises(UsageError, match="the data set must be a name or a path; 5 was given"):
        load_examples(5)  # type: ignore[arg-type]
