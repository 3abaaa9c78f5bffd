"""Disks that fill up, folders that become read-only or vanish: the sweep stops with a word, and can go on."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.forks import MILESTONES_FILE, Forks, milestones, results

PATIENCE_SECONDS = 60.0
ROOM = "160m"
SIZES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 8192, 30720, 40960, 65536, 81920)
"""Kilobytes at which different files find no room: one checkpoint takes 30 MB."""
WHEN = (pytest.param("neftune.trial-begun", marks=pytest.mark.slow), "neftune.checkpoint-kept")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def can_mount() -> bool:
    """Return whether file systems can be mounted: by root, and in few containers."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="file systems can't be mounted here")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return where the sweep's folder is a file system whose size can be set."""
    disk = tmp_path / "sweep"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def resize(disk: Path, size: str) -> None:
    mount("-o", f"remount,size={size}", str(disk))


def output(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def run_until(forks: Forks, folder: Path, milestone: str, deed: Callable[[], object], occurrence: int = 1) -> int:
    """Start the sweep, do something as soon as it has passed a milestone so often, and return its exit code."""
    process = forks.start(folder)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (folder / MILESTONES_FILE).exists() or milestones(folder)[milestone] < occurrence:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    deed()
    return forks.wait(process)


def check_fills_up(forks: Forks, disk: Path, size: str, whole: dict[str, bytes]) -> str:
    """Run a sweep on a disk that is too small, make it larger, and run it again; return what was said."""
    resize(disk, size)
    assert forks.run(disk.parent) == 1
    told = output(disk.parent)
    assert "The disk that sweep is on is full." in told, told
    assert "To go on, when that is mended:\n  neftune sweep" in told
    resize(disk, ROOM)
    forks.finish(disk.parent)
    assert results(disk) == whole
    return told


@needs_mounts
def test_a_full_disk_stops_the_sweep_and_a_larger_one_lets_it_go_on(
    forks: Forks, small_disk: Path, uninterrupted: dict[str, bytes]
) -> None:
    told = check_fills_up(forks, small_disk, "48m", uninterrupted)
    assert "for checkpoints and models while they run" in told


@needs_mounts
@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("kilobytes", SIZES)
def test_it_may_fill_up_at_any_point(
    kilobytes: int, forks: Forks, small_disk: Path, uninterrupted: dict[str, bytes]
) -> None:
    check_fills_up(forks, small_disk, f"{kilobytes}k", uninterrupted)


@needs_mounts
@pytest.mark.parametrize("milestone", WHEN)
def test_a_folder_that_becomes_read_only_stops_the_sweep(
    milestone: str, forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"

    def forbid_writing() -> None:
        mount("--bind", str(folder), str(folder))
        mount("-o", "remount,bind,ro", str(folder))

    try:
        assert run_until(forks, tmp_path, milestone, forbid_writing) == 1
        assert "sweep can't be written." in output(tmp_path)
        assert forks.run(tmp_path) == 2
        assert "is no folder you can write to" in output(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
    forks.finish(tmp_path)
    assert results(folder) == uninterrupted


@pytest.mark.parametrize("milestone", WHEN)
def test_a_folder_that_vanishes_stops_the_sweep_and_can_be_put_back(
    milestone: str, forks: Forks, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    assert run_until(forks, tmp_path, milestone, lambda: shutil.move(folder, elsewhere)) == 1
    assert "sweep is gone; put it back, or begin anew." in output(tmp_path)
    assert not folder.exists()
    shutil.move(elsewhere, folder)
    forks.finish(tmp_path)
    assert results(folder) == uninterrupted
