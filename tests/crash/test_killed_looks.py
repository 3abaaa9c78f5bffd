"""SIGKILL of a sweep with planned looks: the same command finishes it with the tables of an uninterrupted sweep."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "neftune_cli", "sweep", "--quiet", "--alphas", "0,5", "--workers", "1"]
LOOKS = ["--until-decided", "--looks", "3,5", "--max-seeds", "5"]
SMALL = ["--train-examples", "32", "--eval-examples", "8", "--max-steps", "3", "--no-estimate"]
TABLES = ("loss.csv", "eval.csv", "curves.csv", "sweep.yaml")
WAIT_SECONDS = 240


def run(folder: Path) -> None:
    subprocess.run([*COMMAND, *LOOKS, *SMALL, "--output", str(folder)], check=True, capture_output=True)


def kill_when(folder: Path, appears: str) -> None:
    """Start the sweep, and kill it with SIGKILL when a file appears."""
    process = subprocess.Popen(
        [*COMMAND, *LOOKS, *SMALL, "--output", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
@pytest.mark.timeout(900)
def test_planned_looks_killed_three_times_have_the_same_tables(tmp_path: Path) -> None:
    uninterrupted, killed = tmp_path / "a" / "sweep", tmp_path / "b" / "sweep"
    run(uninterrupted)
    kill_when(killed, "trials/alpha=0,seed=1-*/metrics.jsonl")
    kill_when(killed, "trials/alpha=5,seed=2-*/record.json")
    kill_when(killed, "trials/alpha=0,seed=4-*/metrics.jsonl")  # after the first look
    assert json.loads((killed / "manifest.json").read_text())["looks"] == [3]
    run(killed)
    assert json.loads((killed / "manifest.json").read_text())["looks"] == [3, 5]
    for name in TABLES:
        assert (killed / name).read_bytes() == (uninterrupted / name).read_bytes(), name
