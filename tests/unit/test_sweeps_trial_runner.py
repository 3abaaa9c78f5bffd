"""The trial runner: restarts after running out of memory, and the contents of the folder during a trial."""

import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.errors import TrialError, TrialStopped
from neftune_cli.metrics import REGISTERED_METRICS, register_metric
from neftune_cli.records import EvalMetrics, Phase, TrialState, TrialStatus
from neftune_cli.store import LeasedTrial, SweepFolder
from neftune_cli.sweeps import trial_state
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.plan import make_plan, trial_folder
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training import trial_run
from neftune_cli.training.fine_tuning import FinalModel
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import Trial, TrialOutput, TrialProgress
from tests.finished_trials import trial_record, write_trial
from tests.registries import restored

SMALL = {"train_examples": 16, "eval_examples": 4, "alphas": [5.0], "seeds": [0]}
FakeTrial = Callable[..., Any]


class RunnerCase:
    """A trial runner with one planned trial, whose training is replaced by a function of the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self._runner, self.sweep = monkeypatch, TrialRunner(), SweepFolder(folder)
        plan = make_plan(resolve_sweep(None, SMALL), self.sweep, self._runner.inspect)
        self.sweep.open(plan.spec)
        self.trial: Trial = plan.trials[1]

    def run(self, fake: FakeTrial, settings: TrialSettings | None = None, *, halvings: int = 0) -> None:
        self._patch.setattr(trial_run, "run_trial", fake)
        job = Job(self.trial, settings or TrialSettings(), halvings=halvings)
        self._runner.run(job, self.sweep, StopRequest())

    @property
    def status(self) -> TrialStatus:
        found = self.sweep.trial(self.trial.id, self.trial.arm, self.trial.seed).status()
        assert found is not None
        return found


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunnerCase:
    return RunnerCase(tmp_path / "sweep", monkeypatch)


def test_the_batch_size_is_halved_until_it_is_1(case: RunnerCase) -> None:
    attempts = []

    def run_out_of_memory(*_: object, halvings: int, **__: object) -> None:
        attempts.append(halvings)
        raise MemoryError

    with pytest.raises(MemoryError):
        case.run(run_out_of_memory, TrialSettings(halve_batch=True))
    assert attempts == [0, 1, 2, 3, 4]  # 16, 8, 4, 2, 1
    assert case.status.state is TrialState.FAILED
    assert "--batch-size" in case.status.reason


@pytest.mark.parametrize("error", [MemoryError(), ValueError("memory_limit"), TrialError("Out of memory.")])
def test_the_batch_size_is_halved_only_on_request_and_only_if_memory_ran_out(
    case: RunnerCase, error: Exception
) -> None:
    attempts = []

    def fail(*_: object, halvings: int, **__: object) -> None:
        attempts.append(halvings)
        raise error

    with pytest.raises(type(error)):
        case.run(fail, TrialSettings(halve_batch=not isinstance(error, MemoryError)))
    assert attempts == [0]


def test_memory_of_a_failed_attempt_is_released_before_the_next_one(case: RunnerCase) -> None:
    held: list[weakref.ref[object]] = []

    def run_out_of_memory_twice(_: Trial, loaded: object, *__: object, **___: object) -> None:
        assert all(one() is None for one in held)
        held.append(weakref.ref(loaded))
        if len(held) < 3:
            raise MemoryError

    case.run(run_out_of_memory_twice, TrialSettings(halve_batch=True))
    assert len(held) == 3


def test_a_resumed_trial_is_halved_further_without_its_checkpoint(case: RunnerCase) -> None:
    attempts = []

    def run_out_of_memory(
        trial: Trial, _: object, __: object, output: TrialOutput, *, halvings: int, **___: object
    ) -> None:
        leased = output.leased
        attempts.append((halvings, len(leased.intact_checkpoints())))
        if len(attempts) == 1:
            with leased.new_checkpoint(3, {"halvings": 2}):
                pass
            raise TrialStopped
        if len(attempts) == 2:
            raise MemoryError

    settings = TrialSettings(halve_batch=True)
    with pytest.raises(TrialStopped):
        case.run(run_out_of_memory, settings)
    case.run(run_out_of_memory, settings)
    assert attempts == [(0, 0), (2, 1), (3, 0)]


def test_every_trial_starts_from_the_base_weights(case: RunnerCase) -> None:
    import torch

    seen = []

    def change_weights(_: Trial, loaded: Any, *__: object, **___: object) -> None:
        seen.append(loaded.model.get_input_embeddings().weight.detach().clone())
        loaded.model.get_input_embeddings().weight.data.zero_()
        loaded.tokenizer.padding_side = "left" if len(seen) == 1 else loaded.tokenizer.padding_side
        assert loaded.tokenizer.padding_side == ("left" if len(seen) == 1 else "right")

    case.run(change_weights)
    case.run(change_weights)
    assert torch.equal(seen[0], seen[1])
    assert seen[0].abs().sum() > 0


def test_the_folder_has_phase_step_and_time_while_the_trial_runs(
    case: RunnerCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_state, "REPORT_SECONDS", 0.0)
    seen = []

    def report_twice(_: Trial, __: object, ___: object, output: TrialOutput, **____: object) -> None:
        for progress in (TrialProgress(Phase.TRAINING, 1, 8, 2.5, 900.0), TrialProgress(Phase.GENERATING)):
            output.report(progress)
            seen.append(case.status)
        raise TrialStopped

    with pytest.raises(TrialStopped):
        case.run(report_twice)
    training_, generating = seen
    assert (training_.phase, training_.step, training_.steps) == ("training", 1, 8)
    assert (training_.loss, training_.tokens_per_second) == (2.5, 900.0)
    assert (generating.phase, generating.step, generating.loss) == ("generating", 1, 2.5)
    assert training_.state is TrialState.RUNNING
    assert training_.process
    assert case.status.state is TrialState.STOPPED


def test_lost_work_counts_for_the_total_time_only(case: RunnerCase, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("neftune_cli.store.trials.time", SimpleNamespace(monotonic=lambda: now))

    def run_for(seconds: float, *, checkpoint_after: float | None = None) -> TrialStatus:
        def work(*arguments: Any, **_: object) -> None:
            nonlocal now
            leased: LeasedTrial = arguments[3].leased
            for checkpoint in leased.intact_checkpoints()[:1]:
                leased.add_seconds_of(checkpoint)
            if checkpoint_after is not None:
                now += checkpoint_after
                with leased.new_checkpoint(1):
                    pass
            now += seconds - (checkpoint_after or 0.0)
            raise TrialStopped

        with pytest.raises(TrialStopped):
            case.run(work)
        return case.status

    first = run_for(70.0)  # all work is lost
    assert (first.attempts, first.seconds, first.seconds_in_all) == (1, 70.0, 70.0)
    second = run_for(30.0, checkpoint_after=20.0)  # started again from step 0
    assert (second.attempts, second.seconds, second.seconds_in_all) == (2, 30.0, 100.0)
    third = run_for(5.0)  # resumed from the checkpoint after 20 s
    assert (third.attempts, third.seconds, third.seconds_in_all) == (3, 25.0, 105.0)
    assert third.started <= third.updated


def test_a_copied_base_model_reports_the_time_of_its_measurement(tmp_path: Path) -> None:
    runner = TrialRunner()
    sweeps = [SweepFolder(tmp_path / name) for name in ("first", "second")]
    plan = make_plan(resolve_sweep(None, SMALL), sweeps[1], runner.inspect)
    for sweep in sweeps:
        sweep.open(plan.spec)
    base = plan.trials[0]
    measured = trial_record(base.id, base.arm, None)
    write_trial(trial_folder(sweeps[0], base), measured, seconds=90.0, side_by_side=3)

    runner.run(Job(base, TrialSettings(side_by_side=1)), sweeps[1], StopRequest())

    status = trial_folder(sweeps[1], base).status()
    assert status is not None
    assert (status.seconds, status.side_by_side) == (90.0, 3)  # the price of a measurement, not of a copy
    assert status.seconds_in_all is not None
    assert status.seconds_in_all < 90.0


def test_a_base_model_without_a_metric_that_was_registered_later_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> FinalModel:
        raise TrialError("It is measured.")

    monkeypatch.setattr(trial_run, "_untrained", measure)
    runner = TrialRunner()
    sweeps = [SweepFolder(tmp_path / name) for name in ("first", "second", "third")]
    plan = make_plan(resolve_sweep(None, SMALL), sweeps[2], runner.inspect)
    for sweep in sweeps:
        sweep.open(plan.spec)
    base, job = plan.trials[0], Job(plan.trials[0], TrialSettings())
    earlier = trial_record(base.id, base.arm, None)
    write_trial(trial_folder(sweeps[0], base), earlier)
    with restored(REGISTERED_METRICS):
        register_metric(replace(REGISTERED_METRICS["rouge_l"], key="overlap", name="Overlap"))
        with pytest.raises(TrialError, match=r"It is measured\."):
            runner.run(job, sweeps[2], StopRequest())
        later = earlier.model_copy(update={"eval": EvalMetrics(**earlier.eval.model_dump(), overlap=0.25)})
        write_trial(trial_folder(sweeps[1], base), later)
        record = runner.run(job, sweeps[2], StopRequest())
    assert record is not None
    assert record.eval == later.eval


def test_a_stop_before_the_trial_writes_nothing(case: RunnerCase) -> None:
    stop = StopRequest()
    stop.request()
    with pytest.raises(TrialStopped):
        case._runner.run(Job(case.trial, TrialSettings()), case.sweep, stop)
    assert case.sweep.trials() == []


PEAK_MEMORY = """
from neftune_cli.training.hardware import reset_peak_memory, peak_memory_bytes

size = 400 * 2**20
bytearray(size)[::4096] = b"x" * (size // 4096)
before = peak_memory_bytes("cpu")
reset_peak_memory("cpu")
assert peak_memory_bytes("cpu") < before - size // 2
block = b"x" * size
assert peak_memory_bytes("cpu") > before - size // 2
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak")
def test_the_peak_memory_is_measured_since_the_last_reset() -> None:
    subprocess.run([sys.executable, "-c", PEAK_MEMORY], check=True)  # the allocator of this process may keep memory
