"""Tiny models of many architectures, fully and with LoRA: `sweep` trains and compares them, or refuses them at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Neftune
from tests.tiny_architectures import ARCHITECTURES, Architecture, architecture

FAST = ("qwen3_moe", "phimoe", "mamba", "opt_projected", "gemma3", "t5")
"""One of each kind for the fast suite."""
SLOW_WITH_LORA = ("opt_projected", "gemma3")
"""Kinds without experts or a refusal of LoRA, whose adapters are like those of each other and of the bundled model."""
RECIPE = "--alphas 0,5 --seeds 1 --max-steps 2 --batch-size 2 --train-examples 8 --eval-examples 4".split()
SHORT = "--max-new-tokens 6 --workers 0 --no-estimate --quiet --json".split()


def check(one: Architecture, neftune: Neftune, folder: Path, *, lora: bool) -> None:
    directory = one.save(folder)
    adapters = ["--lora-rank", "4"] if lora else []
    result = neftune("sweep", "--model", str(directory), *RECIPE, *SHORT, *adapters, "--output", "out")
    if refusal := one.refusal(lora=lora):
        assert result.code == 2, result.err
        assert refusal in result.err.replace("\n  ", " ")
        assert not list(Path("out").rglob("record.json"))
        return
    assert result.code == 0, result.err
    compared = neftune("compare", "out", "--format", "json")
    assert compared.code == 0, compared.err
    records = [json.loads(path.read_text()) for path in Path("out").rglob("record.json")]
    assert sorted(record["arm"] for record in records) == ["alpha=0", "alpha=5", "base"]
    check_records({record["arm"]: record for record in records})


def check_records(records: dict[str, Any]) -> None:
    clean, noisy = records["alpha=0"], records["alpha=5"]
    assert clean["loss"]["eval_loss"] != records["base"]["loss"]["eval_loss"]
    assert clean["loss"]["train_loss"] != noisy["loss"]["train_loss"]
    assert noisy["attestation"]["noised_padding"] == 0
    # random weights predict 2,048 tokens almost evenly: ln 2048 = 7.6 nats
    for record in (clean, noisy):
        assert 4 < record["loss"]["train_loss"] < 20
        assert 4 < record["loss"]["eval_loss"] < 20


FAST_CASES = [
    pytest.param(name, lora, marks=[pytest.mark.slow] if lora and name in SLOW_WITH_LORA else [], id=f"{name}-{kind}")
    for name in FAST
    for lora, kind in ((False, "full"), (True, "LoRA"))
]


@pytest.mark.parametrize(("name", "lora"), FAST_CASES)
def test_one_architecture_of_each_kind(name: str, lora: bool, neftune: Neftune, tmp_path: Path) -> None:
    check(architecture(name), neftune, tmp_path, lora=lora)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("one", [one for one in ARCHITECTURES if one.name not in FAST], ids=str)
def test_architecture(one: Architecture, lora: bool, neftune: Neftune, tmp_path: Path) -> None:
    check(one, neftune, tmp_path, lora=lora)
