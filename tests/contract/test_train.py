"""`neftune train` and other training paths end to end: kept model, adapters, plain text, divergence, dry run."""

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.store import SweepFolder
from tests.command_line import CommandResult, Neftune, overridden
from tests.small_model import SMALL_MODEL, WITH_SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

SMALL = (
    *WITH_SMALL_MODEL,
    *("--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "8"),
)
SWEEP = ("sweep", "--seeds", "1", "--no-estimate")
DIVERGING = ("sweep", "experiment.yaml", *overridden(*SWEEP[1:], *SMALL, "--max-steps", "5"))


def rows(path: Path, examples: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path.name


@dataclass(frozen=True)
class Trained:
    """The output of `neftune train`, and the results folder of its training."""

    result: CommandResult
    folder: Path


@pytest.fixture(scope="module")
def kept_results() -> list[Trained]:
    """Return the list that keeps the training of this module."""
    return []


@pytest.fixture
def trained(
    neftune: Neftune, tmp_path: Path, kept_results: list[Trained], tmp_path_factory: pytest.TempPathFactory
) -> CommandResult:
    """Train once for all tests, copy the results to `results/one` in the test's folder, and return the output."""
    if not kept_results:
        result = neftune("train", "--alpha", "5", *SMALL, "--output", "results/one")
        kept_results.append(Trained(result, tmp_path_factory.mktemp("trained")))
        shutil.copytree(tmp_path / "results", kept_results[0].folder, dirs_exist_ok=True)
    else:
        shutil.copytree(kept_results[0].folder, tmp_path / "results")
    return kept_results[0].result


def test_the_kept_model_can_be_trained_again(neftune: Neftune, tmp_path: Path, trained: CommandResult) -> None:
    model = next(tmp_path.glob("results/one/trials/alpha=5,seed=0-*/model"))
    assert (trained.code, f"Model: {model.relative_to(tmp_path)}" in trained.err) == (0, True)
    again = neftune(*overridden(*SWEEP, "--alphas", "0", *SMALL, "--model", str(model), "--output", "results/two"))
    assert again.code == 0
    before, after = (pd.read_csv(tmp_path / "results" / name / "loss.csv").eval_loss for name in ("one", "two"))
    assert after[0] == pytest.approx(
        before[1], rel=1e-5
    )  # the base model of the second training run is the model of the first


def test_the_trained_model_is_compared_with_the_base_model(tmp_path: Path, trained: CommandResult) -> None:
    losses = pd.read_csv(tmp_path / "results" / "one" / "loss.csv").set_index("arm").eval_loss
    before, after = losses["base"], losses["alpha=5"]
    rows = [re.split("  +", line.strip()) for line in trained.out.splitlines()]
    assert rows[0] == ["base model", "alpha=5", "change"]
    sign = "\N{MINUS SIGN}" if after < before else "+"
    assert ["Held-out loss ↓", f"{before:.4f}", f"{after:.4f}", f"{sign}{abs(after - before):.4f}"] in rows
    assert (tmp_path / "results" / "one" / "summary.md").is_file()


@pytest.mark.parametrize(
    ("examples", "batch", "drops_last", "expected"),
    [
        (8, 16, False, "2 steps of up to 16 examples, which are 2 epochs. 8 of 8 training examples were used."),
        (27, 8, False, "2 steps of up to 8 examples, which are 0.5 epochs. 16 of 27 training examples were used."),
        (31, 8, True, "2 steps of up to 8 examples, which are 0.667 epochs. 16 of 31 training examples were used."),
        (15, 8, True, "2 steps of up to 8 examples, which are 2 epochs. At least 8 of 15 training examples were used."),
    ],
)
def test_max_steps_reports_epochs_and_examples(
    neftune: Neftune, tmp_path: Path, examples: int, batch: int, drops_last: bool, expected: str
) -> None:
    sizes = ("--train-examples", str(examples), "--batch-size", str(batch))
    drop = ("--set", f"dataloader_drop_last={str(drops_last).lower()}")
    result = neftune(*overridden(*SWEEP, "--alphas", "0", *SMALL, *sizes, *drop, "--quiet"))
    assert f"Length of training: {expected}" in result.err
    (trial,) = (tmp_path / "results" / "small-bios" / "trials").glob("alpha=0*")
    last = json.loads((trial / "metrics.jsonl").read_text().splitlines()[-1])
    assert f" {last['epoch']:.3g} epochs" in expected  # the epoch that the trainer logged


def test_examples_that_are_too_long_do_not_count_as_trained_on(neftune: Neftune, tmp_path: Path) -> None:
    prompts = [f"Why {number}?{' Really?' * (60 if number % 3 else 1)}" for number in range(30)]
    file = rows(tmp_path / "data.jsonl", [{"prompt": prompt, "completion": "So."} for prompt in prompts])
    (tmp_path / "lengths.yaml").write_text("evaluation: {max_length: 400}\n")
    lengths = (
        "--dataset",
        file,
        "--max-length",
        "40",
        "--batch-size",
        "4",
        "--max-steps",
        "1",
        "--output",
        "results/a",
    )
    model = (*WITH_SMALL_MODEL, "--max-new-tokens", "4")
    result = neftune("sweep", "lengths.yaml", *overridden(*SWEEP[1:], "--alphas", "0", *model, *lengths))
    dropped, total = map(int, re.findall(r"(\d+) of (\d+) training examples dropped", result.err)[0])
    left = total - dropped
    assert f"{4 / left:.3g}" != f"{4 / total:.3g}"
    assert f"4 of {left} training examples were used." in result.err
    assert f"{dropped} of {total} probe examples are not trained on: " in result.err
    (trial,) = (tmp_path / "results" / "a" / "trials").glob("alpha=0*")
    last = json.loads((trial / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"which are {last['epoch']:.3g} epochs." in result.err  # the epoch that the trainer logged


@pytest.mark.usefixtures("trained")
def test_compare_shows_a_training_apart_from_a_sweep(neftune: Neftune, tmp_path: Path) -> None:
    neftune(*SWEEP, "--alphas", "0,5", *SMALL, "--output", "results/more", "--quiet")
    for name in ("one", "more"):
        (tmp_path / "results" / name / "summary.md").unlink()
    result = neftune("compare", "results")
    assert result.code == 0
    assert "Not compared with more: single training runs and sweeps are compared separately." in result.out
    assert [(tmp_path / "results" / name / "summary.md").is_file() for name in ("one", "more")] == [True, True]


def test_a_folder_with_another_training_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    SweepFolder(tmp_path / "one").open(resolve_sweep(None, {"alphas": [5.0], "seeds": [0]}))
    for other in (("--alpha", "0"), ("--seed", "1")):
        result = neftune("train", *other, "--output", "one", "--quiet")
        assert (result.code, result.err) == (
            2,
            "Error: `neftune train` needs a folder with one training run; one already has trials of other arms or "
            "seeds.\n"
            "  Use another folder with --output, or `neftune sweep`.\n",
        )


def test_lora_adapters_train_with_the_noise_scale_of_transformers(neftune: Neftune, tmp_path: Path) -> None:
    extra = ("--lora-rank", "4", "--noise-scale", "hf")
    result = neftune(*SWEEP, "--alphas", "5", *SMALL, *extra, "--output", "out", "--quiet")
    assert result.code == 0
    assert pd.read_csv(tmp_path / "out" / "loss.csv").arm.tolist() == ["base", "alpha=5"]


def test_plain_text_trains_without_generation(neftune: Neftune, tmp_path: Path) -> None:
    data = rows(tmp_path / "text.jsonl", [{"text": f"The number {n} follows {n - 1}."} for n in range(1, 30)])
    result = neftune(*SWEEP, "--dataset", data, "--alphas", "0", *SMALL, "--output", "out")
    assert result.code == 0
    assert pd.read_csv(tmp_path / "out" / "eval.csv").exact_match.isna().all()
    assert [record.probe_eval for record in SweepFolder(tmp_path / "out").records()] == [None, None]


def test_a_diverging_arm_does_not_stop_the_others(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(
        "arms:\n  - {name: wild, train: {learning_rate: 1.0e+30, max_grad_norm: 0}}\n  - {alpha: 5}\n"
    )
    result = neftune(*DIVERGING, "--output", "out")
    assert result.code == 1
    assert "wild, seed 0 failed: A noise-off loss is not finite after step" in result.err
    assert pd.read_csv(tmp_path / "out" / "loss.csv").arm.tolist() == ["base", "alpha=5"]
    assert "Trials run, the base model included: 3, done before: 0" in result.err
    again = neftune(*DIVERGING, "--output", "out", "--json", "--quiet")
    summary = json.loads(again.out)
    assert (again.code, list(summary["failed"])) == (1, ["wild, seed 0"])
    assert (summary["run_now"], summary["already_done"]) == (0, 2)
    retried = neftune(*DIVERGING, "--output", "out", "--json", "--quiet", "--retry", "failed")
    assert (retried.code, json.loads(retried.out)["run_now"]) == (1, 1)


def test_a_base_model_with_losses_that_are_not_numbers_fails(neftune: Neftune, tmp_path: Path) -> None:
    shutil.copytree(SMALL_MODEL, tmp_path / "damaged")
    weights = load_file(tmp_path / "damaged" / "model.safetensors")
    weights["model.embed_tokens.weight"][100:].fill_(math.nan)
    save_file(weights, tmp_path / "damaged" / "model.safetensors", metadata={"format": "pt"})
    result = neftune(*overridden(*SWEEP, "--alphas", "0", *SMALL, "--model", "damaged", "--output", "out"))
    assert result.code == 1
    assert "base failed: A loss of the base model is not finite. Check the weights of the model." in result.err
    assert SweepFolder(tmp_path / "out").records() == []


def test_a_dry_run_prints_the_plan_and_writes_no_file(neftune: Neftune, tmp_path: Path) -> None:
    few = (*WITH_SMALL_MODEL, "--train-examples", "40", "--eval-examples", "4", "--max-new-tokens", "8")
    result = neftune("sweep", "--dry-run", "--json", "--alphas", "0,5", "--seeds", "2", *few)
    plan = json.loads(result.out)["trials"]
    assert [(one["arm"], one["seed"], one["steps"]) for one in plan] == [
        ("base", None, 0),
        ("alpha=0", 0, 9),
        ("alpha=5", 0, 9),
        ("alpha=0", 1, 9),
        ("alpha=5", 1, 9),
    ]
    assert list(tmp_path.iterdir()) == []
