"""Jobs of SLURM as its commands report them: squeue answers or fails, and scancel ends jobs. submitit is not needed."""

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.sweeps.executors import slurm
from neftune_cli.sweeps.executors.slurm import SlurmCluster, SlurmJob, _package_found_by_jobs, _Queue
from neftune_cli.sweeps.executors.slurm_job import cancelled_mark

REPOSITORY = Path(__file__).parents[2]


class Commands:
    """Replaces the commands of SLURM. Each call of squeue gives the next answer; None is an error."""

    def __init__(self, answers: Iterable[str | None]) -> None:
        self.answers = iter(answers)
        self.calls: list[list[str]] = []

    def __call__(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(list(command))
        text = next(self.answers) if command[0] == "squeue" else ""
        return subprocess.CompletedProcess(command, 0 if text is not None else 1, text or "", "")


@pytest.fixture
def squeue(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the answers of squeue, each of which is asked for again at once."""

    def answers(*texts: str | None) -> Commands:
        commands = Commands(texts)
        monkeypatch.setattr(subprocess, "run", commands)
        return commands

    monkeypatch.setattr(slurm, "_QUEUE_SECONDS", -1.0)
    monkeypatch.setattr(slurm, "RESULT_SECONDS", -1.0)
    return answers


def job(job_id: str, folder: Path, queue: _Queue, submitted: float = float("-inf")) -> SlurmJob:
    paths = SimpleNamespace(result_pickle=folder / f"{job_id}.pkl", stderr=folder / f"{job_id}.err")
    return SlurmJob(SimpleNamespace(job_id=job_id, paths=paths), folder, queue, submitted)


def test_jobs_are_active_while_squeue_lists_them(squeue: Any) -> None:
    squeue("12_0 PENDING\n12_1 RUNNING\n", "12_0 PENDING\n12_1 RUNNING\n", None, *["12_1 COMPLETING\n"] * 2)
    queue, before = _Queue(), float("-inf")
    assert queue.is_active("12_0", before)
    assert not queue.is_active("13", before)
    queue.forget()
    assert queue.is_active("12_0", before), "squeue has failed, so the last answer counts"
    assert not queue.is_active("12_0", before)
    assert queue.is_active("12_1", before)


def test_a_job_is_not_lost_until_squeue_has_answered_after_its_submission(
    squeue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    squeue("12_0 RUNNING\n", None, None, None, "12_0 RUNNING\n13 PENDING\n", "12_0 RUNNING\n")
    clock = iter(float(n) for n in range(100))
    monkeypatch.setattr(slurm, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    queue = _Queue()
    assert job("12_0", tmp_path, queue).result() is None
    submitted = job("13", tmp_path, queue, submitted=next(clock))
    for _ in range(3):
        assert submitted.result() is None, "squeue has failed since the submission"
    assert submitted.result() is None
    died = submitted.result()
    assert died
    assert died["reason"] == "of job 13 ended without a result"


def test_a_job_of_an_earlier_command_is_adopted_while_squeue_fails(squeue: Any, tmp_path: Path) -> None:
    squeue(None, "", "")
    earlier = job("7", tmp_path, _Queue())
    assert earlier.is_active()
    assert not earlier.is_active()


def test_a_failing_squeue_is_asked_once_for_all_jobs(
    squeue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands, queue = squeue(None, None), _Queue()
    monkeypatch.setattr(slurm, "_QUEUE_SECONDS", 600.0)
    assert all(job(str(n), tmp_path, queue).is_active() for n in range(5))
    assert [command[0] for command in commands.calls] == ["squeue"]


@pytest.mark.parametrize(("at_once", "options"), [(False, [[]]), (True, [["--signal=KILL"], []])])
def test_jobs_are_cancelled_with_one_command_although_their_folder_is_gone(
    squeue: Any, tmp_path: Path, at_once: bool, options: list[list[str]]
) -> None:
    commands = squeue(*["7 RUNNING\n8 PENDING\n"] * 3)
    cluster, queue = SlurmCluster({}), _Queue()
    cluster.cancel([job(one, tmp_path / "gone", queue) for one in ("7", "8", "9")], at_once=at_once)
    assert [command[1:] for command in commands.calls if command[0] == "scancel"] == [
        [*one, "7", "8"] for one in options
    ]


def test_jobs_on_an_intact_disk_are_marked_as_cancelled(squeue: Any, tmp_path: Path) -> None:
    squeue("7 RUNNING\n")
    SlurmCluster({}).cancel([job("7", tmp_path, _Queue())], at_once=False)
    assert cancelled_mark(tmp_path, "7").exists()


@pytest.mark.parametrize("before", [None, "/some/libraries"])
def test_submitted_jobs_find_the_package_and_the_environment_of_the_command_is_restored(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", before)
    monkeypatch.setattr("sys.path", ["/usr/lib/python3/dist-packages"])

    def submit() -> None:
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(REPOSITORY), *([before] if before else [])]
        raise OSError("sbatch")

    with pytest.raises(OSError, match="sbatch"), _package_found_by_jobs():
        submit()
    assert os.environ.get("PYTHONPATH") == before
