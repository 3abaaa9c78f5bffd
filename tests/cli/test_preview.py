"""`neftune preview`: roles of tokens, notes, the page, and messages for bad input."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Neftune
from tests.data_files import json_lines

ROWS = [
    {"question": f"Where is <b>{number}</b>?", "answer": f"Place {number}.", "kind": "fact"} for number in range(12)
]


@pytest.fixture
def data(tmp_path: Path) -> str:
    file = tmp_path / "rows.jsonl"
    file.write_text(json_lines(ROWS))
    return str(file)


@pytest.fixture
def recurrent_model(tmp_path: Path) -> str:
    from tests.tiny_architectures import architecture

    return str(architecture("rwkv").save(tmp_path / "rwkv"))


def test_the_parts_of_an_example_in_json(neftune: Neftune, data: str) -> None:
    shown = json.loads(neftune("preview", "--dataset", data, "--rows", "2", "--alpha", "10", "--json").out)
    first, _ = shown["examples"]
    number = int(first["place"].rpartition(" ")[2]) - 1
    learned = "".join(token["text"] for token in first["tokens"] if token["part"] == "learned")
    assert learned == f" Place {number}.<|end|>"
    assert first["learned"] == sum(token["part"] == "learned" for token in first["tokens"])
    assert first["noise_norm"] == pytest.approx(10 / (3 * first["length"]) ** 0.5)


def test_the_first_token_of_plain_text_carries_no_loss(neftune: Neftune, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(json_lines({"text": f"Some text {number}"} for number in range(6)))
    options = ("--dataset", str(file), "--train-examples", "2", "--eval-examples", "2")
    shown = json.loads(neftune("preview", *options, "--noise-target", "completion", "--json").out)["examples"][0]
    assert [token["part"] for token in shown["tokens"]] == ["first", *["learned"] * (shown["length"] - 1)]
    assert shown["learned"] == shown["length"] - 1
    assert all(token["has_noise"] for token in shown["tokens"])
    assert "[first token, no loss] S" in neftune("preview", *options).out


def test_columns_that_are_not_read_are_named(neftune: Neftune, data: str) -> None:
    assert "'kind'" in neftune("preview", "--dataset", data).out


def test_tokens_that_are_cut_off_are_shown(neftune: Neftune, data: str) -> None:
    shown = neftune("preview", "--dataset", data, "--rows", "1", "--max-length", "20").out
    assert "[cut off]" in shown
    assert "truncated: the completion was cut at --max-length 20" in shown


def test_the_page_escapes_the_text_of_the_data(neftune: Neftune, data: str) -> None:
    neftune("preview", "--dataset", data, "--html", "preview.html")
    page = Path("preview.html").read_text()
    assert "&lt;" in page
    assert "<b>" not in page


def test_all_problems_are_reported_at_once(neftune: Neftune) -> None:
    result = neftune("preview", "--dataset", "none.jsonl", "--model", "./none")
    assert result.code == 2
    assert "none.jsonl" in result.err
    assert "./none" in result.err


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ("none/x.html", "--html none/x.html: there is no folder 'none'. Create it, or use another path."),
        ("-", "--html -: this is not the name of a file. Use the path of a file, for example --html preview.html."),
        ("folder", "--html folder: this is a folder. Use the path of a file, for example --html folder/preview.html."),
    ],
)
def test_a_page_that_cannot_be_written_is_reported_with_the_other_problems(
    neftune: Neftune, html: str, message: str
) -> None:
    Path("folder").mkdir()
    result = neftune("preview", "--dataset", "none.jsonl", "--html", html)
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert "none.jsonl" in result.err


@pytest.mark.parametrize("target", ["rows.jsonl", "other.jsonl", "linked.jsonl", "mine.yaml", "own.html"])
def test_a_page_never_replaces_a_file_of_another_kind(neftune: Neftune, data: str, target: str) -> None:
    Path("linked.jsonl").symlink_to(data)
    Path("mine.yaml").write_text(f"dataset: {data}\n")
    Path("other.jsonl").write_text("{}\n")
    Path("own.html").write_text("<!DOCTYPE html><title>Mine</title>")
    path = Path(data) if target == "rows.jsonl" else Path(target)
    before = path.read_bytes()
    result = neftune("preview", "mine.yaml", "--dataset", data, "--html", str(path))
    assert result.code == 2
    expected = (
        f"--html {path}: the file exists, and neftune did not write it as a page or a comparison. Use another path, or "
        "delete the file."
    )
    assert expected in " ".join(result.err.split())
    assert path.read_bytes() == before


def test_a_page_replaces_an_earlier_page_or_an_empty_file(neftune: Neftune, data: str) -> None:
    Path("preview.html").touch()
    for _ in range(2):
        assert neftune("preview", "--dataset", data, "--html", "preview.html").code == 0
    assert Path("preview.html").read_text().startswith("<!DOCTYPE html>")


def test_a_page_that_the_system_refuses_is_a_usage_error(neftune: Neftune, data: str) -> None:
    result = neftune("preview", "--dataset", data, "--html", "x" * 300)
    assert result.code == 2
    assert "cannot be written" in result.err
    assert "Traceback" not in result.err


def test_a_model_that_a_sweep_refuses_is_refused(neftune: Neftune, data: str, recurrent_model: str) -> None:
    results = [neftune(command, "--dataset", data, "--model", recurrent_model) for command in ("preview", "sweep")]
    assert [result.code for result in results] == [2, 2]
    assert all("it ignores the attention mask" in " ".join(result.err.split()) for result in results)


def test_a_note_names_lengths_at_which_other_examples_of_a_batch_matter(
    neftune: Neftune, data: str, tmp_path: Path
) -> None:
    from tests.tiny_architectures import DECODER, Architecture

    factors = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4, "factor": 4.0, "rope_theta": 1e4}
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 60, **factors}
    model = Architecture("llama", {**DECODER, "rope_parameters": rope}).save(tmp_path / "long")
    notes = {}
    for tokens in (2, 60):
        evaluation = f"evaluation: {{max_new_tokens: {tokens}}}"
        Path("mine.yaml").write_text(f"dataset: {data}\nmodel: {model}\n{evaluation}\n")
        notes[tokens] = " ".join(neftune("preview", "mine.yaml").out.split())
    assert notes[2]
    assert "LongRoPE" not in notes[2]
    assert (
        "If an example of a batch has more than 60 tokens, the model uses other position factors (LongRoPE)"
        in notes[60]
    )


@pytest.mark.parametrize("architecture", ["llama", "mpt"])
def test_a_note_counts_the_prompts_that_leave_too_few_tokens_for_a_response(
    neftune: Neftune, tmp_path: Path, architecture: str
) -> None:
    from transformers import AutoTokenizer

    from tests.tiny_architectures import DECODER, Architecture
    from tests.tiny_architectures import architecture as known

    settings = {
        "llama": {**DECODER, "max_position_embeddings": 64},
        "mpt": {**known("mpt").settings, "max_seq_len": 64},
    }
    model = Architecture(architecture, settings[architecture]).save(tmp_path / "small")
    prompts = [f"{'word ' * (number % 3)}{number}?" for number in range(20)]
    Path("mine.jsonl").write_text(json_lines({"prompt": one, "completion": "Yes."} for one in prompts))
    Path("held.jsonl").write_text(json_lines({"prompt": f"Or {one}", "completion": "No."} for one in prompts))
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    lengths = [
        len(tokenizer.apply_chat_template([{"role": "user", "content": one}], add_generation_prompt=True)["input_ids"])
        for one in (*prompts, *(f"Or {one}" for one in prompts))
    ]
    tokens = 64 - sorted(lengths)[20]
    evaluation = f"evaluation: {{max_new_tokens: {tokens}}}\ntrain: {{max_length: 60}}"
    Path("mine.yaml").write_text(f"dataset: mine.jsonl\neval_dataset: held.jsonl\nmodel: {model}\n{evaluation}\n")
    notes = " ".join(neftune("preview", "mine.yaml").out.split())
    short = sum(length + tokens > 64 for length in lengths)
    assert 0 < short < 40
    assert (
        f"{short} of 40 prompts leave fewer than {tokens} tokens (--max-new-tokens) in the model's context of 64 "
        "tokens. A response that reaches the end of the context counts as truncated."
    ) in notes
    shorter = ("--max-new-tokens", str(64 - max(lengths)))
    result = neftune("sweep", "mine.yaml", *shorter, "--dry-run", "--alphas", "0", "--seeds", "1", "--max-steps", "1")
    assert result.code == 0
    assert "in the model's context" not in result.out + result.err


def test_the_adapters_of_an_experiment_file_are_checked(neftune: Neftune, data: str, tmp_path: Path) -> None:
    from tests.tiny_architectures import architecture

    model = architecture("mamba").save(tmp_path / "mamba")
    Path("mine.yaml").write_text(f"dataset: {data}\nmodel: {model}\ntrain: {{lora_rank: 4}}\n")
    result = neftune("preview", "mine.yaml")
    assert result.code == 2
    assert "cannot be trained with LoRA adapters" in " ".join(result.err.split())


def test_weights_of_4_bits_need_adapters_and_the_notes_name_what_the_machine_lacks(
    neftune: Neftune, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = neftune("preview", "--dataset", data, "--load-in-4bit")
    assert refused.code == 2
    assert "Add LoRA adapters, for example --lora-rank 16." in refused.err
    shown = neftune("preview", "--dataset", data, "--load-in-4bit", "--lora-rank", "4").out
    lacking = (
        "A sweep on this machine is refused: --load-in-4bit requires a CUDA GPU, which this machine does not have."
    )
    assert lacking in " ".join(shown.split())


def test_the_notes_say_that_the_memory_is_not_checked(neftune: Neftune, data: str) -> None:
    shown = " ".join(neftune("preview", "--dataset", data).out.split())
    assert "Not checked here: the memory for the training, which `neftune sweep --dry-run` estimates." in shown
