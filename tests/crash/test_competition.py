"""Several processes on one folder share the trials: each is recorded exactly once, whoever is killed meanwhile."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neftune_cli.store import SweepFolder
from tests.crash.forks import SMALL, SWEEP, Forks, results
from tests.crash.killing import records_written

PATIENCE_SECONDS = 180
TRIALS = 40
SHARED = (
    *("sweep", "--workers", "0", "--quiet", "--alphas", "0,5,10", "--seeds", "13", "--max-steps", "2", *SMALL),
    *("--checkpoint-steps", "1", "--no-estimate", "--output", "sweep"),
)
"""The base, and 39 trainings of two steps."""


@pytest.fixture(scope="module")
def by_one(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("by-one")
    forks.finish(folder, SHARED)
    return results(folder / "sweep")


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("processes", [2, 4])
def test_40_trials_are_shared_and_each_is_recorded_once(
    processes: int, forks: Forks, by_one: dict[str, bytes], tmp_path: Path
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
    assert results(tmp_path / "sweep") == by_one


def test_two_processes_share_a_small_sweep(forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    running = [forks.start(tmp_path) for _ in range(2)]
    assert [forks.wait(process) for process in running] == [0, 0]
    written = records_written(tmp_path)
    assert len(written) == len(set(written)) == 3
    assert results(tmp_path / "sweep") == uninterrupted


@pytest.mark.slow
@pytest.mark.crash
def test_two_processes_keep_the_one_best_model(forks: Forks, tmp_path: Path) -> None:
    running = [forks.start(tmp_path, [*SWEEP, "--seeds", "3", "--keep", "best"]) for _ in range(2)]
    assert [forks.wait(process) for process in running] == [0, 0]
    finished = [
        (record, place) for place, record in SweepFolder(tmp_path / "sweep").finished() if record.seed is not None
    ]
    _, best = min(finished, key=lambda one: one[0].loss.eval_loss)
    assert [place for _, place in finished if place.model_path.exists()] == [best]
    assert (best.model_path / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.crash
def test_worker_processes_of_two_sweeps_share_the_trials_though_one_sweep_is_killed(
    forks: Forks, tmp_path: Path
) -> None:
    arguments = [*SWEEP[:2], "2", *SWEEP[3:], "--seeds", "4", "--epochs", "8"]
    forks.finish(tmp_path / "whole", [*SWEEP, "--seeds", "4", "--epochs", "8"])
    command = [sys.executable, "-m", "neftune_cli", *arguments]
    shared = tmp_path / "shared"
    shared.mkdir()
    killed, other = (subprocess.Popen(command, cwd=shared, stdout=subprocess.DEVNULL) for _ in range(2))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(shared.glob("sweep/trials/alpha*/metrics.jsonl"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert other.wait(PATIENCE_SECONDS) == 0
    assert results(shared / "sweep") == results(tmp_path / "whole" / "sweep")
