"""Killed again and again at random times: the sweep ends all the same, and with the same files."""

from pathlib import Path

import pytest

from tests.crash.forks import Forks, results
from tests.crash.killing import kill_until_done


def test_killed_a_few_times(forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    assert kill_until_done(forks, tmp_path, kills=6, longest=1.0) > 2
    forks.finish(tmp_path)
    assert results(tmp_path / "sweep") == uninterrupted


@pytest.mark.slow
@pytest.mark.crash
def test_killed_100_times(forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path) -> None:
    """One sweep may be done before that: then the next one is killed."""
    killed = number = 0
    while killed < 100:
        folder = tmp_path / str(number)
        killed += kill_until_done(forks, folder, kills=100 - killed, longest=3.0)
        forks.finish(folder)
        assert results(folder / "sweep") == uninterrupted
        number += 1
