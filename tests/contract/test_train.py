"""`neftune train` keeps a model that `--model` takes again; adapters, packing and other layouts train as well."""

import json
from pathlib import Path

import pandas as pd
import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.store import SweepFolder
from tests.command_line import Neftune

SMALL = ("--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "8")
SWEEP = ("sweep", "--seeds", "1", "--no-estimate")


def rows(path: Path, examples: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path.name


def test_the_trained_model_can_be_trained_again(neftune: Neftune, tmp_path: Path) -> None:
    trained = neftune("train", "--alpha", "5", *SMALL, "--output", "one")
    model = next(tmp_path.glob("one/trials/alpha=5,seed=0-*/model"))
    assert (trained.code, f"The model is in {model.relative_to(tmp_path)}" in trained.err) == (0, True)
    again = neftune(*SWEEP, "--model", str(model), "--alphas", "0", *SMALL, "--output", "two")
    assert again.code == 0
    before, after = (pd.read_csv(tmp_path / name / "loss.csv").eval_loss for name in ("one", "two"))
    assert after[0] == pytest.approx(before[1], rel=1e-5)  # the base of the second is what the first trained


def test_a_folder_has_room_for_one_training(neftune: Neftune, tmp_path: Path) -> None:
    SweepFolder(tmp_path / "one").open(resolve_sweep(None, {"alphas": [5.0], "seeds": [0]}))
    for other in (("--alpha", "0"), ("--seed", "1")):
        ended = neftune("train", *other, "--output", "one")
        assert (ended.code, ended.err) == (
            2,
            "Error: one holds another training.\n"
            "  Give another folder with --output, or use neftune sweep for several.\n",
        )


@pytest.mark.parametrize("extra", [("--lora-rank", "4"), ("--noise-scale", "hf")])
def test_other_ways_to_train_run_through(neftune: Neftune, tmp_path: Path, extra: tuple[str, ...]) -> None:
    ended = neftune(*SWEEP, "--alphas", "5", *SMALL, *extra, "--output", "out", "--quiet")
    assert ended.code == 0
    assert pd.read_csv(tmp_path / "out" / "loss.csv").arm.tolist() == ["base", "alpha=5"]


def test_plain_text_trains_without_prompts_and_generates_nothing(neftune: Neftune, tmp_path: Path) -> None:
    data = rows(tmp_path / "text.jsonl", [{"text": f"The number {n} follows {n - 1}."} for n in range(1, 30)])
    ended = neftune(*SWEEP, "--dataset", data, "--alphas", "0", *SMALL, "--output", "out")
    assert ended.code == 0
    assert pd.read_csv(tmp_path / "out" / "eval.csv").exact_match.isna().all()
    assert [record.probe_eval for record in SweepFolder(tmp_path / "out").records()] == [None, None]


def test_a_diverging_arm_fails_alone(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(
        "seeds: 1\ntrain_examples: 16\neval_examples: 4\nevaluation: {max_new_tokens: 8}\n"
        "arms:\n  - {name: wild, train: {learning_rate: 1.0e+30, max_grad_norm: 0}}\n  - {alpha: 5}\n"
    )
    ended = neftune("sweep", "experiment.yaml", "--max-steps", "5", "--output", "out")
    assert ended.code == 1
    assert "wild, seed 0 failed: A noise-off loss is not finite after step" in ended.err
    assert pd.read_csv(tmp_path / "out" / "loss.csv").arm.tolist() == ["base", "alpha=5"]
    assert "Trials run: 3, done before: 0" in ended.err
    again = neftune("sweep", "experiment.yaml", "--max-steps", "5", "--output", "out", "--json", "--quiet")
    summary = json.loads(again.out)
    assert (again.code, list(summary["failed"])) == (1, ["wild, seed 0"])
    assert (summary["run_now"], summary["already_done"]) == (0, 2)
    retried = neftune(
        "sweep", "experiment.yaml", "--max-steps", "5", "--output", "out", "--json", "--quiet", "--retry", "failed"
    )
    assert (retried.code, json.loads(retried.out)["run_now"]) == (1, 1)


def test_a_dry_run_shows_the_plan_and_writes_nothing(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune("sweep", "--dry-run", "--json", "--alphas", "0,5", "--seeds", "2")
    plan = json.loads(ended.out)["trials"]
    assert [(one["arm"], one["seed"], one["steps"]) for one in plan] == [
        ("base", None, 0),
        ("alpha=0", 0, 75),
        ("alpha=5", 0, 75),
        ("alpha=0", 1, 75),
        ("alpha=5", 1, 75),
    ]
    assert list(tmp_path.iterdir()) == []
