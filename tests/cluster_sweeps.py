"""A small sweep whose trials run on a cluster, as a command, and its tables."""

import subprocess
import sys
import time
from pathlib import Path

SMALL = "--quiet --alphas 0,5 --seeds 1 --train-examples 32 --eval-examples 4 --epochs 6 --max-new-tokens 4".split()
TABLES = ("loss.csv", "eval.csv", "curves.csv", "summary.md")
WAIT_SECONDS = 220
FIRST_STEP = "'epoch': '0.5'"
"""Part of the line that the log of a trial has for its first step. A trial that starts over has it twice."""


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "neftune_cli", "sweep", *SMALL, "--output", str(folder), *options]


def sweep(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *options), check=True, capture_output=True, text=True)


def wait_for(folder: Path, pattern: str) -> Path:
    """Return the first path that matches a pattern."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := sorted(folder.glob(pattern))):
        assert time.monotonic() < deadline, pattern
        time.sleep(0.02)
    return found[0]


OF_EACH_PROCESS = Path("/proc/self/cwd")
"""A path that names another folder in every process with another working directory, as on nodes without a shared disk.
"""


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


def tables_of_the_local_executor(folder: Path) -> list[bytes]:
    sweep(folder, "--workers", "1", "--no-estimate")
    return tables(folder)
