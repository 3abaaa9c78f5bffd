"""Kills command lines at milestones and at random times, and reads what they had written by then."""

import os
import random
import signal
import time
from pathlib import Path

from tests.crash.forks import KILLED, MILESTONES_FILE, Forks, results

MILESTONES = (
    "neftune.sweep-folder-made",
    "neftune.sweep-spec-written",
    "neftune.manifest-written",
    "neftune.claim-written",
    "neftune.claim-taken",
    "neftune.trial-claimed",
    "neftune.leftovers-cleared",
    "neftune.trial-running",
    "neftune.trial-begun",
    "neftune.model-loaded",
    "neftune.step-logged",
    "neftune.checkpoint-filled",
    "neftune.checkpoint-indexed",
    "neftune.checkpoint-kept",
    "neftune.checkpoints-pruned",
    "neftune.epoch-measured",
    "neftune.training-ended",
    "neftune.answers-generated",
    "neftune.results-written",
    "neftune.record-written",
    "neftune.checkpoints-dropped",
    "neftune.trial-ended",
    "neftune.trial-released",
    "neftune.file-written",
    "neftune.tables-written",
    "neftune.reports-written",
)
"""In the order in which they are first passed, but for `file-written`, which every file passes before it is renamed."""


def check_killed_at(milestone: str, occurrence: int, forks: Forks, folder: Path, whole: dict[str, bytes]) -> None:
    """Kill a sweep when it passes a milestone for the so manieth time, and see that the next one finishes it."""
    assert forks.run(folder, die_at=milestone, occurrence=occurrence) == KILLED
    forks.finish(folder)
    assert results(folder / "sweep") == whole


def kill_until_done(forks: Forks, folder: Path, *, kills: int, longest: float) -> int:
    """Start the sweep again and again and kill it after a random time, so often at most; return how often it was."""
    draws = random.Random(0)
    for kill in range(kills):
        process = forks.start(folder)
        time.sleep(draws.uniform(0.0, longest))
        os.kill(process, signal.SIGKILL)
        if (code := forks.wait(process)) != KILLED:
            assert code == 0, (folder / "output.txt").read_text()[-3000:]
            return kill
    return kills


def records_written(folder: Path) -> list[str]:
    """Return the folders of the trials whose records were written, in that order, by all processes together."""
    lines = (folder / MILESTONES_FILE).read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith("neftune.record-written")]
