"""Kills at each milestone of a sweep: the same command finishes with the files of an uninterrupted sweep."""

from pathlib import Path

import pytest

from tests.crash.forks import KILLED, ONE_TRAINING, Forks, milestones, sweep_files
from tests.crash.killing import MILESTONES, check_killed_at


def test_list_of_milestones_is_complete(one_training_folder: Path) -> None:
    assert set(milestones(one_training_folder)) == set(MILESTONES)


@pytest.mark.parametrize("milestone", ["neftune.checkpoint-indexed", "neftune.record-written"])
def test_sweep_killed_at_selected_milestones_has_same_files(
    milestone: str, forks: Forks, one_training: dict[str, bytes], tmp_path: Path
) -> None:
    check_killed_at(milestone, 1, forks, tmp_path, one_training, ONE_TRAINING)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize("milestone", MILESTONES)
def test_sweep_killed_at_each_milestone_has_same_files(
    milestone: str,
    position: str,
    forks: Forks,
    uninterrupted_folder: Path,
    uninterrupted: dict[str, bytes],
    tmp_path: Path,
) -> None:
    times = milestones(uninterrupted_folder)[milestone]
    if milestone == "neftune.file-written":  # state.json is written by time, so the number varies slightly
        times -= times // 8
    occurrence = {"first": 1, "middle": (times + 1) // 2, "last": times}[position]
    check_killed_at(milestone, occurrence, forks, tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("event", ["os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir"])
def test_sweep_killed_at_each_rename_link_and_removal_has_same_files(
    event: str, forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """Python raises these audit events before each operation. The sweep is resumed after each kill until it finishes.

    Resuming a trial needs several operations before the next checkpoint, so some runs must get that far.
    """
    kills = 0
    while forks.run(tmp_path, die_at=event, occurrence=kills % 12 + 1) == KILLED:
        kills += 1
        assert kills < 300
    assert kills > 0
    assert sweep_files(tmp_path / "sweep") == uninterrupted
