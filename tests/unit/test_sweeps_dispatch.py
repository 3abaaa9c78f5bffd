"""Reactions of the dispatcher to each way a trial or its worker can end, tested with a scripted executor."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.records import TrialRecord, TrialState
from neftune_cli.store import LeasedTrial, SweepFolder
from neftune_cli.sweeps import dispatch
from neftune_cli.sweeps.dispatch import Dispatcher, DispatchResult
from neftune_cli.sweeps.executors import MAX_MACHINE_LOSSES, Event, Finished, Job, LeasedElsewhere, WorkerDied
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.inspection import resolved_evaluation
from neftune_cli.sweeps.progress import NullObserver
from neftune_cli.training.trial import Trial
from tests.scripted_executor import (
    KILLED,
    Act,
    ScriptedExecutor,
    be_killed,
    be_stopped,
    die,
    fail,
    find_leased,
    finish,
    finish_elsewhere,
    lose_lease,
    lose_node,
    meet_full_disk,
)


@dataclass
class RecordingObserver(NullObserver):
    """Record the notes and the ends of trials."""

    notes: list[str] = field(default_factory=list)
    ended: list[Finished] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ended(self, end: Finished) -> None:
        self.ended.append(end)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Return the ids of the ended trials, each with the reason of its failure or an empty text."""
        return [(one.trial.id, one.failure.reason if one.failure else "") for one in self.ended]


