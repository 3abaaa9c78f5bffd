"""Several processes on one folder share the trials. Each trial is recorded exactly once, despite kills."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neftune_cli.store import SweepFolder
from tests.command_line import overridden
from tests.crash.forks import ONE_TRAINING, SMALL, SWEEP, Forks, finish_with_plots, sweep_files
from tests.crash.killing import records_written

WAIT_SECONDS = 180
TRIALS = 40
SHARED = (
    *("sweep", "--workers", "0", "--quiet", "--alphas", "0,5,10", "--seeds", "13", "--max-steps", "2", *SMALL),
    *("--checkpoint-steps", "1", "--no-estimate", "--output", "sweep"),
)
"""The base model, and 39 trainings of two steps."""


@pytest.fixture(scope="module")
def by_one_process(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("by-one")
    forks.finish(folder, SHARED)
    return sweep_files(folder / "sweep")


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("processes", [2, 4])
def test_killed_processes_share_40_trials_and_record_each_once(
    processes: int, forks: Forks, by_one_process: dict[str, bytes], tmp_path: Path
) -> None:
    draws = random.Random(processes)
    running = [forks.start(tmp_path, SHARED) for _ in range(processes)]
    for _ in range(8):
        time.sleep(draws.uniform(0.5, 3.0))
        victim = draws.randrange(processes)
        os.kill(running[victim], signal.SIGKILL)
        forks.wait(running[victim])
        running[victim] = forks.start(tmp_path, SHARED)
    assert [forks.wait(process) for process in running] == [0] * processes
    written = records_written(tmp_path)
    assert len(written) == len(set(written)) == TRIALS
    assert sweep_files(tmp_path / "sweep") == by_one_process


def test_two_processes_share_a_small_sweep(forks: Forks, one_training: dict[str, bytes], tmp_path: Path) -> None:
    running = [forks.start(tmp_path, ONE_TRAINING) for _ in range(2)]
    assert [forks.wait(process) for process in running] == [0, 0]
    written = records_written(tmp_path)
    assert len(written) == len(set(written)) == 2
    assert sweep_files(tmp_path / "sweep") == one_training


@pytest.mark.slow
@pytest.mark.crash
def test_two_processes_keep_one_best_model(forks: Forks, tmp_path: Path) -> None:
    running = [forks.start(tmp_path, overridden(*SWEEP, "--seeds", "3", "--keep", "best")) for _ in range(2)]
    assert [forks.wait(process) for process in running] == [0, 0]
    finished = [
        (record, folder) for folder, record in SweepFolder(tmp_path / "sweep").finished() if record.seed is not None
    ]
    _, best = min(finished, key=lambda one: one[0].loss.eval_loss)
    assert [folder for _, folder in finished if folder.model_path.exists()] == [best]
    assert (best.model_path / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.crash
def test_workers_of_two_sweeps_share_trials_until_one_sweep_is_killed(tmp_path: Path) -> None:
    arguments = overridden(*SWEEP, "--seeds", "4", "--epochs", "8")
    finish_with_plots(tmp_path / "expected", arguments)
    command = [sys.executable, "-m", "neftune_cli", *overridden(*arguments, "--workers", "2")]
    shared = tmp_path / "shared"
    shared.mkdir()
    killed, other = (subprocess.Popen(command, cwd=shared, stdout=subprocess.DEVNULL) for _ in range(2))
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list(shared.glob("sweep/trials/alpha*/metrics.jsonl"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert other.wait(WAIT_SECONDS) == 0
    assert sweep_files(shared / "sweep") == sweep_files(tmp_path / "expected" / "sweep")
