"""Kills at random times: the resumed sweep finishes with the files of an uninterrupted one."""

import random
from pathlib import Path

import pytest

from tests.crash.forks import Forks, sweep_files
from tests.crash.killing import kill_until_done


@pytest.mark.slow
@pytest.mark.crash
def test_sweep_killed_a_few_times_has_same_files(forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    assert kill_until_done(forks, tmp_path, random.Random(0), kills=6, longest=0.8) > 2
    forks.finish(tmp_path)
    assert sweep_files(tmp_path / "sweep") == uninterrupted


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.timeout(900)  # the waits before the kills alone take about 150 seconds
def test_sweeps_killed_100_times_have_same_files(forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    """If a sweep finishes before 100 kills, another one is started, and killed at other times."""
    draws = random.Random(0)
    killed = number = 0
    while killed < 100:
        folder = tmp_path / str(number)
        killed += kill_until_done(forks, folder, draws, kills=100 - killed, longest=3.0)
        forks.finish(folder)
        assert sweep_files(folder / "sweep") == uninterrupted
        number += 1
