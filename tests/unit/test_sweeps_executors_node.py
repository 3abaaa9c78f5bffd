"""A worker on a node of a cluster: requests to stop, whenever the signal arrives, and processes that cannot start."""

from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import NeftuneError
from neftune_cli.sweeps.executors import Event, Finished, Job, WorkerDied, ray_task
from neftune_cli.sweeps.executors.messages import answered_value, failure_in, to_json, trial_event
from neftune_cli.sweeps.executors.node import NodeWorker
from neftune_cli.sweeps.failures import STOPPED
from neftune_cli.sweeps.inspection import Inspection
from tests.stopped_trials import trial_of


class _WorkerThatStarts:
    """A local executor that starts its worker in `submit`, and passes a request to stop only to a started worker."""

    def __init__(self, node: NodeWorker, stop_at: str) -> None:
        self._node, self._stop_at = node, stop_at
        self._is_stopping = self._is_started = self._is_asked = False

    def stop(self) -> None:
        self._is_stopping = True
        self._is_asked = self._is_started

    def submit(self, job: Job, folder: Any) -> None:
        if self._stop_at == "before":
            self._node.stop()
        if self._is_stopping:
            raise RuntimeError("No worker is free. Call capacity() first.")
        if self._stop_at == "during":
            self._node.stop()
        self._is_started, self._job = True, job

    def wait(self, seconds: float) -> list[Event]:
        assert self._is_asked
        return [Finished(self._job.trial, None, STOPPED, 0.0)]


@pytest.mark.parametrize("stop_at", ["before", "during"])
def test_a_stop_while_the_worker_starts_stops_the_trial(
    stop_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeWorker(1)
    node.close()
    monkeypatch.setattr(node, "_executor", _WorkerThatStarts(node, stop_at))
    job = to_json(Job(trial_of(), TrialSettings()))
    answer = node.answer({"request": "trial", "job": job, "folder": str(tmp_path)})
    assert failure_in(answer) == STOPPED


class _WorkerThatCannotStart:
    """A local executor whose worker process ends before it is ready."""

    def submit(self, job: Job, folder: Any) -> None: ...

    def inspect(self, spec: SweepSpec) -> Inspection:
        raise NeftuneError("Workers cannot be started: the last one ended with exit code 1.")

    def wait(self, seconds: float) -> list[Event]:
        reason = "Workers cannot be started: the last one ended with exit code 1."
        raise NeftuneError(f"{reason}\nImportError: libcudart.so.12 is missing")

    def __exit__(self, *error: object) -> None: ...


@pytest.fixture
def node_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> NodeWorker:
    node = NodeWorker(1)
    node.close()
    monkeypatch.setattr(node, "_executor", _WorkerThatCannotStart())
    return node


def test_a_worker_that_cannot_be_started_is_reported_with_the_last_line_of_its_log(
    node_that_cannot_start: NodeWorker, tmp_path: Path
) -> None:
    trial = trial_of()
    request = {"request": "trial", "job": to_json(Job(trial, TrialSettings())), "folder": str(tmp_path)}
    died = trial_event(trial, node_that_cannot_start.answer(request))
    assert isinstance(died, WorkerDied)
    assert died.reason == "cannot be started"
    assert died.last_log_line == "ImportError: libcudart.so.12 is missing"


def test_a_request_to_a_worker_that_cannot_be_started_is_answered_by_its_error(
    node_that_cannot_start: NodeWorker,
) -> None:
    answer = node_that_cannot_start.answer(
        {"request": "inspect", "spec": to_json(resolve_sweep(None, {"alphas": [0.0, 5.0]}))}
    )
    with pytest.raises(NeftuneError, match=r"^Workers cannot be started: the last one ended with exit code 1\.$"):
        answered_value(Inspection, answer)


def test_a_task_of_ray_does_not_keep_a_worker_that_cannot_be_started(
    node_that_cannot_start: NodeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [node_that_cannot_start]
    monkeypatch.setattr(ray_task, "_KEPT", kept)
    request = {"request": "trial", "job": to_json(Job(trial_of(), TrialSettings())), "folder": str(tmp_path)}
    assert ray_task.answer_request(request, 1, str(tmp_path))["event"] == "died"
    assert not kept
