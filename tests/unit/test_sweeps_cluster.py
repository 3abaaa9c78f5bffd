"""The executor for clusters with a scripted scheduler: events, limits, stops and detached trials."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.executors.cluster import ClusterExecutor, ClusterTask
from neftune_cli.sweeps.executors.messages import WorkerMessage
from neftune_cli.sweeps.executors.ray import RayCluster, _check_reachable
from neftune_cli.sweeps.failures import STOPPED
from neftune_cli.sweeps.inspection import ClusterSlots, resolved_evaluation
from neftune_cli.training.trial import Trial

FAILED: WorkerMessage = {
    "event": "finished",
    "started": True,
    "failure": {"kind": "failed", "reason": "It broke."},
    "seconds": 1.0,
}
LOST: WorkerMessage = {"event": "died", "reason": "or its node was lost", "machine_lost": True}


@dataclass
class ScriptedJob:
    task: ClusterTask
    answer: WorkerMessage | None
    cancelled: list[bool] = field(default_factory=list)

    def result(self) -> WorkerMessage | None:
        return self.answer


@dataclass
class ScriptedCluster:
    """A scheduler whose jobs have given answers; None is a job that runs on."""

    answers: list[WorkerMessage | None] = field(default_factory=list)
    batches: list[list[ScriptedJob]] = field(default_factory=list)
    poll_seconds: float = 0.001
    node_key: Mapping[str, Any] | None = None
    queues: bool = False
    closed: bool = False

    def slots(self) -> ClusterSlots:
        return ClusterSlots(8, 2)

    def limit(self, workers: int) -> None: ...

    def submit(self, tasks: Sequence[ClusterTask]) -> list[ScriptedJob]:
        self.batches.append([ScriptedJob(task, self.answers.pop(0) if self.answers else None) for task in tasks])
        return self.batches[-1]

    def cancel(self, tasks: Sequence[ScriptedJob], *, at_once: bool) -> None:
        for one in tasks:
            one.cancelled.append(at_once)
            one.answer = one.answer or LOST

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    one = SweepFolder(tmp_path / "sweep")
    one.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]}))
    return one


def jobs() -> list[Job]:
    spec = resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]})
    evaluation = resolved_evaluation(spec, GenerationDefaults(max_new_tokens=4, repetition_penalty=1.0))
    trials = [Trial(f"id{n}", arm.name, spec.trial(arm, 0, evaluation), {}) for n, arm in enumerate(spec.arms)]
    return [Job(trial, TrialSettings()) for trial in trials]


def test_trials_submitted_together_are_one_batch(folder: SweepFolder) -> None:
    cluster = ScriptedCluster([FAILED, LOST])
    with ClusterExecutor(cluster) as executor:
        executor.start(2, 1, 0)
        first, second = jobs()
        executor.submit(first, folder)
        executor.submit(second, folder)
        assert executor.capacity() == 0
        started, finished, died = executor.wait(5)
    assert [len(batch) for batch in cluster.batches] == [2]
    assert [job.task.name for job in cluster.batches[0]] == ["alpha=0, seed 0", "alpha=5, seed 0"]
    assert started == Started(first.trial)
    assert isinstance(finished, Finished)
    assert finished.failure
    assert finished.failure.reason == "It broke."
    assert died == WorkerDied(second.trial, "or its node was lost", machine_lost=True)
    assert cluster.closed


def test_a_leased_trial_is_not_submitted(folder: SweepFolder) -> None:
    cluster, (job, _) = ScriptedCluster(), jobs()
    leased = folder.trial(job.trial.id, job.trial.arm, job.trial.seed).acquire_lease(lease_seconds=120)
    assert leased
    with leased, ClusterExecutor(cluster) as executor:
        executor.submit(job, folder)
        assert executor.wait(5) == [LeasedElsewhere(job.trial)]
    assert not cluster.batches


def test_a_scheduler_with_a_queue_takes_all_trials(folder: SweepFolder) -> None:
    with ClusterExecutor(ScriptedCluster(queues=True)) as executor:
        executor.start(1, 1, 0)
        for job in jobs():
            executor.submit(job, folder)
        assert executor.capacity() > 0


def test_stopped_trials_report_that_they_were_stopped(folder: SweepFolder) -> None:
    cluster = ScriptedCluster()
    with ClusterExecutor(cluster) as executor:
        executor.submit(jobs()[0], folder)
        assert executor.wait(0) == []
        executor.stop()
        assert executor.capacity() == 0
        (event,) = executor.wait(5)
    assert isinstance(event, Finished)
    assert event.failure
    assert event.failure.kind == "stopped"
    assert cluster.batches[0][0].cancelled == [False]


def test_trials_that_wait_for_a_submission_are_not_submitted_after_a_stop(folder: SweepFolder) -> None:
    cluster = ScriptedCluster()
    with ClusterExecutor(cluster) as executor:
        executor.submit(jobs()[0], folder)
        executor.stop()
        (event,) = executor.wait(5)
    assert event == Finished(jobs()[0].trial, None, STOPPED, 0.0)
    assert not cluster.batches


@pytest.mark.parametrize(("detached", "cancelled"), [(True, []), (False, [False])])
def test_detached_trials_go_on_after_the_end(folder: SweepFolder, detached: bool, cancelled: list[bool]) -> None:
    cluster = ScriptedCluster()
    with ClusterExecutor(cluster, detached=detached) as executor:
        executor.submit(jobs()[0], folder)
        executor.wait(0)
    assert cluster.batches[0][0].cancelled == cancelled


def test_answers_to_requests_raise_the_errors_of_the_node() -> None:
    refused = {"event": "refused", "problems": [{"what": "No room.", "fix": "Make room."}]}
    with ClusterExecutor(ScriptedCluster([refused, LOST])) as executor:
        with pytest.raises(UsageError, match=r"No room\."):
            executor.prepare([])
        with pytest.raises(NeftuneError, match="node was lost"):
            executor.prepare([])


@pytest.mark.parametrize("at_once", [False, True])
def test_a_task_of_ray_that_cannot_be_cancelled_does_not_keep_the_others_alive(at_once: bool) -> None:
    cancelled: list[tuple[str, bool]] = []

    class Task:
        def __init__(self, name: str) -> None:
            self.name = name

        def cancel(self, *, at_once: bool) -> None:
            if self.name == "unreachable":
                raise OSError(self.name)
            cancelled.append((self.name, at_once))

    with pytest.raises(OSError, match="unreachable"):
        RayCluster().cancel([Task("first"), Task("unreachable"), Task("last")], at_once=at_once)  # type: ignore[list-item]
    assert sorted(cancelled) == [("first", at_once), ("last", at_once)]


@pytest.mark.parametrize(
    ("address", "connected"),
    [
        ("ray://head:10001", [("head", 10001)]),
        ("10.0.0.7:6379", [("10.0.0.7", 6379)]),
        ("[fe80::7]:6379", [("fe80::7", 6379)]),
        ("auto", []),
        (None, []),
    ],
)
def test_the_head_node_of_ray_is_tried_at_its_address(
    address: str | None, connected: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, int]] = []

    def connect(where: tuple[str, int], seconds: float) -> socket.socket:
        tried.append(where)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    _check_reachable(address)
    assert tried == connected
