"""Kill sweeps at milestones and at random times, and check the results after resuming."""

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.crash.forks import KILLED, MILESTONES_FILE, SWEEP, Forks, sweep_files

MILESTONES = (
    "neftune.sweep-folder-made",
    "neftune.sweep-spec-written",
    "neftune.manifest-written",
    "neftune.lease-written",
    "neftune.lease-acquired",
    "neftune.trial-leased",
    "neftune.leftovers-cleared",
    "neftune.trial-running",
    "neftune.trial-started",
    "neftune.model-loaded",
    "neftune.step-logged",
    "neftune.checkpoint-filled",
    "neftune.checkpoint-indexed",
    "neftune.checkpoint-written",
    "neftune.checkpoints-pruned",
    "neftune.epoch-measured",
    "neftune.training-ended",
    "neftune.responses-generated",
    "neftune.results-written",
    "neftune.record-written",
    "neftune.checkpoints-dropped",
    "neftune.trial-ended",
    "neftune.trial-released",
    "neftune.file-written",
    "neftune.tables-written",
    "neftune.reports-written",
)
"""Milestones in the order of their first occurrence, except `file-written`, which precedes the rename of every file."""


def check_killed_at(
    milestone: str,
    occurrence: int,
    forks: Forks,
    folder: Path,
    expected: dict[str, bytes],
    arguments: Sequence[str] = SWEEP,
) -> None:
    """Kill a sweep at the given occurrence of a milestone, and check that the same command finishes it."""
    assert forks.run(folder, arguments, die_at=milestone, occurrence=occurrence) == KILLED
    forks.finish(folder, arguments)
    assert sweep_files(folder / "sweep") == expected


def kill_until_done(forks: Forks, folder: Path, draws: random.Random, *, kills: int, longest: float) -> int:
    """Start and kill the sweep at random times until it finishes. Return the number of kills, at most `kills`."""
    for kill in range(kills):
        process = forks.start(folder)
        time.sleep(draws.uniform(0.0, longest))
        os.kill(process, signal.SIGKILL)
        if (code := forks.wait(process)) != KILLED:
            assert code == 0, (folder / "output.txt").read_text()[-3000:]
            return kill
    return kills


def records_written(folder: Path) -> list[str]:
    """Return the folders of the trials whose records all processes wrote, in the order of writing."""
    lines = (folder / MILESTONES_FILE).read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith("neftune.record-written")]
