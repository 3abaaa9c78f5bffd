"""Contract of executors, tested on every registered executor with real trials of a few steps."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.executors import (
    EXECUTORS,
    INLINE,
    LOCAL,
    RAY,
    ExecutorDeclaration,
    make_executor,
    missing_library,
    register_executor,
)
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import SweepSettings, TrialSettings
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Event, Executor, Finished, Job, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.executors.cluster import ClusterExecutor
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.plan import Plan, make_plan
from neftune_cli.sweeps.progress import NullObserver
from neftune_cli.sweeps.runner import run_sweep
from neftune_cli.training.trial import Trial
from tests.registries import restored
from tests.small_model import SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

SMALL = {"model": SMALL_MODEL, "train_examples": 16, "eval_examples": 4, "alphas": [0.0, 5.0], "seeds": [0, 1]}
QUICK = {"train": {"max_steps": 2}, "evaluation": {"max_new_tokens": 4}}
WAIT_SECONDS = 120


def spec_of(**changes: object) -> SweepSpec:
    return resolve_sweep(None, {**SMALL, **QUICK, **changes})


ON_THIS_MACHINE: dict[str, dict[str, Any]] = {"slurm": {"slurm": {"cluster": "local"}}, "ray": {"address": "local"}}
"""Settings with which an executor for clusters runs its trials here."""
RAY_COPIES = "ray without a shared disk"
"""The executor `ray` as it runs trials on nodes that do not see the results folder."""
NAMES = [*EXECUTORS.names(), RAY_COPIES]


def made_here(name: str) -> Executor:
    """Return an executor without a cluster, or skip the test if its library is not installed."""
    if missing := list(missing_library(RAY if name == RAY_COPIES else name)):
        pytest.skip(missing[0].what)
    if name == RAY_COPIES:
        from neftune_cli.sweeps.executors.ray import RayCluster

        return ClusterExecutor(RayCluster("local", shares_disk=False))
    return make_executor(name, ON_THIS_MACHINE.get(name))


@pytest.fixture(scope="module", params=NAMES)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with made_here(request.param) as one:
        one.start(1, 1, 0)
        yield one


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


def planned(executor: Executor, sweep: SweepFolder, **changes: object) -> Plan:
    plan = make_plan(spec_of(**changes), sweep, executor.inspect)
    sweep.open(plan.spec)
    return plan


def run(executor: Executor, sweep: SweepFolder, *trials: Trial, settings: TrialSettings | None = None) -> list[Event]:
    """Run trials one after another, and return all events."""
    events: list[Event] = []
    for trial in trials:
        executor.submit(Job(trial, settings or TrialSettings()), sweep)
        events += until_end(executor)
    return events


def until_end(executor: Executor) -> list[Event]:
    """Return the events up to the end of a trial."""
    events: list[Event] = []
    while not (events and isinstance(events[-1], LeasedElsewhere | Finished)):
        events += executor.wait(WAIT_SECONDS)
    return events


def trial_folder(sweep: SweepFolder, trial: Trial) -> TrialFolder:
    return sweep.trial(trial.id, trial.arm, trial.seed)


def finished(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def state(sweep: SweepFolder, trial: Trial) -> TrialState | None:
    status = trial_folder(sweep, trial).status()
    return status.state if status else None


def test_inspection_has_the_facts_for_a_plan(executor: Executor) -> None:
    found = executor.inspect(spec_of())
    assert not found.problems
    assert found.spec == spec_of()
    assert found.data is not None
    assert (found.data.train_examples, found.data.held_out_examples, found.data.has_prompts) == (16, 4, True)
    assert "peft" in found.lora_environment
    assert "peft" not in found.environment


def test_inspection_collects_all_problems(executor: Executor, tmp_path: Path) -> None:
    data = str(tmp_path / "none.jsonl")
    found = executor.inspect(spec_of(model="./none", dataset=data, train={"max_steps": 1, "optimm": "sgd"}))
    texts = " ".join(problem.what for problem in found.problems)
    assert "'./none'" in texts
    assert "none.jsonl" in texts
    assert "SFTConfig has no field 'optimm'" in texts
    assert found.model is None
    assert found.data is None


def test_inspection_computes_alpha_from_signal_to_noise_ratio(executor: Executor) -> None:
    found = executor.inspect(spec_of(alphas=None, snr=[20.0, 10.0]))
    assert not found.problems
    one, other = (arm.alpha for arm in found.spec.arms if arm.alpha)
    assert other == pytest.approx(2 * one, rel=0.01)
    assert len(found.notes) == 2


def test_data_that_do_not_fit_raise_usage_error(executor: Executor, sweep: SweepFolder) -> None:
    plan = planned(executor, sweep, train={"max_steps": 1, "max_length": 2})
    with pytest.raises(UsageError, match="--max-length 2"):
        executor.prepare([trial.spec for trial in plan.trials])


def test_trial_starts_and_finishes_with_its_record(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[-1]
    events = run(executor, sweep, trial)
    assert isinstance(events[0], Started)
    assert len(events) == 2
    assert all(one.trial == trial for one in events)
    assert finished(events).failure is None
    on_disk, reported = trial_folder(sweep, trial).record(), finished(events).record
    assert on_disk is not None
    assert reported is not None
    assert (reported.loss, reported.identity) == (on_disk.loss, on_disk.identity)
    status = trial_folder(sweep, trial).status()
    assert status is not None
    assert (status.state, status.attempts, status.steps) == (TrialState.DONE, 1, 2)
    assert status.seconds is not None
    assert 0 < status.seconds <= finished(events).seconds + 0.01  # the lease is held during a part of the attempt
    assert status.peak_memory
    assert status.parameters == status.trained_parameters
    assert status.parameters
    assert executor.capacity() == 1


def test_lease_is_released(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    run(executor, sweep, trial)
    assert not trial_folder(sweep, trial).is_leased()
    assert not trial_folder(sweep, trial).has_leftovers()


def test_trial_that_another_process_has_leased_is_not_run(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[1]
    leased = trial_folder(sweep, trial).acquire_lease(lease_seconds=120)
    assert leased is not None
    with leased:
        assert run(executor, sweep, trial) == [LeasedElsewhere(trial)]
    assert state(sweep, trial) is None


def test_finished_trial_is_not_run_again(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    run(executor, sweep, trial)
    record = trial_folder(sweep, trial).path / "record.json"
    before = record.stat().st_mtime_ns
    (event,) = run(executor, sweep, trial)
    assert finished([event]).record == trial_folder(sweep, trial).record()
    assert record.stat().st_mtime_ns == before


def test_failed_trial_does_not_affect_the_next_one(executor: Executor, sweep: SweepFolder) -> None:
    diverging = planned(executor, sweep, train={"max_steps": 4, "learning_rate": 1e20}).trials[-1]
    failure = finished(run(executor, sweep, diverging)).failure
    assert failure is not None
    assert failure.kind == "failed"
    assert state(sweep, diverging) is TrialState.FAILED
    assert "Traceback" in trial_folder(sweep, diverging).log_path.read_text()
    assert finished(run(executor, sweep, planned(executor, SweepFolder(sweep.path / "other")).trials[-1])).record


def test_trial_fails_if_data_changed_after_planning(executor: Executor, sweep: SweepFolder) -> None:
    failure = finished(run(executor, sweep, with_other_data(planned(executor, sweep).trials[0]))).failure
    assert failure is not None
    assert "changed while the sweep ran" in failure.reason


def test_attempts_are_counted_and_share_a_log(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    run(executor, sweep, with_other_data(trial), trial)
    status = trial_folder(sweep, trial).status()
    assert status is not None
    assert (status.state, status.attempts) == (TrialState.DONE, 2)
    log = trial_folder(sweep, trial).log_path.read_text()
    assert log.index("attempt 1") < log.index("changed while the sweep ran") < log.index("attempt 2")


def with_other_data(trial: Trial) -> Trial:
    return Trial(trial.id, trial.arm, trial.spec, {**trial.identity, "data": "0" * 16})


def test_submit_without_capacity_raises(executor: Executor, sweep: SweepFolder) -> None:
    base, first, *_ = planned(executor, sweep).trials
    executor.submit(Job(base, TrialSettings()), sweep)
    assert executor.capacity() == 0
    with pytest.raises(RuntimeError):
        executor.submit(Job(first, TrialSettings()), sweep)
    until_end(executor)


def test_wait_without_jobs_returns_no_events(executor: Executor) -> None:
    assert executor.wait(0.1) == []


def test_library_error_during_calibration_raises_neftune_error(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep, train={"max_steps": 2}).trials[-1]
    train = trial.spec.train.model_copy(update={"sft": {"lr_scheduler_type": "unheard of"}})
    with pytest.raises(NeftuneError, match="unheard of"):
        executor.calibrate(trial.spec.model_copy(update={"train": train}), 30.0)


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != INLINE]


@pytest.mark.parametrize("name", [INLINE, *OTHERS])
def test_stopped_trial_releases_its_lease_and_finishes_next_time(name: str, sweep: SweepFolder) -> None:
    with made_here(name) as executor:
        trial = planned(executor, sweep).trials[-1]
        executor.start(1, 1, 0)
        executor.submit(Job(trial, TrialSettings()), sweep)
        executor.stop()
        assert executor.capacity() == 0
        failure = finished(until_end(executor)).failure
        assert failure is not None
        assert failure.kind == "stopped"
        assert not trial_folder(sweep, trial).is_leased()
    with made_here(name) as executor:
        executor.start(1, 1, 0)
        assert finished(run(executor, sweep, trial)).record


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != INLINE])
def test_trial_of_a_killed_worker_continues_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    steps, settings = {"train": {"max_steps": 12}}, TrialSettings(checkpoint_steps=1)
    whole, killed = SweepFolder(tmp_path / "whole"), SweepFolder(tmp_path / "killed")
    with made_here(name) as executor:
        trial = planned(executor, whole, **steps).trials[-1]
        executor.start(1, 1, 0)
        run(executor, whole, trial, settings=settings)
        planned(executor, killed, **steps)
        executor.submit(Job(trial, settings), killed)
        death = wait_and_kill(executor, trial_folder(killed, trial))
        assert death.trial == trial
        (event,) = run(executor, killed, trial, settings=settings)[-1:]
        assert finished([event]).record
    status = trial_folder(killed, trial).status()
    assert status is not None
    assert status.attempts == 2
    for file in ("record.json", "metrics.jsonl", "examples.parquet"):
        assert (trial_folder(killed, trial).path / file).read_bytes() == (
            trial_folder(whole, trial).path / file
        ).read_bytes()


def wait_and_kill(executor: Executor, folder: TrialFolder) -> WorkerDied:
    """Kill the worker of a trial when there is a checkpoint, and return the event that reports the death."""
    was_killed = False
    while True:
        for event in executor.wait(0.05):
            if isinstance(event, WorkerDied):
                return event
            assert isinstance(event, Started)
        status = folder.status()
        if status and status.process and folder.newest_checkpoint() and not was_killed:
            os.kill(status.process, signal.SIGKILL)
            was_killed = True


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in (INLINE, LOCAL)])
def test_tables_of_a_sweep_are_those_of_the_local_executor(name: str, tmp_path: Path) -> None:
    tables = {}
    for one in (LOCAL, name):
        sweep = SweepFolder(tmp_path / one)
        with made_here(one) as executor, Interrupts() as interrupts:
            plan = make_plan(spec_of(), sweep, executor.inspect)
            outcome = run_sweep(plan, sweep, executor, NullObserver(), interrupts, SweepSettings(workers=2))
        assert (outcome.run_now, outcome.failed) == (5, {})
        tables[one] = [(sweep.path / file).read_bytes() for file in ("loss.csv", "eval.csv", "curves.csv")]
    assert tables[name] == tables[LOCAL]


@pytest.mark.parametrize("executor", [name for name in NAMES if name != INLINE], indirect=True)
def test_files_are_those_of_the_inline_executor(executor: Executor, tmp_path: Path) -> None:
    written = []
    with make_executor(INLINE) as inline:
        for name, one in (("inline", inline), ("executor", executor)):
            sweep = SweepFolder(tmp_path / name)
            trial = planned(one, sweep).trials[-1]
            run(one, sweep, trial)
            files = ("record.json", "metrics.jsonl", "examples.parquet", "generations.jsonl", "spec.json")
            written.append([(trial_folder(sweep, trial).path / file).read_bytes() for file in files])
    assert written[0] == written[1]


class DelegatingExecutor:
    """Executor of another package, which passes every call on to the inline executor and records the submissions."""

    def __init__(self) -> None:
        self._inline = make_executor(INLINE)
        self.submitted: list[str] = []

    def __enter__(self) -> "DelegatingExecutor":
        self._inline.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inline.__exit__(*error)

    def submit(self, job: Job, folder: SweepFolder) -> None:
        self.submitted.append(job.trial.label)
        self._inline.submit(job, folder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inline, name)


def test_executor_of_another_package_runs_a_sweep_after_one_registration(sweep: SweepFolder) -> None:
    one = DelegatingExecutor()
    with restored(EXECUTORS):
        register_executor(ExecutorDeclaration("delegating", "passes trials on", lambda: one))
        with make_executor("delegating") as executor, Interrupts() as interrupts:
            plan = make_plan(spec_of(seeds=[0]), sweep, executor.inspect)
            outcome = run_sweep(plan, sweep, executor, NullObserver(), interrupts, SweepSettings(estimate=False))
    assert (outcome.run_now, outcome.failed) == (3, {})
    assert one.submitted == [trial.label for trial in plan.trials]
    assert [record.arm for record in sweep.records()] == ["base", "alpha=0", "alpha=5"]
