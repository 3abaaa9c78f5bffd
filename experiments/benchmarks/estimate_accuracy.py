"""Accuracy of the cost estimate of `--dry-run`: estimate a sweep, run it, and compare.

    python -m experiments.benchmarks.estimate_accuracy [OPTIONS OF neftune sweep]

The default is the ablation on `tiny`. For the 135M-parameter model, use `--model smollm2 --train-examples 32
--epochs 1 --max-length 160 --max-new-tokens 16 --alphas 0,5 --seeds 1`. Run it on an otherwise idle machine: other load
changes the result.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any

from neftune_cli.store import SweepFolder

ABLATION = [str(Path(__file__).parents[1] / "ablation.yaml")]
TOLERANCE = 0.3
"""Maximum relative error of an estimate."""


@dataclass(frozen=True)
class EstimateCheck:
    """An estimated and a measured value of one quantity."""

    name: str
    estimated: float
    measured: float

    @property
    def error(self) -> float:
        """Return the relative error of the estimate."""
        return self.estimated / self.measured - 1

    def __str__(self) -> str:
        mark = "" if abs(self.error) <= TOLERANCE else "  above tolerance"
        return f"{self.name:24} {self.estimated:10.1f} {self.measured:10.1f} {self.error:+8.0%}{mark}"


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 1 if the error of an estimate exceeds the tolerance."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    options = [one for one in parser.parse_known_args(arguments)[1] if one != "--"] or ABLATION
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "sweep")
        estimate = json.loads(_neftune(*options, "--output", output, "--dry-run", "--json"))
        begin = monotonic()
        _neftune(*options, "--output", output, "--quiet")
        checks = estimate_checks(estimate, SweepFolder(Path(output)), seconds=monotonic() - begin)
    print(f"{'':24} {'estimated':>10} {'measured':>10} {'error':>8}", *checks, sep="\n")
    return int(any(abs(one.error) > TOLERANCE for one in checks))


def estimate_checks(plan: Mapping[str, Any], folder: SweepFolder, *, seconds: float) -> list[EstimateCheck]:
    """Check the mean seconds per trial of each arm, the seconds of the sweep, and the peak memory in MiB.

    Trials of the plan that did not run, because a look decided their arm, are left out of the means. The seconds of the
    sweep are then not checked, since their estimate is for all trials.
    """
    estimate = plan["estimate"]
    statuses = {status.trial: status for place in folder.trials() if (status := place.status())}
    arms = dict.fromkeys(line["arm"] for line in plan["trials"])
    checks = []
    for arm in arms:
        ids = [line["trial"] for line in plan["trials"] if line["arm"] == arm and line["trial"] in statuses]
        measured = [statuses[trial].seconds or 0.0 for trial in ids]
        estimated = fmean(estimate["trials"][trial] for trial in ids)
        checks.append(EstimateCheck(f"{arm}, s per trial", estimated, fmean(measured)))
    if all(line["trial"] in statuses for line in plan["trials"]):
        checks.append(EstimateCheck("sweep, s", estimate["seconds"], seconds))
    peak = max(status.peak_memory or 0 for status in statuses.values())
    checks.append(EstimateCheck("peak memory, MiB", estimate["peak_memory"] / 2**20, peak / 2**20))
    return checks


def _neftune(*arguments: str) -> str:
    command = [sys.executable, "-m", "neftune_cli", "sweep", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
