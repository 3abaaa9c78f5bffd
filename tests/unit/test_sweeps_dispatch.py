"""What follows when a trial or its worker ends in any way, decided on a worker whose deeds are written down before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.running import RunSettings
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.records import TrialRecord, TrialState
from neftune_cli.store import ClaimedTrial, SweepFolder
from neftune_cli.sweeps import dispatch
from neftune_cli.sweeps.dispatch import Dispatched, Dispatcher
from neftune_cli.sweeps.executors import Event, Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import Inspection, Preparation, resolved_evaluation
from neftune_cli.sweeps.progress import NullObserver, Result
from neftune_cli.training.cost import Calibration
from neftune_cli.training.trial import Trial
from tests.finished_trials import leave, leave_failed
from tests.sweep_in_progress import EVAL
from tests.unit.test_store import record

Deed = Callable[[Job, SweepFolder], Event]
"""What the worker does with a job that it has claimed."""
KILLED_WHY = "was killed, most likely by the system for want of memory"


@dataclass
class Scripted:
    """One worker that does with each job what is next on its list, and finishes it where nothing is left."""

    deeds: list[Deed] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    stopped: bool = False
    _events: list[Event] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def inspect(self, spec: SweepSpec) -> Inspection:
        raise NotImplementedError

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        raise NotImplementedError

    def calibrate(self, trial: TrialSpec) -> list[Calibration]:
        raise NotImplementedError

    def start(self, workers: int, threads: int, gpus: int) -> None: ...

    def free(self) -> int:
        return 0 if self._events else 1

    def submit(self, job: Job, folder: SweepFolder) -> None:
        self.jobs.append(job)
        self._events = [Started(job.trial), (self.deeds.pop(0) if self.deeds else finish)(job, folder)]

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def interrupt(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None: ...


@dataclass
class Told(NullObserver):
    """Remembers what it is told."""

    notes: list[str] = field(default_factory=list)
    ended: list[Result] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ended(self, result: Result) -> None:
        self.ended.append(result)


def finish(job: Job, folder: SweepFolder) -> Event:
    done = record(job.trial.arm, None, job.trial.seed).model_copy(update={"trial": job.trial.id, "eval": EVAL})
    leave(folder.trial(job.trial.id, job.trial.arm, job.trial.seed), done)
    return Finished(job.trial, done, None, 1.0)


def fail(job: Job, folder: SweepFolder) -> Event:
    leave_failed(folder.trial(job.trial.id, job.trial.arm, job.trial.seed), job.trial.id, "It broke.")
    return Finished(job.trial, None, Failure("failed", "It broke."), 1.0)


def die(job: Job, _: SweepFolder) -> Event:
    return WorkerDied(job.trial, "crashed (SIGSEGV)", "Fatal Python error: Segmentation fault\n  in matmul")


def be_killed(job: Job, _: SweepFolder) -> Event:
    return WorkerDied(job.trial, KILLED_WHY, lacked_memory=True)


def meet_full_disk(job: Job, _: SweepFolder) -> Event:
    return Finished(job.trial, None, Failure("disk-full", "No space is left."), 1.0)


def be_stopped(job: Job, _: SweepFolder) -> Event:
    return Finished(job.trial, None, Failure("stopped", "The trial was asked to stop."), 1.0)


def lose_claim(job: Job, _: SweepFolder) -> Event:
    return Finished(job.trial, None, Failure("claim-lost", "Another process has taken it over."), 1.0)


def find_taken(job: Job, _: SweepFolder) -> Event:
    return LeasedElsewhere(job.trial)


def finish_elsewhere(job: Job, folder: SweepFolder) -> Event:
    finish(job, folder)
    return LeasedElsewhere(job.trial)


@dataclass
class Desk:
    """A dispatcher with its scripted worker, two trials and a folder."""

    folder: SweepFolder
    worker: Scripted = field(default_factory=Scripted)
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        spec = resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]})
        self.folder.open(spec)
        evaluation = resolved_evaluation(spec, GenerationDefaults(max_new_tokens=4, repetition_penalty=1.0))
        self.trials = [
            Trial(f"id{place}", arm.name, spec.trial(arm, 0, evaluation), {}) for place, arm in enumerate(spec.arms)
        ]

    def run(
        self,
        *deeds: Deed,
        fail_fast: bool = False,
        settings: RunSettings | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Dispatched:
        self.worker.deeds = list(deeds)
        dispatcher = Dispatcher(
            self.folder,
            self.worker,
            self.told,
            settings or RunSettings(),
            settled=self.folder.write_tables,
            fail_fast=fail_fast,
        )
        return dispatcher.run(self.trials, interrupted)

    @property
    def given_out(self) -> list[tuple[str, int, int]]:
        """Trial, attempt and halvings of every job, in order."""
        return [(job.trial.id, job.attempt, job.halvings) for job in self.worker.jobs]

    def reason(self, trial: Trial) -> str:
        """Why a trial failed, as its folder says; empty if it didn't."""
        status = self.folder.trial(trial.id, trial.arm, trial.seed).status()
        return status.reason if status and status.state is TrialState.FAILED else ""

    def done(self) -> list[str]:
        return [one.trial for one in self.folder.records()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(SweepFolder(tmp_path / "sweep"))


def test_each_trial_is_given_out_once_in_its_order(desk: Desk) -> None:
    ran = desk.run()
    assert desk.given_out == [("id0", 1, 0), ("id1", 1, 0)]
    assert ran == Dispatched(ended={"id0", "id1"})
    assert desk.done() == ["id0", "id1"]


def test_a_failure_leaves_the_others_alone(desk: Desk) -> None:
    ran = desk.run(fail)
    assert (ran.ended, ran.stopped) == ({"id0", "id1"}, False)
    assert [(one.trial.id, one.reason) for one in desk.told.ended] == [("id0", "It broke."), ("id1", "")]
    assert desk.done() == ["id1"]


def test_a_failure_stops_the_others_where_that_is_asked_for(desk: Desk) -> None:
    ran = desk.run(fail, fail_fast=True)
    assert (ran.ended, ran.stopped, desk.worker.stopped) == ({"id0"}, True, True)
    assert desk.given_out == [("id0", 1, 0)]
    assert "--fail-fast" in desk.told.notes[-1]


def test_the_trial_of_a_dead_worker_is_tried_once_more_at_once(desk: Desk) -> None:
    desk.run(die)
    assert desk.given_out == [("id0", 1, 0), ("id0", 2, 0), ("id1", 1, 0)]
    assert desk.told.notes == ["alpha=0, seed 0: its worker crashed (SIGSEGV); it is tried again."]
    assert desk.done() == ["id0", "id1"]


def test_a_second_death_is_recorded_with_the_end_of_the_log(desk: Desk) -> None:
    desk.run(die, die)
    reason = desk.reason(desk.trials[0])
    assert reason.startswith("Its worker crashed (SIGSEGV), for the second time.")
    assert "Fatal Python error: Segmentation fault" in reason
    assert [(one.trial.id, one.reason) for one in desk.told.ended] == [("id0", reason), ("id1", "")]
    assert desk.done() == ["id1"]


def test_a_worker_that_lacked_memory_gets_half_the_batch_where_that_is_asked_for(desk: Desk) -> None:
    desk.run(be_killed, be_killed, settings=RunSettings(halve_batch=True))
    assert desk.given_out == [("id0", 1, 0), ("id0", 2, 1), ("id0", 3, 2), ("id1", 1, 0)]
    assert desk.told.notes[0] == f"alpha=0, seed 0: its worker {KILLED_WHY}; it is tried again with half the batch."


def test_what_cant_be_halved_any_more_fails(desk: Desk) -> None:
    halvings = 4  # the batches are of 16
    desk.run(*[be_killed] * (halvings + 1), settings=RunSettings(halve_batch=True))
    assert desk.given_out[halvings] == ("id0", halvings + 1, halvings)
    assert desk.reason(desk.trials[0]) == f"Its worker {KILLED_WHY}, for the 5th time."
    assert desk.done() == ["id1"]


def test_nothing_is_given_out_when_the_disk_is_full(desk: Desk) -> None:
    ran = desk.run(meet_full_disk)
    assert ran.halted == Failure("disk-full", "No space is left.")
    assert desk.given_out == [("id0", 1, 0)]
    assert (ran.ended, desk.told.ended, desk.worker.stopped) == (set(), [], True)


def test_a_trial_that_was_taken_over_is_left_to_whoever_has_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "LEASE_RETRY_SECONDS", 0.0)
    ran = desk.run(lose_claim, finish, finish_elsewhere)
    assert desk.given_out == [("id0", 1, 0), ("id1", 1, 0), ("id0", 1, 0)]
    assert ran.ended == {"id1"}
    assert sorted(desk.done()) == ["id0", "id1"]


