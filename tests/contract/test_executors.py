"""What every executor promises, checked on real trials of a few steps: in this process, and in workers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.running import RunSettings
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import NeftuneError, UsageError
from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.executors import Event, Executor, Finished, Job, LeasedElsewhere, Started
from neftune_cli.sweeps.executors.inline import InlineExecutor
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.plan import Plan, make_plan
from neftune_cli.training.trial import Trial

KINDS = (InlineExecutor, LocalExecutor)
SMALL = {"train_examples": 16, "eval_examples": 4, "alphas": [0.0, 5.0], "seeds": [0, 1]}
QUICK = {"train": {"max_steps": 2}, "evaluation": {"max_new_tokens": 4}}
PATIENCE_SECONDS = 120


def spec_of(**changes: object) -> SweepSpec:
    return resolve_sweep(None, {**SMALL, **QUICK, **changes})


@pytest.fixture(scope="module", params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with request.param() as one:
        one.start(1, 1, 0)
        yield one


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


def planned(executor: Executor, sweep: SweepFolder, **changes: object) -> Plan:
    plan = make_plan(spec_of(**changes), sweep, executor.inspect)
    sweep.open(plan.spec)
    return plan


def run(executor: Executor, sweep: SweepFolder, *trials: Trial, settings: RunSettings | None = None) -> list[Event]:
    """Run trials one after the other, and return everything that happened."""
    events: list[Event] = []
    for trial in trials:
        executor.submit(Job(trial, settings or RunSettings()), sweep)
        events += until_free(executor)
    return events


def until_free(executor: Executor) -> list[Event]:
    events: list[Event] = []
    while not (events and isinstance(events[-1], LeasedElsewhere | Finished)):
        events += executor.wait(PATIENCE_SECONDS)
    return events


def place_of(sweep: SweepFolder, trial: Trial) -> TrialFolder:
    return sweep.trial(trial.id, trial.arm, trial.seed)


def ended(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def state(sweep: SweepFolder, trial: Trial) -> TrialState | None:
    status = place_of(sweep, trial).status()
    return status.state if status else None


def test_an_inspection_tells_the_plan_what_there_is(executor: Executor) -> None:
    found = executor.inspect(spec_of())
    assert not found.problems
    assert found.spec == spec_of()
    assert found.data is not None
    assert (found.data.train, found.data.held_out, found.data.has_prompts) == (16, 4, True)
    assert "peft" in found.lora_environment
    assert "peft" not in found.environment


def test_an_inspection_gathers_all_problems(executor: Executor, tmp_path: Path) -> None:
    data = str(tmp_path / "none.jsonl")
    found = executor.inspect(spec_of(model="./none", dataset=data, train={"max_steps": 1, "optimm": "sgd"}))
    texts = " ".join(problem.what for problem in found.problems)
    assert "'./none'" in texts
    assert "none.jsonl" in texts
    assert "--set optimm" in texts
    assert found.model is None
    assert found.data is None


def test_arms_that_ask_for_a_ratio_get_their_alpha(executor: Executor) -> None:
    found = executor.inspect(spec_of(alphas=None, snr=[20.0, 10.0]))
    assert not found.problems
    one, other = (arm.alpha for arm in found.spec.arms if arm.alpha)
    assert other == pytest.approx(2 * one, rel=0.01)
    assert len(found.notes) == 2


def test_data_that_do_not_fit_are_refused_as_the_users_mistake(executor: Executor, sweep: SweepFolder) -> None:
    plan = planned(executor, sweep, train={"max_steps": 1, "max_length": 2})
    with pytest.raises(UsageError, match="--max-length 2"):
        executor.prepare([trial.spec for trial in plan.trials])


def test_a_trial_is_claimed_goes_on_and_ends_with_its_record(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[-1]
    events = run(executor, sweep, trial)
    assert isinstance(events[0], Started)
    assert len(events) == 2
    assert all(one.trial == trial for one in events)
    assert ended(events).failure is None
    record = place_of(sweep, trial).record()
    told = ended(events).record
    assert record is not None
    assert told is not None
    assert (told.loss, told.identity) == (record.loss, record.identity)
    status = place_of(sweep, trial).status()
    assert status is not None
    assert (status.state, status.attempts, status.steps) == (TrialState.DONE, 1, 2)
    assert status.seconds == pytest.approx(ended(events).seconds, rel=0.5)
    assert status.peak_memory
    assert executor.free() == 1


def test_the_claim_is_given_back(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    run(executor, sweep, trial)
    assert not place_of(sweep, trial).is_claimed()
    assert not place_of(sweep, trial).has_leftovers()


def test_a_trial_that_another_process_has_is_left_alone(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[1]
    held = place_of(sweep, trial).claim()
    assert held is not None
    with held:
        assert run(executor, sweep, trial) == [LeasedElsewhere(trial)]
    assert state(sweep, trial) is None


def test_a_trial_that_has_its_record_is_not_run_again(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    run(executor, sweep, trial)
    record = place_of(sweep, trial).path / "record.json"
    before = record.stat().st_mtime_ns
    (event,) = run(executor, sweep, trial)
    assert ended([event]).record == place_of(sweep, trial).record()
    assert record.stat().st_mtime_ns == before


def test_one_bad_trial_is_one_bad_trial(executor: Executor, sweep: SweepFolder) -> None:
    wild = planned(executor, sweep, train={"max_steps": 4, "learning_rate": 1e20}).trials[-1]
    why = ended(run(executor, sweep, wild)).failure
    assert why is not None
    assert why.kind == "failed"
    assert state(sweep, wild) is TrialState.FAILED
    assert "Traceback" in place_of(sweep, wild).log_path.read_text()
    assert ended(run(executor, sweep, planned(executor, SweepFolder(sweep.path / "other")).trials[-1])).record


def test_data_that_changed_after_the_plan_fail_the_trial(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    other = Trial(trial.id, trial.arm, trial.spec, {**trial.identity, "data": "0" * 16})
    why = ended(run(executor, sweep, other)).failure
    assert why is not None
    assert "changed while the sweep ran" in why.reason


def test_a_second_attempt_is_counted_and_its_log_appended(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep).trials[0]
    changed = Trial(trial.id, trial.arm, trial.spec, {**trial.identity, "data": "0" * 16})
    run(executor, sweep, changed, trial)
    status = place_of(sweep, trial).status()
    assert status is not None
    assert (status.state, status.attempts) == (TrialState.DONE, 2)
    log = place_of(sweep, trial).log_path.read_text()
    assert log.index("attempt 1") < log.index("changed while the sweep ran") < log.index("attempt 2")


def test_nothing_can_be_submitted_while_none_is_free(executor: Executor, sweep: SweepFolder) -> None:
    base, first, *_ = planned(executor, sweep).trials
    executor.submit(Job(base, RunSettings()), sweep)
    assert executor.free() == 0
    with pytest.raises(RuntimeError):
        executor.submit(Job(first, RunSettings()), sweep)
    until_free(executor)


def test_waiting_for_nothing_takes_its_time_and_returns_nothing(executor: Executor) -> None:
    assert executor.wait(0.1) == []


@pytest.mark.parametrize("kind", [InlineExecutor, pytest.param(LocalExecutor, marks=pytest.mark.slow)])
def test_a_stopped_trial_keeps_what_it_has_and_goes_on_the_next_time(kind: type[Executor], sweep: SweepFolder) -> None:
    with kind() as executor:
        trial = planned(executor, sweep).trials[-1]
        executor.start(1, 1, 0)
        executor.submit(Job(trial, RunSettings()), sweep)
        executor.stop()
        assert executor.free() == 0
        why = ended(until_free(executor)).failure
        assert why is not None
        assert why.kind == "stopped"
        assert not place_of(sweep, trial).is_claimed()
    with kind() as executor:
        executor.start(1, 1, 0)
        assert ended(run(executor, sweep, trial)).record


def test_both_leave_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for kind in KINDS:
        sweep = SweepFolder(tmp_path / kind.__name__)
        with kind() as executor:
            trial = planned(executor, sweep).trials[-1]
            executor.start(1, 1, 0)
            run(executor, sweep, trial)
        names = ("record.json", "metrics.jsonl", "examples.parquet", "generations.jsonl", "spec.json")
        written.append([(place_of(sweep, trial).path / name).read_bytes() for name in names])
    assert written[0] == written[1]


def test_what_a_library_raises_while_steps_are_tried_out_is_told(executor: Executor, sweep: SweepFolder) -> None:
    trial = planned(executor, sweep, train={"max_steps": 2}).trials[-1]
    spec = trial.spec.model_copy(
        update={"train": trial.spec.train.model_copy(update={"sft": {"lr_scheduler_type": "unheard of"}})}
    )
    with pytest.raises(NeftuneError, match="unheard of"):
        executor.calibrate(spec)
