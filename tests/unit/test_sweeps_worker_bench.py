"""The workbench around a trial: what it does when memory isn't enough, and what the folder says meanwhile."""

import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.running import RunSettings
from neftune_cli.errors import TrialStopped
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import ClaimedTrial, SweepFolder
from neftune_cli.sweeps import trial_runner as trial_report
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.plan import make_plan
from neftune_cli.sweeps.trial_runner import TrialRunner
from neftune_cli.training import run as training
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import ReportProgress, Trial, TrialProgress

SMALL = {"train_examples": 16, "eval_examples": 4, "alphas": [5.0], "seeds": [0]}
FakeTrial = Callable[..., Any]


class Bench:
    """A workbench with one planned trial, whose run is whatever a test puts in its place."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self._workbench, self.sweep = monkeypatch, TrialRunner(), SweepFolder(folder)
        plan = make_plan(resolve_sweep(None, SMALL), self.sweep, self._workbench.inspect)
        self.sweep.open(plan.spec)
        self.trial: Trial = plan.trials[1]

    def run(self, fake: FakeTrial, settings: RunSettings | None = None, *, halvings: int = 0) -> None:
        self._patch.setattr(training, "run_trial", fake)
        job = Job(self.trial, settings or RunSettings(), halvings=halvings)
        self._workbench.run(job, self.sweep, StopRequest())

    @property
    def status(self) -> TrialStatus:
        found = self.sweep.trial(self.trial.id, self.trial.arm, self.trial.seed).status()
        assert found is not None
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path / "sweep", monkeypatch)


def test_the_batch_is_halved_until_it_is_one_example(bench: Bench) -> None:
    tried = []

    def starve(*_: object, halvings: int, **__: object) -> None:
        tried.append(halvings)
        raise MemoryError

    with pytest.raises(MemoryError):
        bench.run(starve, RunSettings(halve_batch=True))
    assert tried == [0, 1, 2, 3, 4]  # 16, 8, 4, 2, 1
    assert bench.status.state is TrialState.FAILED
    assert "--batch-size" in bench.status.reason


@pytest.mark.parametrize("error", [MemoryError(), ValueError("memory of better days")])
def test_nothing_is_halved_that_may_not_be_or_would_not_help(bench: Bench, error: Exception) -> None:
    tried = []

    def fail(*_: object, halvings: int, **__: object) -> None:
        tried.append(halvings)
        raise error

    with pytest.raises(type(error)):
        bench.run(fail, RunSettings(halve_batch=not isinstance(error, MemoryError)))
    assert tried == [0]


def test_what_the_failed_attempt_held_is_gone_before_the_next_one(bench: Bench) -> None:
    held: list[weakref.ref[object]] = []

    def starve_once(_: Trial, loaded: object, *__: object, **___: object) -> None:
        assert all(one() is None for one in held)
        held.append(weakref.ref(loaded))
        if len(held) < 3:
            raise MemoryError

    bench.run(starve_once, RunSettings(halve_batch=True))
    assert len(held) == 3


def test_a_checkpoint_of_halved_batches_is_dropped_and_halved_further(bench: Bench) -> None:
    tried = []

    def starve(
        trial: Trial, _: object, __: object, place: ClaimedTrial, *___: object, halvings: int, **____: object
    ) -> None:
        tried.append((halvings, len(place.checkpoints())))
        if len(tried) == 1:
            with place.new_checkpoint(3, {"halvings": 2}):
                pass
            raise TrialStopped
        if len(tried) == 2:
            raise MemoryError

    settings = RunSettings(halve_batch=True)
    with pytest.raises(TrialStopped):
        bench.run(starve, settings)
    bench.run(starve, settings)
    assert tried == [(0, 0), (2, 1), (3, 0)]


def test_every_trial_starts_from_the_same_weights_however_the_last_one_spoilt_them(bench: Bench) -> None:
    import torch

    seen = []

    def spoil(_: Trial, loaded: Any, *__: object, **___: object) -> None:
        seen.append(loaded.model.get_input_embeddings().weight.detach().clone())
        loaded.model.get_input_embeddings().weight.data.zero_()
        loaded.tokenizer.padding_side = "left" if len(seen) == 1 else loaded.tokenizer.padding_side
        assert loaded.tokenizer.padding_side == ("left" if len(seen) == 1 else "right")

    bench.run(spoil)
    bench.run(spoil)
    assert torch.equal(seen[0], seen[1])
    assert seen[0].abs().sum() > 0


def test_the_folder_tells_phase_step_and_time_while_the_trial_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_report, "SECONDS_BETWEEN", 0.0)
    seen = []

    def tell(_: Trial, __: object, ___: object, place: ClaimedTrial, watch: ReportProgress, **____: object) -> None:
        for progress in (TrialProgress("training", 1, 8, 2.5, 900.0), TrialProgress("generating")):
            watch(progress)
            seen.append(bench.status)
        raise TrialStopped

    with pytest.raises(TrialStopped):
        bench.run(tell)
    training_, generating = seen
    assert (training_.phase, training_.step, training_.steps) == ("training", 1, 8)
    assert (training_.loss, training_.tokens_per_second) == (2.5, 900.0)
    assert (generating.phase, generating.step, generating.loss) == ("generating", 1, 2.5)
    assert training_.state is TrialState.RUNNING
    assert training_.process
    assert bench.status.state is TrialState.STOPPED


def test_lost_work_counts_as_time_spent_and_not_as_work_that_went_into_the_trial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("neftune_cli.store.trials.time", SimpleNamespace(monotonic=lambda: now))

    def run_for(seconds: float, *, keep_after: float | None = None) -> TrialStatus:
        def work(*arguments: Any, **_: object) -> None:
            nonlocal now
            place = arguments[3]
            for kept in place.checkpoints()[:1]:
                place.go_on(kept)
            if keep_after is not None:
                now += keep_after
                with place.new_checkpoint(1):
                    pass
            now += seconds - (keep_after or 0.0)
            raise TrialStopped

        with pytest.raises(TrialStopped):
            bench.run(work)
        return bench.status

    first = run_for(70.0)  # all of it is lost
    assert (first.attempts, first.seconds, first.seconds_in_all) == (1, 70.0, 70.0)
    second = run_for(30.0, keep_after=20.0)  # began anew
    assert (second.attempts, second.seconds, second.seconds_in_all) == (2, 30.0, 100.0)
    third = run_for(5.0)  # goes on from what went on for 20 s
    assert (third.attempts, third.seconds, third.seconds_in_all) == (3, 25.0, 105.0)
    assert third.started <= third.updated


def test_a_stop_before_the_trial_leaves_no_trace(bench: Bench) -> None:
    stop = StopRequest()
    stop.request()
    with pytest.raises(TrialStopped):
        bench._workbench.run(Job(bench.trial, RunSettings()), bench.sweep, stop)
    assert bench.sweep.trials() == []
