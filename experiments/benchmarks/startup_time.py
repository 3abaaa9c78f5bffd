"""Benchmark of the start: help pages compared with the import of Typer and rich, and the first line of a sweep.

    python -m experiments.benchmarks.startup_time

It times new processes, and prints the median of a few runs in seconds, and its ratio to the import. The processes take
turns, so that other load on the machine affects all of them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import typer

from neftune_cli.cli import SUMMARIES

IMPORT = "import of typer and rich"
FIRST_LINE = "first line of neftune sweep"


def main(repeats: int = 5) -> None:
    """Time the import, the pages and the first line, and print a table."""
    measures = _measures()
    for measure in measures.values():  # fills the caches of bytecode and files
        measure()
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            seconds[name].append(measure())
    for name, measured in seconds.items():
        ratio = median(measured) / median(seconds[IMPORT])
        print(f"{name.ljust(30)} {median(measured):6.3f} s  {ratio:5.2f} times the import")


def _measures() -> dict[str, Callable[[], float]]:
    pages = {
        " ".join(["neftune", *name, "--help"]): ("-m", "neftune_cli", *name, "--help")
        for name in ((), *((one,) for one in SUMMARIES))
    }
    return {
        IMPORT: partial(_seconds, "-c", "import typer, rich"),
        **{page: partial(_seconds, *arguments) for page, arguments in pages.items()},
        FIRST_LINE: _seconds_to_first_line,
    }


def _seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def _seconds_to_first_line() -> float:
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "sweep")
        command = [sys.executable, "-m", "neftune_cli", "sweep", "--dry-run", "--no-estimate", "--output", output]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            process.stderr.readline()
            seconds = time.perf_counter() - started
            process.communicate()
    return seconds


if __name__ == "__main__":
    typer.run(main)
