"""Full disks, and folders that become read-only or are removed: the sweep stops with a message and can be resumed."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.crash.forks import MILESTONES_FILE, ONE_TRAINING, SWEEP, Forks, milestones, sweep_files

WAIT_SECONDS = 60.0
FULL_SIZE = "160m"
SIZES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 8192, 30720, 40960, 65536, 81920)
"""Sizes in kilobytes at which different files exceed the disk. One checkpoint takes 30 MB."""
MILESTONES = (pytest.param("neftune.trial-started", marks=pytest.mark.slow), "neftune.checkpoint-written")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def can_mount() -> bool:
    """Return whether this process may mount file systems."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="file systems can't be mounted here")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of the sweep, which is a file system of adjustable size."""
    disk = tmp_path / "sweep"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={FULL_SIZE}", "none", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def resize(disk: Path, size: str) -> None:
    mount("-o", f"remount,size={size}", str(disk))


def output(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def run_until(forks: Forks, folder: Path, milestone: str, action: Callable[[], object], occurrence: int = 1) -> int:
    """Start the sweep, call `action` at the given occurrence of a milestone, and return the exit code."""
    process = forks.start(folder, ONE_TRAINING)
    deadline = time.monotonic() + WAIT_SECONDS
    while not (folder / MILESTONES_FILE).exists() or milestones(folder)[milestone] < occurrence:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    action()
    return forks.wait(process)


def check_full_disk(
    forks: Forks, disk: Path, size: str, expected: dict[str, bytes], arguments: Sequence[str] = SWEEP
) -> str:
    """Run a sweep on a disk that is too small, enlarge it, and run the sweep again. Return the output."""
    resize(disk, size)
    assert forks.run(disk.parent, arguments) == 1
    text = output(disk.parent)
    assert "The disk with the results folder sweep is full." in text, text
    assert "After fixing the cause, resume with:\n  neftune sweep" in text
    resize(disk, FULL_SIZE)
    forks.finish(disk.parent, arguments)
    assert sweep_files(disk) == expected
    return text


@needs_mounts
def test_full_disk_stops_sweep_and_larger_disk_lets_it_finish(
    forks: Forks, small_disk: Path, one_training: dict[str, bytes]
) -> None:
    text = check_full_disk(forks, small_disk, "2m", one_training, ONE_TRAINING)
    assert "for checkpoints and models during the run" in text


@needs_mounts
@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("kilobytes", SIZES)
def test_disk_of_each_size_stops_sweep_without_damage(
    kilobytes: int, forks: Forks, small_disk: Path, uninterrupted: dict[str, bytes]
) -> None:
    check_full_disk(forks, small_disk, f"{kilobytes}k", uninterrupted)


@needs_mounts
@pytest.mark.parametrize("milestone", MILESTONES)
def test_read_only_folder_stops_sweep(
    milestone: str, forks: Forks, one_training: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"

    def forbid_writing() -> None:
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,bind,ro", str(folder))

    try:
        assert run_until(forks, tmp_path, milestone, forbid_writing) == 1
        assert "The results folder sweep is not writable." in output(tmp_path)
        assert forks.run(tmp_path, ONE_TRAINING) == 2
        assert "is not a writable folder" in output(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
    forks.finish(tmp_path, ONE_TRAINING)
    assert sweep_files(folder) == one_training


@pytest.mark.parametrize("milestone", MILESTONES)
def test_removed_folder_stops_sweep_and_can_be_restored(
    milestone: str, forks: Forks, one_training: dict[str, bytes], tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    assert run_until(forks, tmp_path, milestone, lambda: shutil.move(folder, elsewhere)) == 1
    assert "The results folder sweep no longer exists." in output(tmp_path)
    assert not folder.exists()
    shutil.move(elsewhere, folder)
    forks.finish(tmp_path, ONE_TRAINING)
    assert sweep_files(folder) == one_training
