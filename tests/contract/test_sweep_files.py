"""Files of a real sweep, and the effects of running it again and with a further alpha."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from neftune_cli.config.executors import INLINE
from neftune_cli.config.run_settings import Keep, SweepSettings, TrialSettings
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from tests.small_model import SMALL_MODEL_FIELDS
from tests.sweep_requests import request_for

pytestmark = pytest.mark.usefixtures("small_model")

IN_MAIN_PROCESS = SweepSettings(executor=INLINE, estimate=True)
SMALL: dict[str, Any] = {
    **SMALL_MODEL_FIELDS,
    "train_examples": 16,
    "eval_examples": 8,
    "train.batch_size": 8,
    "train.epochs": 2.0,
    "evaluation.max_new_tokens": 16,
}
SHORT: dict[str, Any] = {"evaluation.max_new_tokens": 4, "train.epochs": None, "train.max_steps": 2}
EIGHT_STEPS: dict[str, Any] = {"train.epochs": None, "train.max_steps": 8}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one small sweep and return its folder."""
    folder = tmp_path_factory.mktemp("contract") / "out"
    run(folder)
    return folder


def run(folder: Path, running: SweepSettings = IN_MAIN_PROCESS, *, as_json: bool = False, **changes: Any) -> None:
    from neftune_cli.commands.execution import run_and_report

    options = {"alphas": "0,5", "seeds": "2", **SMALL, **changes}
    given = {name: value for name, value in options.items() if value is not None}
    run_and_report(request_for(folder, given, settings=running), quiet=True, as_json=as_json)


def test_the_folder_has_the_documented_files(swept: Path) -> None:
    names = {path.name for path in swept.iterdir()}
    assert names == {
        "sweep.yaml",
        "manifest.json",
        "loss.csv",
        "eval.csv",
        "curves.csv",
        "summary.md",
        "report.html",
        "plots",
        "trials",
    }
    for trial in (swept / "trials").iterdir():
        assert {path.name for path in trial.iterdir()} == {
            "spec.json",
            "state.json",
            "record.json",
            "metrics.jsonl",
            "examples.parquet",
            "generations.jsonl",
            "log.txt",
        }


def test_the_tables_have_the_documented_columns_and_rows(swept: Path) -> None:
    loss, metrics, curves = (pd.read_csv(swept / f"{name}.csv") for name in ("loss", "eval", "curves"))
    assert list(loss) == ["arm", "alpha", "seed", "train_loss", "train_loss_clean", "eval_loss", "eval_perplexity"]
    assert list(metrics)[3:] == [
        "exact_match",
        "rouge_l",
        "bleu",
        "response_chars",
        "repetition_2gram",
        "log_diversity",
        "truncated",
    ]
    assert loss.arm.tolist() == ["base", "alpha=0", "alpha=0", "alpha=5", "alpha=5"]
    assert loss.loc[0, ["alpha", "seed", "train_loss"]].isna().all()
    steps = curves[curves.train_loss.notna()]
    assert steps.groupby(["arm", "seed"]).size().tolist() == [4, 4, 4, 4]  # 16 examples, 8 per step, 2 epochs


def test_the_losses_are_the_token_weighted_means_of_the_examples(swept: Path) -> None:
    for trial in (swept / "trials").iterdir():
        record = TrialRecord.model_validate_json((trial / "record.json").read_text())
        rows = pd.read_parquet(trial / "examples.parquet")
        last = rows[rows.epoch == rows.epoch.max()]
        for split, value in (("probe", record.loss.train_loss_clean), ("held-out", record.loss.eval_loss)):
            part = last[last.split == split]
            assert value == pytest.approx((part.loss * part.tokens).sum() / part.tokens.sum(), rel=1e-9)


