"""Killed at any milestone of the write order or of a trial's life: the same command ends with the same files."""

from pathlib import Path

import pytest

from tests.crash.forks import KILLED, Forks, milestones, results
from tests.crash.killing import MILESTONES, check_killed_at


def test_these_are_the_milestones(uninterrupted_folder: Path) -> None:
    assert set(milestones(uninterrupted_folder)) == set(MILESTONES)


@pytest.mark.parametrize(
    "milestone", ["neftune.sweep-folder-made", "neftune.checkpoint-indexed", "neftune.record-written"]
)
def test_killed_at_some_milestones(
    milestone: str, forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    check_killed_at(milestone, 1, forks, tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("which", ["first", "middle", "last"])
@pytest.mark.parametrize("milestone", MILESTONES)
def test_killed_at_each_milestone(
    milestone: str,
    which: str,
    forks: Forks,
    uninterrupted_folder: Path,
    uninterrupted: dict[str, bytes],
    tmp_path: Path,
) -> None:
    times = milestones(uninterrupted_folder)[milestone]
    if milestone == "neftune.file-written":  # state.json is written by time, so another run may write a few files less
        times -= times // 8
    occurrence = {"first": 1, "middle": (times + 1) // 2, "last": times}[which]
    check_killed_at(milestone, occurrence, forks, tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("event", ["os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir"])
def test_killed_at_each_change_of_a_name(
    event: str, forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """Python announces these before they happen; the sweep goes on from one death to the next until none is left.

    To go on with a trial takes a few of them before the next checkpoint, so some runs must come that far.
    """
    deaths = 0
    while forks.run(tmp_path, die_at=event, occurrence=deaths % 12 + 1) == KILLED:
        deaths += 1
        assert deaths < 300
    assert deaths > 0
    assert results(tmp_path / "sweep") == uninterrupted
