"""Loading: bundled and local data sets are split, fingerprinted and described in notes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.data.loading import load_data


def write_sums(path: Path, numbers: list[int]) -> str:
    path.write_text("".join(json.dumps({"instruction": f"{n}+1?", "output": str(n + 1)}) + "\n" for n in numbers))
    return str(path)


def test_notes_on_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_data(write_sums(Path("sums.jsonl"), [*range(50), 7, 8, 9]), train_examples=30)
    assert data.name == "sums.jsonl"
    assert (len(data.train), len(data.held_out), len(data.probe)) == (30, 10, 30)
    assert data.generation == GenerationDefaults(max_new_tokens=128, repetition_penalty=1.2)
    assert data.notes == (
        "sums.jsonl has the layout alpaca (columns: instruction, output).",
        "30 examples for training and 10 held out, chosen by content hash.",
        "3 examples dropped as duplicates (same prompt and completion).",
        "10 examples not used.",
    )


def test_fingerprint_depends_on_the_examples_and_not_on_the_file(tmp_path: Path) -> None:
    one = load_data(write_sums(tmp_path / "one.jsonl", list(range(40))))
    reversed_rows = load_data(write_sums(tmp_path / "two.jsonl", list(range(39, -1, -1))))
    other = load_data(write_sums(tmp_path / "three.jsonl", list(range(1, 41))))
    assert one.fingerprint == reversed_rows.fingerprint != other.fingerprint


def test_notes_on_the_bundled_data_set() -> None:
    data = load_data("bios", train_examples=20, eval_examples=10)
    assert (len(data.train), len(data.held_out), len(data.probe)) == (20, 10, 20)
    assert data.generation == GenerationDefaults(max_new_tokens=96, repetition_penalty=1.0)
    assert data.notes == (
        "20 examples for training and 10 held out, chosen by content hash.",
        "bios is split by person: held-out questions are about other people and have other phrasings.",
    )


def test_loading_the_bundled_data_set_imports_no_heavy_library() -> None:
    code = "import sys; from neftune_cli.data.loading import load_data; load_data('bios'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "datasets", "pandas", "pyarrow"} & set(loaded)