def test_the_last_epoch_is_measured_on_all_examples_if_the_curves_are_not(swept: Path, tmp_path: Path) -> None:
    plain = replace(IN_MAIN_PROCESS, estimate=False)
    overtrained: dict[str, Any] = {"alphas": "0", "seeds": "1", "train.epochs": 6.0, "train.learning_rate": 0.1}
    overtrained["evaluation.max_new_tokens"] = 4  # responses are not compared
    run(tmp_path / "few", plain, **{**overtrained, "evaluation.curve_examples": 3})
    run(tmp_path / "all", plain, **overtrained)
    loss, expected = (pd.read_csv(tmp_path / name / "loss.csv") for name in ("few", "all"))
    pd.testing.assert_frame_equal(loss, expected)
    (trial,) = (tmp_path / "few" / "trials").glob("alpha=0*")
    notes = TrialRecord.model_validate_json((trial / "record.json").read_text()).notes
    assert sum(note.endswith("those of 3 held-out and 3 probe examples (--curve-examples).") for note in notes) == 1
    rows = pd.read_parquet(trial / "examples.parquet")
    held_out = rows[rows.split == "held-out"]
    counts = held_out.groupby("epoch").size().to_dict()
    assert set(counts.values()) == {3, 8}  # the loss falls and rises
    assert counts[6] == 8
    epochs_of = held_out.groupby("example").size()
    part = held_out[held_out.example.map(epochs_of) == 6]
    assert part.example.nunique() == 3
    curves = pd.read_csv(tmp_path / "few" / "curves.csv")
    assert list(curves) == [*pd.read_csv(swept / "curves.csv"), "eval_examples"]
    measured = curves[curves.arm.eq("alpha=0") & curves.eval_loss.notna()]
    for epoch, count in counts.items():
        assert measured[measured.epoch == epoch].eval_examples.tolist() == sorted({count, 3}, reverse=True)
        shown = measured[(measured.epoch == epoch) & (measured.eval_examples == 3)].eval_loss.item()
        of_epoch = part[part.epoch == epoch]
        assert shown == pytest.approx((of_epoch.loss * of_epoch.tokens).sum() / of_epoch.tokens.sum())


def test_the_metrics_are_the_means_of_the_responses(swept: Path) -> None:
    for trial in (swept / "trials").iterdir():
        record = TrialRecord.model_validate_json((trial / "record.json").read_text())
        responses = [json.loads(line) for line in (trial / "generations.jsonl").read_text().splitlines()]
        assert [one["split"] for one in responses] == ["held-out"] * 8 + ["probe"] * 16  # all training examples
        assert record.probe_eval is not None
        for scores, part in ((record.eval, responses[:8]), (record.probe_eval, responses[8:])):
            assert scores.exact_match == pytest.approx(sum(one["exact_match"] for one in part) / len(part))
            assert scores.rouge_l == pytest.approx(sum(one["rouge_l"] for one in part) / len(part))


def test_responses_and_losses_have_the_same_examples(swept: Path) -> None:
    for trial in (swept / "trials").iterdir():
        responses = [json.loads(line) for line in (trial / "generations.jsonl").read_text().splitlines()]
        losses = pd.read_parquet(trial / "examples.parquet")
        for split in ("held-out", "probe"):
            measured = losses[(losses.split == split) & (losses.epoch == losses.epoch.max())].example.tolist()
            assert [one["example"] for one in responses if one["split"] == split] == measured


def test_arms_have_the_same_batches_and_differ_only_in_noise(swept: Path) -> None:
    curves = pd.read_csv(swept / "curves.csv")
    steps = curves[curves.train_loss.notna()]
    noise_free, noisy = (steps[(steps.alpha == alpha) & (steps.seed == 0)] for alpha in (0, 5))
    assert noise_free.tokens.tolist() == noisy.tokens.tolist()
    assert noise_free.learning_rate.tolist() == noisy.learning_rate.tolist()
    assert noise_free.train_loss.tolist() != noisy.train_loss.tolist()


def test_the_manifest_has_versions_fingerprints_and_times(swept: Path) -> None:
    manifest = json.loads((swept / "manifest.json").read_text())
    assert {"torch", "transformers", "trl", "neftune", "python"} <= set(manifest["versions"])
    assert set(manifest["fingerprints"]) == {"model", "data"}
    assert len(manifest["trials"]) == 5
    assert manifest["started"] <= manifest["ended"]


