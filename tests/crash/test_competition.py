"""Several processes on one folder share the trials: each is recorded exactly once, whoever is killed meanwhile."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.crash.forks import SMALL, Forks, results
from tests.crash.killing import records_written

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
