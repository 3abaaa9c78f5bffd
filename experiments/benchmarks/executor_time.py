"""Benchmark of executors: wall time of the same sweep with other executors and numbers of workers.

    python -m experiments.benchmarks.executor_time --runs local:2 ray:2 local:1

It runs a sweep of tiny over four alphas with each executor and number of workers, and prints the wall time and its
ratio to that of the first one in the same round. The order alternates between rounds, so that other load on the machine
affects all of them.
"""

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from experiments.benchmarks.sweep_commands import ALPHAS, seconds_of, sweep_command


def main() -> None:
    """Time the sweeps, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=["local:2", "local:1"], metavar="EXECUTOR:WORKERS")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {run: [] for run in options.runs}
    for number in range(options.rounds):
        for run in options.runs[:: -1 if number % 2 else 1]:
            seconds[run].append(_seconds(run, options.seeds))
    first = seconds[options.runs[0]]
    for run, measured in seconds.items():
        ratios = [one / other for one, other in zip(measured, first, strict=True)]
        print(f"{run.ljust(12)} {median(measured):6.1f} s  {median(ratios):5.2f} times {options.runs[0]}")


def _seconds(run: str, seeds: int) -> float:
    """Return the wall time of a sweep in a new folder; `run` is an executor and a number of workers, as `ray:2`."""
    executor, _, workers = run.partition(":")
    options = ("--alphas", ALPHAS, "--seeds", str(seeds), "--executor", executor, "--workers", workers)
    with TemporaryDirectory(prefix="neftune-bench-") as folder:
        return seconds_of(sweep_command({"model": "tiny"}, Path(folder, "sweep"), *options), work=Path(folder))


if __name__ == "__main__":
    main()
