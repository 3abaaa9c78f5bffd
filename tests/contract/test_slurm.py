"""Sweeps on SLURM: submitit's local processes, and a real cluster if `NEFTUNE_TEST_SLURM` names its settings.

`make slurm` starts a cluster of one node and runs these tests on it.
"""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from tests.cluster_sweeps import (
    FIRST_STEP,
    WAIT_SECONDS,
    command,
    sweep,
    tables,
    tables_of_the_local_executor,
    wait_for,
)

pytest.importorskip("submitit", reason="the extra slurm is not installed")

SETTINGS = os.environ.get("NEFTUNE_TEST_SLURM", "cluster=local").split()
IS_REAL = "cluster=local" not in SETTINGS
REQUEUE_SECONDS = 180 if IS_REAL else 0
"""Time until SLURM starts a requeued job: at least two minutes, fixed in its source."""
SLURM = ["--executor", "slurm", *(part for one in SETTINGS for part in ("--slurm", one))]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def submissions(folder: Path) -> Sequence[Path]:
    return sorted((folder / "jobs").glob("*/jobs.json"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the tables of the local executor."""
    return tables_of_the_local_executor(tmp_path_factory.mktemp("local") / "sweep")


def test_detached_sweep_is_collected_by_the_same_command(tmp_path: Path, expected: list[bytes]) -> None:
    folder, options = tmp_path / "sweep", (*SLURM, "--detach")
    submitted = sweep(folder, *options)
    assert "3 trials wait or run on the cluster" in submitted.stderr
    assert "--detach" in submitted.stderr
    assert not submitted.stdout
    assert not (folder / "summary.md").exists()
    again = sweep(folder, *options)
    assert "on the cluster" in again.stderr
    for arm in ("base-*", "alpha=0,*", "alpha=5,*"):
        wait_for(folder, f"trials/{arm}/record.json")
    assert "alpha" in sweep(folder, *options).stdout
    assert len(submissions(folder)) == 1
    assert tables(folder) == expected


def test_trials_of_a_killed_command_are_collected(tmp_path: Path, expected: list[bytes]) -> None:
    folder = tmp_path / "sweep"
    process = subprocess.Popen(command(folder, *SLURM, "--workers", "3"), stderr=subprocess.DEVNULL)
    wait_for(folder, "trials/alpha=5,*/metrics.jsonl")
    process.send_signal(signal.SIGKILL)
    process.wait()
    sweep(folder, *SLURM, "--workers", "3")
    assert len(submissions(folder)) == 1
    assert tables(folder) == expected


def test_interrupted_command_cancels_its_jobs_after_checkpoints(tmp_path: Path, expected: list[bytes]) -> None:
    folder = tmp_path / "sweep"
    process = subprocess.Popen(command(folder, *SLURM, "--workers", "1"), stderr=subprocess.DEVNULL)
    place = TrialFolder(wait_for(folder, "trials/alpha=0,*/metrics.jsonl").parent)
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_SECONDS) == 130
    assert place.newest_checkpoint()
    assert not place.is_leased()
    status = place.status()
    assert status
    assert status.state is TrialState.STOPPED
    sweep(folder, *SLURM, "--workers", "1")
    assert tables(folder) == expected


@pytest.mark.timeout(900)
def test_requeued_job_continues_from_its_checkpoint(tmp_path: Path, expected: list[bytes]) -> None:
    folder = tmp_path / "sweep"
    process = subprocess.Popen(command(folder, *SLURM, "--workers", "3"), stderr=subprocess.DEVNULL)
    place = TrialFolder(wait_for(folder, "trials/alpha=5,*/metrics.jsonl").parent)
    wait_for_step(place, 2)  # a stop in the first step comes before its line in the log
    job_id = requeue(folder, place.id)
    assert process.wait(WAIT_SECONDS + REQUEUE_SECONDS) == 0
    (submission,) = submissions(folder)  # one array; a retry by the command would be a second submission
    log_of_job = (submission.parent / f"{job_id}_0_log.out").read_text()
    assert "Calling checkpoint method" in log_of_job
    assert f"Requeued job {job_id} (" in log_of_job
    status = place.status()
    assert status
    assert status.attempts == 2
    log = place.log_path.read_text()
    assert (log.count(" attempt "), log.count(FIRST_STEP)) == (2, 1)
    assert tables(folder) == expected


def wait_for_step(place: TrialFolder, step: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not ((status := place.status()) and (status.step or 0) >= step):
        assert time.monotonic() < deadline, step
        time.sleep(0.02)


def requeue(folder: Path, trial: str) -> str:
    """Send the signal that SLURM sends before a time limit. Return the id of the job."""
    (job_id,) = (jobs[trial] for _, jobs in SweepFolder(folder).jobs() if trial in jobs)
    if IS_REAL:
        subprocess.run(shlex.split(f"scancel --signal=USR2 {job_id}"), check=True)
        return job_id
    import psutil

    (task,) = (
        child for child in psutil.Process(int(job_id)).children() if any("_submit" in part for part in child.cmdline())
    )
    task.send_signal(signal.SIGUSR2)
    return job_id


def test_refused_settings_are_a_usage_error(tmp_path: Path) -> None:
    if not IS_REAL:
        pytest.skip("needs a real cluster")
    found = subprocess.run(
        command(tmp_path / "sweep", "--executor", "slurm", "--slurm", "partition=none"),
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "sbatch refused the job" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "sweep").exists()
