"""Memory that isn't enough for one arm: that arm's trials fail and say what to lower, and the others finish."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.store import SweepFolder

MEGABYTE = 1 << 20
LIMIT = 3200 * MEGABYTE
"""Of address space for each process: enough for the arm with batches of 4, by far too little for the other."""
EXPERIMENT = """
model: tiny
dataset: bios
seeds: 1
train_examples: 512
eval_examples: 4
evaluation: {max_new_tokens: 8}
train: {batch_size: 4, max_steps: 2}
arms:
  - {name: huge batch, alpha: 5, train: {batch_size: 512, max_steps: 1}}
  - {name: small batch, alpha: 5}
"""
SWEEP = ("sweep", "huge.yaml", "--quiet", "--no-estimate", "--output", "sweep")
TOLD = "huge batch, seed 0 failed: Out of memory; lower --batch-size or --max-length, or use --on-oom halve-batch."


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Return a folder with an experiment of which one arm needs much memory."""
    (tmp_path / "huge.yaml").write_text(EXPERIMENT)
    return tmp_path


def arms_done(folder: Path) -> set[str]:
    return {record.arm for record in SweepFolder(folder / "sweep").records()}


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_arm_lacks_memory_and_the_others_finish(workers: str, experiment: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

    command = [sys.executable, "-m", "neftune_cli", *SWEEP, "--workers", workers]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=experiment, env=environment, preexec_fn=limited, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert arms_done(experiment) == {"base", "small batch"}
    assert TOLD in ended.stderr
