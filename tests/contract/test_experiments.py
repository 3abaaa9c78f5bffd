"""The experiment files state a hypothesis, and their sweeps can be planned."""

from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from tests.command_line import Neftune

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_compares_with_alpha_0_and_can_be_planned(file: Path, neftune: Neftune) -> None:
    assert file.read_text(encoding="utf-8").startswith("# Hypothesis: ")
    spec = resolve_sweep(file, {})
    assert [arm.name for arm in spec.arms] == ["alpha=0", "alpha=5", "alpha=10", "alpha=15"]
    bundled = ("--model", "tiny", "--dataset", "bios", "--train-examples", "64", "--output", "out")
    done = neftune("sweep", str(file), *bundled, "--dry-run", "--no-estimate")
    assert (done.code, "alpha=15" in done.out or "alpha 15" in done.out) == (0, True), done.err


def test_the_models_are_those_that_the_guides_name() -> None:
    models = {file.stem: (spec.model, spec.train.lora_rank) for file in FILES if (spec := resolve_sweep(file, {}))}
    assert models == {
        "ablation": ("tiny", None),
        "llama2_alpaca": ("meta-llama/Llama-2-7b-hf", None),
        "qwen3_0.6b": ("Qwen/Qwen3-0.6B-Base", None),
        "smollm2": ("smollm2", None),
        "smollm2_1.7b_lora": ("HuggingFaceTB/SmolLM2-1.7B", 16),
    }


def test_the_recipe_of_the_paper_has_its_batch() -> None:
    spec = resolve_sweep(FOLDER / "llama2_alpaca.yaml", {})
    per_gpu, accumulation, gpus = 4, 8, 4  # the authors' command
    assert spec.train.batch_size * spec.train.sft["gradient_accumulation_steps"] == per_gpu * accumulation * gpus
    assert (spec.train.learning_rate, spec.noise_scale) == (5e-5, "paper")
    assert (spec.train.sft["lr_scheduler_type"], spec.train.sft["warmup_steps"]) == ("cosine", 0.03)
