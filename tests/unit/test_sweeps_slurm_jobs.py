"""Jobs of SLURM as its commands report them: squeue answers or fails, and scancel ends jobs. submitit is not needed."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.sweeps.executors import slurm
from neftune_cli.sweeps.executors.slurm import SlurmJob, _Queue


class Commands:
    """Replaces the commands of SLURM. Each call of squeue gives the next answer; None is an error."""

    def __init__(self, answers: Iterable[str | None]) -> None:
        self.answers = iter(answers)
        self.calls: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
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
    return SlurmJob(SimpleNamespace(job_id=job_id, paths=paths), folder, queue, submitted)  # type: ignore[arg-type]


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