@dataclass
class DispatcherCase:
    """A dispatcher with a scripted executor, two trials and a folder."""

    folder: SweepFolder
    executor: ScriptedExecutor = field(default_factory=ScriptedExecutor)
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    def __post_init__(self) -> None:
        spec = resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]})
        self.folder.open(spec)
        evaluation = resolved_evaluation(spec, GenerationDefaults(max_new_tokens=4, repetition_penalty=1.0))
        self.trials = [
            Trial(f"id{place}", arm.name, spec.trial(arm, 0, evaluation), {}) for place, arm in enumerate(spec.arms)
        ]

    def run(
        self,
        *acts: Act,
        fail_fast: bool = False,
        settings: TrialSettings | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> DispatchResult:
        self.executor.acts = list(acts)
        dispatcher = Dispatcher(
            self.folder,
            self.executor,
            self.observer,
            settings or TrialSettings(),
            after_trial=self.folder.write_tables,
            fail_fast=fail_fast,
        )
        return dispatcher.run(self.trials, interrupted)

    @property
    def submitted(self) -> list[tuple[str, int, int]]:
        """Return trial, attempt and halvings of every submitted job, in order."""
        return [(job.trial.id, job.tries, job.halvings) for job in self.executor.jobs]

    def reason(self, trial: Trial) -> str:
        """Return the failure in the trial's folder, or an empty string."""
        status = self.folder.trial(trial.id, trial.arm, trial.seed).status()
        return status.reason if status and status.state is TrialState.FAILED else ""

    def done(self) -> list[str]:
        return [one.trial for one in self.folder.records()]


@pytest.fixture
def case(tmp_path: Path) -> DispatcherCase:
    return DispatcherCase(SweepFolder(tmp_path / "sweep"))


def test_each_trial_is_submitted_once_in_order(case: DispatcherCase) -> None:
    ran = case.run()
    assert case.submitted == [("id0", 1, 0), ("id1", 1, 0)]
    assert ran == DispatchResult(ended={"id0", "id1"})
    assert case.done() == ["id0", "id1"]


def test_after_a_failure_the_other_trials_run(case: DispatcherCase) -> None:
    ran = case.run(fail)
    assert (ran.ended, ran.stopped) == ({"id0", "id1"}, False)
    assert case.observer.reasons == [("id0", "It broke."), ("id1", "")]
    assert case.done() == ["id1"]


def test_fail_fast_stops_the_other_trials(case: DispatcherCase) -> None:
    ran = case.run(fail, fail_fast=True)
    assert (ran.ended, ran.stopped, case.executor.stopped) == ({"id0"}, True, True)
    assert case.submitted == [("id0", 1, 0)]
    assert "--fail-fast" in case.observer.notes[-1]


def test_the_trial_of_a_dead_worker_is_retried_once_at_once(case: DispatcherCase) -> None:
    case.run(die)
    assert case.submitted == [("id0", 1, 0), ("id0", 2, 0), ("id1", 1, 0)]
    assert case.observer.notes == ["alpha=0, seed 0: the worker crashed (SIGSEGV). Retrying."]
    assert case.done() == ["id0", "id1"]


def test_a_second_death_is_recorded_with_the_last_log_line(case: DispatcherCase) -> None:
    case.run(die, die)
    reason = case.reason(case.trials[0])
    assert reason.startswith("The worker crashed (SIGSEGV). The trial was tried 2 times.")
    assert "Fatal Python error: Segmentation fault" in reason
    assert case.observer.reasons == [("id0", reason), ("id1", "")]
    assert case.done() == ["id1"]


def test_the_loss_of_a_node_does_not_count_as_an_attempt(case: DispatcherCase) -> None:
    case.run(lose_node, die, lose_node)
    assert case.submitted == [("id0", 1, 0), ("id0", 1, 0), ("id0", 2, 0), ("id0", 2, 0), ("id1", 1, 0)]
    assert case.observer.notes[0] == "alpha=0, seed 0: the worker or its node was lost. Retrying."
    assert case.done() == ["id0", "id1"]


def test_a_trial_whose_nodes_are_lost_again_and_again_fails(case: DispatcherCase) -> None:
    case.run(*[lose_node] * 30)
    assert len([trial for trial, *_ in case.submitted if trial == "id0"]) == MAX_MACHINE_LOSSES + 1
    assert case.reason(case.trials[0]) == "The worker or its node was lost."


def test_after_an_out_of_memory_kill_the_batch_size_is_halved_on_request(case: DispatcherCase) -> None:
    case.run(be_killed, be_killed, settings=TrialSettings(halve_batch=True))
    assert case.submitted == [("id0", 1, 0), ("id0", 2, 1), ("id0", 3, 2), ("id1", 1, 0)]
    assert case.observer.notes[0] == f"alpha=0, seed 0: the worker {KILLED}. Retrying with half the batch size."


def test_halving_does_not_depend_on_the_reason_of_a_death(case: DispatcherCase) -> None:
    def die_with_reason(job: Job, _: SweepFolder) -> Event:
        return WorkerDied(job.trial, KILLED, "Out of memory.", out_of_memory=False)

    case.run(die_with_reason, settings=TrialSettings(halve_batch=True))
    assert case.submitted == [("id0", 1, 0), ("id0", 2, 0), ("id1", 1, 0)]


def test_a_batch_of_one_example_is_not_halved_and_the_trial_fails(case: DispatcherCase) -> None:
    halvings = 4  # the batch size is 16
    case.run(*[be_killed] * (halvings + 1), settings=TrialSettings(halve_batch=True))
    assert case.submitted[halvings] == ("id0", halvings + 1, halvings)
    assert case.reason(case.trials[0]) == f"The worker {KILLED}. The trial was tried 5 times."
    assert case.done() == ["id1"]


def test_a_full_disk_stops_the_sweep(case: DispatcherCase) -> None:
    ran = case.run(meet_full_disk)
    assert ran.halted == Failure("disk-full", "No space is left.")
    assert case.submitted == [("id0", 1, 0)]
    assert (ran.ended, case.observer.ended, case.executor.stopped) == (set(), [], True)


def test_a_trial_whose_lease_was_lost_is_left_to_the_other_process(
    case: DispatcherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LEASE_POLL_SECONDS", 0.0)
    ran = case.run(lose_lease, finish, finish_elsewhere)
    assert case.submitted == [("id0", 1, 0), ("id1", 1, 0), ("id0", 1, 0)]
    assert ran.ended == {"id1"}
    assert sorted(case.done()) == ["id0", "id1"]


def test_a_trial_leased_by_another_process_is_submitted_again(
    case: DispatcherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LEASE_POLL_SECONDS", 0.0)
    ran = case.run(find_leased, finish, find_leased, finish)
    assert [trial for trial, *_ in case.submitted] == ["id0", "id1", "id0", "id0"]
    assert ran.ended == {"id0", "id1"}
    assert case.observer.notes == ["Another process is running trials of this sweep. The processes share the trials."]


def test_a_failure_recorded_by_another_process_is_not_retried(
    case: DispatcherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LEASE_POLL_SECONDS", 0.0)

    def fail_elsewhere(job: Job, folder: SweepFolder) -> Event:
        fail(job, folder)
        return LeasedElsewhere(job.trial)

    ran = case.run(fail_elsewhere)
    assert [trial for trial, *_ in case.submitted] == ["id0", "id1"]
    assert ran.ended == {"id1"}


def test_after_an_interrupt_nothing_is_submitted(case: DispatcherCase) -> None:
    interrupted = iter([False, True, True])
    ran = case.run(interrupted=lambda: next(interrupted))
    assert (ran.stopped, case.executor.stopped) == (True, True)
    assert case.submitted == [("id0", 1, 0)]


def test_a_full_disk_during_a_table_update_stops_the_sweep(
    case: DispatcherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case.folder, "write_tables", no_space)
    ran = case.run()
    assert ran.halted is not None
    assert ran.halted.kind == "disk-full"
    assert case.submitted == [("id0", 1, 0)]


def test_a_trial_that_cannot_be_read_before_its_submission_stops_the_sweep(case: DispatcherCase) -> None:
    second = case.trials[1]

    def finish_and_lose_the_next(job: Job, folder: SweepFolder) -> Event:
        (folder.trial(second.id, second.arm, second.seed).path / "record.json").mkdir(parents=True)
        return fail(job, folder)

    updates: list[str] = []
    case.executor.acts = [finish_and_lose_the_next]
    dispatcher = Dispatcher(
        case.folder,
        case.executor,
        case.observer,
        TrialSettings(),
        after_trial=lambda: updates.append("tables"),
        fail_fast=False,
    )
    ran = dispatcher.run(case.trials, lambda: False)
    assert (ran.ended, ran.stopped, case.executor.stopped) == ({"id0"}, True, True)
    assert ran.halted is not None
    assert "record.json cannot be read" in ran.halted.reason
    assert case.submitted == [("id0", 1, 0)]
    assert (updates, case.observer.reasons) == (["tables"], [("id0", "It broke.")])


def test_the_death_of_an_idle_worker_is_noted(case: DispatcherCase) -> None:
    case.executor._events = [WorkerDied(None, "ended with exit code 1")]
    case.executor.jobs.clear()
    case.run()
    assert case.observer.notes == ["A worker ended with exit code 1. A new worker replaces it."]
    assert case.done() == ["id0", "id1"]


def test_after_a_failure_the_tables_have_the_finished_trials(case: DispatcherCase) -> None:
    case.run(fail)
    assert "alpha=5" in (case.folder.path / "loss.csv").read_text()
    assert isinstance(case.folder.records()[0], TrialRecord)


def test_the_trial_of_a_worker_that_was_asked_to_stop_is_retried_once(case: DispatcherCase) -> None:
    case.run(be_stopped)
    assert case.submitted == [("id0", 1, 0), ("id0", 2, 0), ("id1", 1, 0)]
    assert case.observer.notes == ["alpha=0, seed 0: the worker was asked to stop. Retrying."]
    assert case.done() == ["id0", "id1"]


def test_a_trial_that_stops_with_the_sweep_is_not_retried(case: DispatcherCase) -> None:
    interrupted = iter([False, True])
    ran = case.run(be_stopped, interrupted=lambda: next(interrupted, True))
    assert case.submitted == [("id0", 1, 0)]
    assert (ran.ended, case.observer.notes, case.reason(case.trials[0])) == (set(), [], "")


def test_a_second_death_is_recorded_when_the_lease_is_free(
    case: DispatcherCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LEASE_POLL_SECONDS", 0.0)
    held: list[LeasedTrial] = []

    def die_and_leave_a_child(job: Job, folder: SweepFolder) -> Event:
        leased = folder.trial(job.trial.id, job.trial.arm, job.trial.seed).acquire_lease(lease_seconds=120)
        assert leased is not None
        held.append(leased)
        return die(job, folder)

    def die_when_it_is_free(job: Job, folder: SweepFolder) -> Event:
        held[0].release()
        return die(job, folder)

    ran = case.run(die, die_and_leave_a_child, finish, die_when_it_is_free)
    assert [trial for trial, *_ in case.submitted] == ["id0", "id0", "id1", "id0"]
    assert case.reason(case.trials[0]).startswith("The worker crashed (SIGSEGV). The trial was tried 2 times.")
    assert ran.ended == {"id0", "id1"}
