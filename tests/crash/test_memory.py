"""Insufficient memory for one arm: its trials fail with advice, and the other trials finish."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.store import SweepFolder

MEGABYTE = 1 << 20
LIMIT = 3200 * MEGABYTE
"""Address space of each process in bytes: enough for a batch size of 4, not enough for 512."""
EXPERIMENT = """
model: tiny
dataset: bios
seeds: 1
train_examples: 512
eval_examples: 4
evaluation: {max_new_tokens: 8}
train: {batch_size: 4, max_steps: 2}
arms:
  - {name: huge batch, alpha: 5, train: {batch_size: 512, max_steps: 1, micro_batch_tokens: 0}}
  - {name: small batch, alpha: 5}
"""
SWEEP = ("sweep", "huge.yaml", "--quiet", "--no-estimate", "--output", "sweep")
MESSAGE = "huge batch, seed 0 failed: Out of memory. Lower --batch-size or --max-length, or use --on-oom halve-batch."


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Return a folder with an experiment in which one arm exceeds the memory limit."""
    (tmp_path / "huge.yaml").write_text(EXPERIMENT)
    return tmp_path


def arms_done(folder: Path) -> set[str]:
    return {record.arm for record in SweepFolder(folder / "sweep").records()}


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("workers", ["1", "2"])
def test_arm_that_exceeds_memory_fails_and_others_finish(workers: str, experiment: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

    command = [sys.executable, "-m", "neftune_cli", *SWEEP, "--workers", workers]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=experiment, env=environment, preexec_fn=limited, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert arms_done(experiment) == {"base", "small batch"}
    assert MESSAGE in ended.stderr