def test_the_manifest_states_the_arithmetic_of_the_training_and_not_of_the_hardware(swept: Path) -> None:
    manifest = json.loads((swept / "manifest.json").read_text())
    assert manifest["hardware"]["precision"] == "float32"  # the recipe of tiny, also with bfloat16 in hardware


def test_the_manifest_has_estimated_and_measured_costs(swept: Path) -> None:
    manifest = json.loads((swept / "manifest.json").read_text())
    estimate, truth = manifest["estimate"], manifest["truth"]
    assert estimate.keys() == truth.keys()
    assert estimate["trials"].keys() == truth["trials"].keys() == manifest["trials"].keys()
    assert estimate["tokens"] == truth["tokens"]
    assert (estimate["source"], truth["source"]) == ("calibration", "measured")
    assert truth["peak_memory"] > 0


def test_the_spec_in_the_folder_describes_the_sweep(swept: Path) -> None:
    from neftune_cli.config.resolve import resolve_sweep

    assert resolve_sweep(swept / "sweep.yaml", {}) == SweepFolder(swept).spec()
    assert yaml.safe_load((swept / "sweep.yaml").read_text())["seeds"] == [0, 1]


def test_the_same_command_trains_nothing_and_a_further_alpha_trains_only_its_arm(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in swept.rglob("*") if path.is_file()}
    run(swept, as_json=True)
    second = json.loads(capsys.readouterr().out)
    assert (second["run_now"], second["already_done"]) == (0, 5)
    assert {path: path.read_bytes() for path in swept.rglob("*") if path.is_file()} == before

    run(swept, as_json=True, alphas="0,5,2.5")
    grown = json.loads(capsys.readouterr().out)
    assert (grown["run_now"], grown["already_done"]) == (2, 5)
    assert pd.read_csv(swept / "loss.csv").alpha.dropna().tolist() == [0.0, 0.0, 2.5, 2.5, 5.0, 5.0]
    kept = [path for path in before if "trials" in path.parts]
    assert all(path.read_bytes() == before[path] for path in kept)


def test_keep_best_keeps_only_the_best_model(tmp_path: Path) -> None:
    running = SweepSettings(executor=INLINE, keep=Keep.BEST, trial_settings=TrialSettings(keep_model=True))
    run(tmp_path / "out", running, seeds="1", alphas="0,40", **SHORT)
    kept = [record.arm for folder, record in SweepFolder(tmp_path / "out").finished() if folder.model_path.is_dir()]
    losses = pd.read_csv(tmp_path / "out" / "loss.csv").dropna().set_index("arm").eval_loss
    assert kept == [losses.idxmin()]


@pytest.mark.slow
def test_100_trials_take_less_than_50_megabytes(tmp_path: Path) -> None:
    """The trials have the default recipe with fewer steps, on all examples of the bundled data."""
    alphas = ",".join(map(str, range(33)))
    options: dict[str, Any] = {"alphas": alphas, "seeds": "3", **dict.fromkeys(SMALL), **EIGHT_STEPS}
    run(tmp_path / "out", SweepSettings(executor=INLINE), **options)
    assert len(SweepFolder(tmp_path / "out").records()) == 100
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 50e6


def test_the_base_model_of_a_sweep_beside_another_is_not_measured_again(
    swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neftune_cli.training import trial_run

    def fail(*_: object) -> None:
        raise AssertionError("the base model is measured again")

    monkeypatch.setattr(trial_run, "_untrained", fail)
    other = swept.parent / "other"
    fewer: dict[str, Any] = {"alphas": "0", "seeds": "1", "train.epochs": None, "train.max_steps": 1}
    run(other, **fewer)
    (first,), (second,) = (list((folder / "trials").glob("base-*")) for folder in (swept, other))
    for name in ("record.json", "examples.parquet", "generations.jsonl", "metrics.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
