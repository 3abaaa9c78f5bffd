"""SIGKILL of a sweep with workers: the same command finishes it with the tables of an uninterrupted sweep."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "neftune_cli", "sweep", "--quiet", "--alphas", "0,5", "--seeds", "1", "--workers", "1"]
SMALL = ["--train-examples", "32", "--eval-examples", "8", "--epochs", "2"]
TABLES = ("loss.csv", "eval.csv", "curves.csv", "summary.md", "sweep.yaml")
WAIT_SECONDS = 120


def run(folder: Path) -> None:
    subprocess.run([*COMMAND, *SMALL, "--output", str(folder)], check=True, capture_output=True)


def kill_when(folder: Path, appears: str) -> None:
    """Start the sweep, and kill it with SIGKILL when a file appears."""
    process = subprocess.Popen(
        [*COMMAND, *SMALL, "--output", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + WAIT_SECONDS
    while not list(folder.glob(appears)):
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.crash
def test_sweep_killed_twice_has_same_tables(tmp_path: Path) -> None:
    uninterrupted, killed = tmp_path / "a" / "sweep", tmp_path / "b" / "sweep"
    run(uninterrupted)
    kill_when(killed, "trials/alpha=0,*/metrics.jsonl")  # in the middle of a training
    assert not list(killed.glob("trials/alpha=0,*/record.json"))
    kill_when(killed, "trials/alpha=5,*/metrics.jsonl")
    first = next(killed.glob("trials/alpha=0,*/record.json")).stat().st_mtime_ns
    run(killed)
    assert next(killed.glob("trials/alpha=0,*/record.json")).stat().st_mtime_ns == first
    for name in TABLES:
        assert (killed / name).read_bytes() == (uninterrupted / name).read_bytes(), name
