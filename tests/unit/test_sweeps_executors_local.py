"""The local executor with workers whose messages a test writes, and a worker whose imports fail."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Finished, Job, local, worker
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.executors.messages import WorkerMessage, to_json, trial_event
from neftune_cli.sweeps.failures import Failure
from neftune_cli.training.stop_request import StopRequest
from tests.stopped_trials import trial_of

NO_MEMORY = Failure("out-of-memory", "Out of memory.")
BROKEN = Failure("failed", "ImportError: libcudart.so.12 is missing")


class Worker:
    """A worker that sends the messages in `messages`, and keeps the requests that it gets."""

    made: list["Worker"]

    def __init__(self, *_: Any) -> None:
        self._read, self._write = os.pipe()
        self.messages: list[WorkerMessage] = []
        self.requests: list[WorkerMessage] = []
        self.is_killed = False
        self.made.append(self)

    def fileno(self) -> int:
        return self._read

    def send(self, request: WorkerMessage) -> None:
        self.requests.append(request)

    def says(self, *messages: WorkerMessage) -> None:
        self.messages += messages
        os.write(self._write, b".")

    def receive(self) -> list[WorkerMessage]:
        messages, self.messages = self.messages, []
        return messages

    def exit_status(self) -> None: ...

    def kill(self) -> None:
        self.is_killed = True

    def request_exit(self) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Return the workers that an executor starts, in their order."""
    monkeypatch.setattr(Worker, "made", [], raising=False)
    monkeypatch.setattr(local, "WorkerHandle", Worker)
    return Worker.made


@pytest.fixture
def executor(workers: list[Worker]) -> Iterator[LocalExecutor]:
    with LocalExecutor() as one:
        one.start(1, 1, 0)
        yield one


def failed(failure: Failure, number: int | None = None) -> WorkerMessage:
    return {"event": "failed", "id": number, "failure": to_json(failure)}


def finished(number: int) -> WorkerMessage:
    return {"event": "finished", "id": number, "failure": to_json(BROKEN), "seconds": 2.0}


def submit(executor: LocalExecutor, folder: Path) -> Job:
    job = Job(trial_of(), TrialSettings())
    executor.submit(job, SweepFolder(folder))
    return job


def test_an_error_of_a_worker_outside_its_trial_is_the_failure_of_the_trial(
    executor: LocalExecutor, workers: list[Worker], tmp_path: Path
) -> None:
    job = submit(executor, tmp_path)
    workers[0].says(failed(BROKEN, workers[0].requests[-1]["id"]))
    assert executor.wait(0) == [Finished(job.trial, None, BROKEN, 0.0)]
    assert executor.capacity() == 1


def test_imports_that_fail_while_a_trial_is_submitted_do_not_end_it(
    executor: LocalExecutor, workers: list[Worker], tmp_path: Path
) -> None:
    job = submit(executor, tmp_path)
    workers[0].says(failed(BROKEN))
    assert executor.wait(0) == []
    workers[0].says(finished(workers[0].requests[-1]["id"]))
    assert executor.wait(0) == [Finished(job.trial, None, BROKEN, 2.0)]


def test_a_worker_whose_imports_ran_out_of_memory_is_replaced_with_its_trial(
    executor: LocalExecutor, workers: list[Worker], tmp_path: Path
) -> None:
    job = submit(executor, tmp_path)
    (request,) = workers[0].requests
    workers[0].says(failed(NO_MEMORY), {"event": "started", "id": request["id"]})
    assert executor.wait(0) == []
    assert [one.is_killed for one in workers] == [True, False]
    assert workers[1].requests == [request]
    workers[1].says(finished(request["id"]))
    assert executor.wait(0) == [Finished(job.trial, None, BROKEN, 2.0)]


def test_a_request_is_repeated_if_the_imports_before_it_ran_out_of_memory(
    executor: LocalExecutor, workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(worker: Worker, request: WorkerMessage) -> None:
        """Fail with the imports in the first worker, and answer in the second one."""
        worker.requests.append(request)
        if worker is workers[0]:
            worker.says(failed(NO_MEMORY))
        else:
            worker.says({"event": "answer", "id": request["id"], "value": 5})

    monkeypatch.setattr(Worker, "send", answer)
    assert executor._ask(executor._slots, {"request": "prepare"}, int) == [5]
    assert len(workers) == 2


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), ImportError("libcudart.so.12 is missing")])
def test_failed_imports_are_the_failure_of_the_trial_that_needs_them(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[WorkerMessage] = []

    class Events:
        def send(self, event: str, request: WorkerMessage, **values: Any) -> None:
            sent.append({"event": event, "id": request["id"], **values})

    class Reader:
        trial_is_running = threading.Event()

    def fail() -> None:
        raise error

    monkeypatch.setattr(worker, "_import_trainer", fail)
    job = Job(trial_of(), TrialSettings())
    handler = worker._RequestHandler(Events(), Reader(), StopRequest())  # type: ignore[arg-type]
    handler._handle({"request": "trial", "id": 7, "job": to_json(job), "folder": str(tmp_path)})
    (message,) = sent
    assert message["id"] == 7
    event = trial_event(job.trial, message)
    assert isinstance(event, Finished)
    assert event.failure
    assert event.failure.kind == ("out-of-memory" if isinstance(error, OSError) else "failed")
