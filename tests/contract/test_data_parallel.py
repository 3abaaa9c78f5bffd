"""Trials in two gloo processes agree with one process at the same global batch, and bad numbers of them are refused."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pandas as pd
import pytest
import torch

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import TrialError, TrialStopped, UsageError
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise.draws import NoiseStream
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.checkpoints import INDEX_FILE
from neftune_cli.training import data_parallel
from neftune_cli.training.data_parallel import batch_problems, check_devices
from neftune_cli.training.trial import divided_batch, halved_batch
from tests.command_line import Neftune
from tests.small_model import SMALL_MODEL
from tests.stopped_trials import Attempt, trial_of

SWEEP = "sweep --alphas 0,5 --seeds 1 --max-steps 6 --no-estimate --train-examples 56 --eval-examples 8".split()
"""The fourth of the six steps has 8 examples in place of 16, so the second process has none of them."""
SUM_ORDER = 1e-4
"""Largest relative difference of losses without noise: the processes add gradients in another order."""


@pytest.mark.parametrize(("size", "steps", "processes"), [(16, 1, 2), (4, 32, 8), (6, 2, 4), (8, 3, 2), (5, 1, 1)])
def test_a_step_keeps_its_examples(size: int, steps: int, processes: int) -> None:
    at_once, accumulated = divided_batch(size, steps, processes)
    assert at_once * accumulated * processes == size * steps


def test_each_halving_halves_the_batches_of_the_processes() -> None:
    train = TrainSpec(epochs=1, learning_rate=1e-3, batch_size=8, max_length=64)
    assert [halved_batch(train, halvings, 2) for halvings in range(3)] == [(4, 1), (2, 2), (1, 4)]
    with pytest.raises(TrialError, match="A batch size of 4 in each process cannot be halved 3 times"):
        halved_batch(train, 3, 2)


def test_batches_and_devices_that_do_not_fit_are_refused() -> None:
    train = TrainSpec(epochs=1, learning_rate=1e-3, batch_size=5, max_length=64)
    assert [*batch_problems(train, TrialSettings(processes=2))]
    assert not [*batch_problems(train, TrialSettings(processes=5))]
    (problem,) = batch_problems(
        train.model_copy(update={"sft": {"accelerator_config": {"even_batches": False}}}), TrialSettings(processes=5)
    )
    assert problem.what == "--nproc 5: accelerator_config must not set even_batches, which divides the examples."
    for gpus, cores in ((1, 8), (0, 1)):
        with pytest.raises(UsageError, match=r"--nproc 2: this machine has 1 .*Use --nproc 1"):
            check_devices(TrialSettings(processes=2), gpus=gpus, cores=cores)
    check_devices(TrialSettings(processes=2), gpus=2, cores=1)


def test_every_problem_of_a_number_of_processes_is_reported(neftune: Neftune) -> None:
    result = neftune("sweep", "--nproc", "2", "--workers", "2", "--executor", "inline")
    assert (result.code, result.err.count("Error: --nproc 2")) == (2, 2)


def test_the_noise_of_ranks_is_uncorrelated() -> None:
    shape, device = (64, 64, 8), torch.device("cpu")
    first, second = (NoiseStream(seed=3, rank=rank).draw(shape, device).flatten() for rank in range(2))
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
    assert abs(correlation) < 4 / first.numel() ** 0.5  # four standard errors


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    for name, more in (("one", ["--workers", "1"]), ("two", ["--nproc", "2"])):
        command = [sys.executable, "-m", "neftune_cli", *SWEEP, "--max-new-tokens", "4", "--quiet", "--output", name]
        subprocess.run([*command, *more], check=True, capture_output=True, cwd=tmp_path)
    one, two = (pd.read_csv(tmp_path / name / "loss.csv").set_index("arm") for name in ("one", "two"))
    columns = ["train_loss", "train_loss_clean", "eval_loss"]
    pd.testing.assert_frame_equal(one.loc[["alpha=0"], columns], two.loc[["alpha=0"], columns], rtol=SUM_ORDER)
    pd.testing.assert_frame_equal(one.loc[["alpha=5"], columns], two.loc[["alpha=5"], columns], rtol=0.1)
    assert float(one["eval_loss"]["alpha=5"]) != float(two["eval_loss"]["alpha=5"])  # another noise
    attested = [
        next(record.attestation for record in SweepFolder(tmp_path / name).records() if record.arm == "alpha=5")
        for name in ("one", "two")
    ]
    assert all(one is not None and one.rms == pytest.approx(1, abs=0.02) for one in attested)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.usefixtures("small_model")
def test_all_ranks_resume_from_the_checkpoint_of_rank_0(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = TrialFolder(tmp_path / "trial")
    settings = TrialSettings(processes=2, checkpoint_steps=2)
    with pytest.raises(TrialStopped):
        Attempt(trial_of(), folder, settings, at=4, loaded=load_model(find_model(SMALL_MODEL))).run()
    newest, earlier = folder.checkpoints.intact()
    _remove_curve(newest.path)  # only rank 0 reads the curve, so the other rank could resume from this checkpoint

    Attempt(trial_of(), folder, settings, loaded=load_model(find_model(SMALL_MODEL))).run()

    assert f"Resuming after step {earlier.step}." in capfd.readouterr().err
    assert [point.step for point in folder.curve() if point.train_loss is not None] == list(range(1, 9))


_RANK_THAT_CANNOT_READ = """
from neftune_cli.training.rank import main
from neftune_cli.training import fine_tuning

def fail(*_):
    raise fine_tuning.UnreadableCheckpoint("The checkpoint cannot be read here.")

fine_tuning.read_snapshot = fail
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.usefixtures("small_model")
def test_a_rank_that_cannot_read_the_checkpoint_fails_the_trial_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(TrialStopped):
        Attempt(
            trial_of(), folder, TrialSettings(checkpoint_steps=2), at=4, loaded=load_model(find_model(SMALL_MODEL))
        ).run()
    monkeypatch.setattr(data_parallel, "COMMAND", (sys.executable, "-c", _RANK_THAT_CANNOT_READ))
    loaded = load_model(find_model(SMALL_MODEL))
    with pytest.raises(TrialError, match=r"The checkpoint cannot be read here\."):
        Attempt(trial_of(), folder, TrialSettings(processes=2), loaded=loaded).run()
    assert folder.newest_checkpoint() is not None


def _remove_curve(checkpoint: Path) -> None:
    """Write a checkpoint again without its learning curve, and with the index of the new content."""
    path, index = checkpoint / "state.json", json.loads((checkpoint / INDEX_FILE).read_text())
    state = json.loads(path.read_text())
    state["dict"] = [[key, value] for key, value in state["dict"] if key != "curve"]
    path.write_text(json.dumps(state))
    index["files"]["state.json"] = [path.stat().st_size, zlib.crc32(path.read_bytes())]
    (checkpoint / INDEX_FILE).write_text(json.dumps(index))
