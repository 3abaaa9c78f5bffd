"""Progress as lines for pipes and logs: one line per finished trial, and regular lines about long trials."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import ResolvedEvaluation
from neftune_cli.sweeps.executors import Finished
from neftune_cli.sweeps.failures import Failure
from neftune_cli.sweeps.progress import NullObserver
from neftune_cli.sweeps.progress.plain_lines import LineObserver, progress_line
from neftune_cli.sweeps.progress.views import ObservedState, TrialView
from neftune_cli.training.trial import Trial
from tests.sweep_in_progress import FakeSweep, record, trial_id


def planned(arm: str, seed: int) -> Trial:
    spec = resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [seed]})
    evaluation = ResolvedEvaluation(max_length=64, max_new_tokens=8, repetition_penalty=1.0)
    one = next(each for each in spec.arms if each.name == arm)
    return Trial(trial_id(arm, seed), arm, spec.trial(one, seed, evaluation), {})


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[FakeSweep]:
    with FakeSweep(tmp_path / "s", ["alpha=0", "alpha=5"], 1) as one:
        yield one


def test_each_trial_that_ends_has_one_line(sweep: FakeSweep) -> None:
    lines: list[str] = []
    first, second = planned("alpha=0", 0), planned("alpha=5", 0)
    with LineObserver(lines.append, sweep.folder) as log:
        log.sweep_started([first, second], [first, second], ["400 examples."])
        log.trial_started(first)
        sweep.finish("alpha=0", 0, 1.5, seconds=240.0)
        sweep.run("alpha=5", 0, 60, seconds=120.0)
        log.trial_ended(Finished(first, record("alpha=0", 0, 1.5), None, 240.2))
        log.note("A worker ended.\x1b[2J")
        log.stopping()
        log.trial_ended(Finished(second, None, Failure("failed", "out of\nmemory"), 3.0))

    assert lines == [
        "400 examples.",
        "2 trials to run",
        # 60 of 120 steps in 120 s leave 120 s; the base trial counts as the mean of the known ones: 120 + 120
        "alpha=0, seed 0  held-out loss 1.5000  240 s, 1 of 3 done, 1 running, 1 waiting, about 4 min left",
        "A worker ended.?[2J",
        "Stopping after the current step. All work is kept. Press Ctrl-C again to stop at once.",
        "alpha=5, seed 0  failed: out of memory  3 s, 1 of 3 done, 1 running, 1 waiting, about 4 min left",
    ]


def test_a_long_trial_has_regular_lines(sweep: FakeSweep) -> None:
    lines: list[str] = []
    with LineObserver(lines.append, sweep.folder, line_seconds=0.4):
        sweep.run("alpha=5", 0, 40, loss=1.2342, seconds=85.0)
        time.sleep(1.3)

    assert 2 <= len(lines) <= 3
    assert set(lines) == {"alpha=5, seed 0  step 40 of 120, loss 1.234, about 3 min left"}


def test_a_short_trial_has_no_line_before_its_end(sweep: FakeSweep) -> None:
    lines: list[str] = []
    with LineObserver(lines.append, sweep.folder, line_seconds=3.0):
        sweep.run("alpha=5", 0, 40, loss=1.2342, seconds=85.0)
        time.sleep(1.6)

    assert lines == []


def test_a_phase_without_steps_is_shown_by_its_name() -> None:
    trial = TrialView("id", "alpha=5", 0, ObservedState.RUNNING, "generating", 120, 120, loss=1.0, seconds_left=20.0)

    assert progress_line(trial) == "alpha=5, seed 0  generating, about 20 s left"


def test_a_closed_pipe_does_not_end_the_sweep(sweep: FakeSweep) -> None:
    def closed(line: str) -> None:
        raise BrokenPipeError(line)

    with LineObserver(closed, sweep.folder, line_seconds=0.2) as log:
        sweep.run("alpha=5", 0, 40)
        log.sweep_started([], [], ["A note."])
        time.sleep(0.6)
        log.stopping()


def test_the_null_observer_prints_nothing(sweep: FakeSweep, capfd: pytest.CaptureFixture[str]) -> None:
    with NullObserver() as observer:
        observer.sweep_started([], [], ["A note."])
        observer.note("Another.")
        observer.stopping()

    assert capfd.readouterr() == ("", "")
