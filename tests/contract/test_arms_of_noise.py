"""Noise fields as arms of a sweep: distributions, schedules, targets and ratios reach the training and are attested."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from neftune_cli.config.noises import (
    DISTRIBUTIONS,
    SCHEDULES,
    NoiseDistribution,
    NoiseSchedule,
    register_noise,
    register_schedule,
)
from neftune_cli.noise.draws import NoiseStream
from tests.command_line import Neftune, overridden
from tests.registries import restored
from tests.small_model import WITH_SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

SMALL = (
    *WITH_SMALL_MODEL,
    *("--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--seeds", "1", "--output", "out"),
    *("--max-new-tokens", "8", "--no-estimate"),
)


def attestations(sweep: Path) -> dict[str, dict[str, float]]:
    records = [json.loads(path.read_text()) for path in sweep.glob("trials/*/record.json")]
    return {record["arm"]: record["attestation"] for record in records if record["attestation"]}


def test_a_grid_of_noise_fields_is_trained_and_attested(neftune: Neftune, tmp_path: Path) -> None:
    Path("grid.yaml").write_text(
        "grid: {alpha: [0, 5], noise: [uniform, bernoulli], noise_target: [all, completion]}\n"
        "arms: [{alpha: 5, noise_schedule: linear}]\n"
    )
    ended = neftune("sweep", "grid.yaml", *SMALL)
    assert ended.code == 0
    found = attestations(tmp_path / "out")
    assert set(found) == {
        "alpha=0",
        "alpha=5",
        "alpha=5,noise_schedule=linear",
        "alpha=5,noise=bernoulli",
        "alpha=5,noise_target=completion",
        "alpha=5,noise=bernoulli,noise_target=completion",
    }
    steps, micro_batches = 2, 2
    assert [found[arm]["calls"] for arm in ("alpha=0", "alpha=5")] == [0, steps * micro_batches]
    assert found["alpha=5"]["noised_share"] == 1
    assert 0 < found["alpha=5,noise_target=completion"]["noised_share"] < 1
    assert all(one["rms"] == pytest.approx(1, abs=0.02) for arm, one in found.items() if arm != "alpha=0")
    assert {(one["evaluation_calls"], one["hooks"]) for one in found.values()} == {(0, 1)}
    losses = pd.read_csv(tmp_path / "out" / "loss.csv").set_index("arm").train_loss_clean
    assert losses.nunique() == len(losses)  # each field changes the training
    assert "Noise was measured in 5 of 20 training forward passes" in neftune("compare", "out", "--full").out


def test_controls_are_compared_with_the_baseline(neftune: Neftune) -> None:
    ended = neftune(*overridden("sweep", "--alphas", "0,5", "--controls", *SMALL, "--batch-size", "8"))
    assert ended.code == 0
    exported = json.loads(neftune("compare", "out", "--format", "json").out)
    (comparison,) = exported["comparisons"]
    losses = {arm: values["mean"] for arm, values in comparison["metrics"]["eval_loss"].items()}
    assert list(losses) == ["alpha=0", "alpha=5", "A/A control", "positive control"]
    assert losses["A/A control"] != losses["alpha=0"]  # other random draws


def test_a_ratio_is_converted_to_an_alpha(neftune: Neftune, tmp_path: Path) -> None:
    ended = neftune("sweep", "--alphas", "0", "--snr", "10", "--noises", "uniform,gaussian", *SMALL)
    assert ended.code == 0
    assert "A signal-to-noise ratio of 10 corresponds to alpha" in ended.err
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("trials/*/record.json")]
    noisy = [record for record in records if record["alpha"]]
    assert len(noisy) == 2
    for record in noisy:
        noise = record["noise"]
        assert noise["noise_norm"] / noise["embedding_norm"] == pytest.approx(0.1, rel=0.005)  # three digits of alpha
        assert record["arm"].startswith(f"alpha={record['alpha']:g}")
    again = neftune("sweep", "--alphas", "0", "--snr", "10", "--noises", "uniform,gaussian", *SMALL)
    assert "0 of 3 trials to run" in again.err


def laplace(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float32) - 0.5
    return -uniforms.sign() * (1 - 2 * uniforms.abs()).log() / math.sqrt(6)


def test_one_registration_adds_a_distribution_and_a_schedule(neftune: Neftune, tmp_path: Path) -> None:
    with restored(DISTRIBUTIONS, SCHEDULES):
        register_noise(NoiseDistribution("laplace", "double exponential", laplace))
        register_schedule(NoiseSchedule("halved", "alpha is halved", lambda _: 0.5))
        assert "laplace" in neftune("sweep", "--help").out
        ended = neftune("sweep", "--alphas", "5", "--noises", "uniform,laplace", "--noise-schedule", "halved", *SMALL)
        text = neftune("compare", "out", "--full").out
    assert ended.code == 0
    found = attestations(tmp_path / "out")
    assert set(found) == {"alpha=5", "alpha=5,noise=laplace"}
    assert found["alpha=5,noise=laplace"]["rms"] == pytest.approx(1, abs=0.02)
    assert "alpha=5,noise=laplace" in text
    ended = neftune("sweep", "--alphas", "0,5", "--noise", "laplace", *SMALL)
    assert ended.code == 2
    assert "laplace" in ended.err
    assert "uniform, gaussian or bernoulli" in ended.err


@pytest.mark.parametrize(("limit", "calls"), [("0", 1), ("64", None)])
def test_a_schedule_may_set_alpha_to_0(limit: str, calls: int | None, neftune: Neftune, tmp_path: Path) -> None:
    with restored(SCHEDULES):
        register_schedule(NoiseSchedule("rising", "alpha rises from 0", lambda progress: progress))
        ended = neftune(
            *("sweep", "--alphas", "0,5", "--noise-schedule", "rising", *SMALL),
            *("--micro-batch-tokens", limit, "--set", "gradient_accumulation_steps=1"),
        )
    assert ended.code == 0, ended.err
    found = attestations(tmp_path / "out")["alpha=5"]
    assert found["calls"] == calls if calls else found["calls"] >= 1  # the first of two steps has no noise


def test_noise_with_a_wrong_magnitude_fails_the_trial(
    neftune: Neftune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = NoiseStream.draw
    monkeypatch.setattr(NoiseStream, "draw", lambda *args: 1.2 * draw(*args))
    ended = neftune("sweep", "--alphas", "0,5", "--noise", "gaussian", *SMALL)
    assert ended.code == 1
    told = "alpha=5, seed 0 failed: The applied noise does not match the formula: the RMS of the noise was "
    assert told in ended.err
    rms, rest = ended.err.split(told)[1].split(" ", 1)
    assert float(rms) == pytest.approx(1.2, abs=0.02)
    assert rest.startswith("times the expected RMS")
    assert pd.read_csv(tmp_path / "out" / "loss.csv").arm.tolist() == ["base", "alpha=0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dataset", "text.jsonl", "--noise-target", "prompt"), "has no prompts for noise on prompt tokens"),
        (
            ("--noise-target", "completion", "--set", "label_smoothing_factor=0.1"),
            "does not receive the labels that identify",
        ),
    ],
)
def test_a_target_that_is_not_available_raises(neftune: Neftune, options: tuple[str, ...], words: str) -> None:
    rows = "".join(json.dumps({"text": f"The number {n} follows {n - 1}."}) + "\n" for n in range(1, 30))
    Path("text.jsonl").write_text(rows)
    ended = neftune("sweep", "--alphas", "0,5", *options, *SMALL)
    assert (ended.code, Path("out").exists()) == (2, False)
    assert words in ended.err


def test_a_preview_of_a_target_that_the_data_lack_raises(neftune: Neftune) -> None:
    rows = "".join(json.dumps({"text": f"The number {n} follows {n - 1}."}) + "\n" for n in range(1, 30))
    Path("text.jsonl").write_text(rows)
    ended = neftune("preview", "--dataset", "text.jsonl", "--noise-target", "prompt")
    assert "has no prompts for noise on prompt tokens" in ended.err
    assert ended.code == 2


def test_schedule_and_target_are_noted(neftune: Neftune) -> None:
    neftune("sweep", "--alphas", "5", "--noise-schedule", "cosine", "--noise-target", "prompt", *SMALL)
    text = neftune("compare", "out", "--full").out
    scheduled = (
        "alpha=5: alpha follows the cosine schedule during training; the reported noise norm is that of alpha 5."
    )
    assert scheduled in " ".join(text.split())
    assert "alpha=5: only prompt tokens get noise." in text