def test_a_trial_that_another_process_has_is_asked_for_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "LEASE_RETRY_SECONDS", 0.0)
    ran = desk.run(find_taken, finish, find_taken, finish)
    assert [trial for trial, *_ in desk.given_out] == ["id0", "id1", "id0", "id0"]
    assert ran.ended == {"id0", "id1"}
    assert desk.told.notes == ["Another process works on this folder too: the trials are shared."]


def test_a_failure_that_another_process_saw_is_not_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "LEASE_RETRY_SECONDS", 0.0)

    def fail_elsewhere(job: Job, folder: SweepFolder) -> Event:
        fail(job, folder)
        return LeasedElsewhere(job.trial)

    ran = desk.run(fail_elsewhere)
    assert [trial for trial, *_ in desk.given_out] == ["id0", "id1"]
    assert ran.ended == {"id1"}


def test_an_interrupt_gives_nothing_more_out(desk: Desk) -> None:
    asked = iter([False, True, True])
    ran = desk.run(interrupted=lambda: next(asked))
    assert (ran.stopped, desk.worker.stopped) == (True, True)
    assert desk.given_out == [("id0", 1, 0)]


def test_tables_that_find_no_space_stop_the_sweep(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(desk.folder, "write_tables", no_space)
    ran = desk.run()
    assert ran.halted is not None
    assert ran.halted.kind == "disk-full"
    assert desk.given_out == [("id0", 1, 0)]


def test_a_worker_that_dies_without_a_trial_is_told(desk: Desk) -> None:
    desk.worker._events = [WorkerDied(None, "ended with exit code 1")]
    desk.worker.jobs.clear()
    desk.run()
    assert desk.told.notes == ["A worker ended with exit code 1; another takes its place."]
    assert desk.done() == ["id0", "id1"]


def test_the_tables_hold_what_ended_though_something_failed(desk: Desk) -> None:
    desk.run(fail)
    assert "alpha=5" in (desk.folder.path / "loss.csv").read_text()
    assert isinstance(desk.folder.records()[0], TrialRecord)


def test_the_trial_of_a_worker_that_was_told_to_end_is_tried_once_more(desk: Desk) -> None:
    desk.run(be_stopped)
    assert desk.given_out == [("id0", 1, 0), ("id0", 2, 0), ("id1", 1, 0)]
    assert desk.told.notes == ["alpha=0, seed 0: its worker was told to end; it is tried again."]
    assert desk.done() == ["id0", "id1"]


def test_a_trial_that_stops_because_all_are_to_stop_is_left_as_it_is(desk: Desk) -> None:
    told = iter([False, True])
    ran = desk.run(be_stopped, interrupted=lambda: next(told, True))
    assert desk.given_out == [("id0", 1, 0)]
    assert (ran.ended, desk.told.notes, desk.reason(desk.trials[0])) == (set(), [], "")


def test_a_second_death_under_a_claim_that_still_looks_alive_is_recorded_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LEASE_RETRY_SECONDS", 0.0)
    held: list[ClaimedTrial] = []

    def die_and_leave_a_child(job: Job, folder: SweepFolder) -> Event:
        claimed = folder.trial(job.trial.id, job.trial.arm, job.trial.seed).claim()
        assert claimed is not None
        held.append(claimed)
        return die(job, folder)

    def die_when_it_is_free(job: Job, folder: SweepFolder) -> Event:
        held[0].release()
        return die(job, folder)

    ran = desk.run(die, die_and_leave_a_child, finish, die_when_it_is_free)
    assert [trial for trial, *_ in desk.given_out] == ["id0", "id0", "id1", "id0"]
    assert desk.reason(desk.trials[0]).startswith("Its worker crashed")
    assert ran.ended == {"id0", "id1"}
