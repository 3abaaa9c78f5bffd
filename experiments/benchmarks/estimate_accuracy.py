"""How near `--dry-run` comes to the truth: asks for the price of a sweep, runs it, and compares trial by trial.

`python -m experiments.benchmarks.estimate_accuracy [-- OPTIONS OF neftune sweep]`, by default the ablation on `tiny`;
with `--model smollm2 --train-examples 32 --epochs 1 --max-length 160 --max-new-tokens 16 --alphas 0,5 --seeds 1` the
135M-parameter model. Run it while nothing else runs: what disturbs one of the two alone is in the figures.
"""

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
"""By which share an estimate may miss."""


@dataclass(frozen=True)
class Comparison:
    """One figure, as it was estimated and as it came out."""

    what: str
    estimated: float
    true: float

    @property
    def error(self) -> float:
        """Return by which share the estimate is too high."""
        return self.estimated / self.true - 1

    def __str__(self) -> str:
        miss = "" if abs(self.error) <= TOLERANCE else "  missed"
        return f"{self.what:24} {self.estimated:10.1f} {self.true:10.1f} {self.error:+8.0%}{miss}"


def main(options: Sequence[str]) -> int:
    """Measure and print; return 1 if an estimate is off by more than the tolerance."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "sweep")
        estimate = json.loads(_neftune(*options, "--output", output, "--dry-run", "--json"))
        begin = monotonic()
        _neftune(*options, "--output", output, "--quiet")
        found = comparisons(estimate, SweepFolder(Path(output)), seconds=monotonic() - begin)
    print(f"{'':24} {'estimated':>10} {'true':>10} {'error':>8}", *found, sep="\n")
    return int(any(abs(one.error) > TOLERANCE for one in found))


def comparisons(priced: Mapping[str, Any], folder: SweepFolder, *, seconds: float) -> list[Comparison]:
    """Return the mean over each arm's trials in seconds, the whole sweep in seconds, and the peak memory in MiB."""
    estimate = priced["estimate"]
    statuses = {status.trial: status for place in folder.trials() if (status := place.status())}
    arms = dict.fromkeys(line["arm"] for line in priced["trials"])
    found = []
    for arm in arms:
        ids = [line["trial"] for line in priced["trials"] if line["arm"] == arm]
        true = [statuses[trial].seconds or 0.0 for trial in ids]
        found.append(Comparison(f"{arm}, s a trial", fmean(estimate["trials"][trial] for trial in ids), fmean(true)))
    found.append(Comparison("whole sweep, s", estimate["seconds"], seconds))
    peak = max(status.peak_memory or 0 for status in statuses.values())
    found.append(Comparison("peak memory, MiB", estimate["peak_memory"] / 2**20, peak / 2**20))
    return found


def _neftune(*arguments: str) -> str:
    command = [sys.executable, "-m", "neftune_cli", "sweep", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main([one for one in sys.argv[1:] if one != "--"] or ABLATION))
