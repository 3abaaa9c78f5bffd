"""Weights of 4 bits: what is required, and a LoRA training on them where a CUDA GPU and bitsandbytes are."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from neftune_cli.errors import Problem
from neftune_cli.models import quantization
from neftune_cli.models.quantization import loading_options, quantization_problems
from tests.command_line import Neftune
from tests.tiny_architectures import architecture

NO_ADAPTERS = Problem(
    "--load-in-4bit quantizes the weights, and quantized weights cannot be trained.",
    "Add LoRA adapters, for example --lora-rank 16.",
)
NO_GPU = Problem("--load-in-4bit requires a CUDA GPU, which this machine does not have.", "Leave it out.")
NO_PACKAGE = Problem(
    "--load-in-4bit requires the Python package bitsandbytes, which is not installed.",
    "Run: pip install bitsandbytes",
)


@pytest.mark.parametrize("ranks", [[16], [16, None]])
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("package", [True, False])
def test_each_missing_requirement_is_one_problem(
    ranks: list[int | None], gpu: bool, package: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(quantization, "find_spec", lambda _: object() if package else None)
    expected = [NO_ADAPTERS] * (None in ranks) + [NO_GPU] * (not gpu) + [NO_PACKAGE] * (not package)
    assert list(quantization_problems(ranks)) == expected


def test_the_weights_are_nf4_and_multiplied_in_bfloat16() -> None:
    config = loading_options()["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert (config.bnb_4bit_use_double_quant, config.bnb_4bit_compute_dtype) == (True, torch.bfloat16)


@pytest.mark.skipif(torch.cuda.is_available(), reason="requires a machine without a CUDA GPU")
def test_all_problems_are_reported_before_training(neftune: Neftune) -> None:
    result = neftune("sweep", "--load-in-4bit", "--alphas", "0,5", "--seeds", "1", "--dry-run")
    assert result.code == 2
    assert NO_ADAPTERS.what in result.err
    assert NO_GPU.what in result.err.replace("\n  ", " ")


@pytest.mark.skipif(
    not (torch.cuda.is_available() and find_spec("bitsandbytes")), reason="requires a CUDA GPU and bitsandbytes"
)
@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gpt2"])
def test_lora_on_weights_of_4_bits(name: str, tmp_path: Path) -> None:
    directory = architecture(name).save(tmp_path)
    options = "--alphas 0,5 --seeds 1 --max-steps 2 --batch-size 2 --train-examples 8 --eval-examples 4"
    command = [sys.executable, "-m", "neftune_cli", "sweep", "--model", str(directory), *options.split()]
    more = "--load-in-4bit --lora-rank 4 --max-new-tokens 6 --workers 0 --quiet --output".split()
    subprocess.run([*command, *more, str(tmp_path / "out")], check=True)
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("record.json")]
    assert sorted(record["arm"] for record in records) == ["alpha=0", "alpha=5", "base"]
    assert all("bitsandbytes" in record["identity"]["environment"] for record in records)
    losses = {record["arm"]: record["loss"]["eval_loss"] for record in records}
    assert losses["alpha=0"] != losses["base"]
