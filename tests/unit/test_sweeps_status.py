"""Status of a sweep read from its folder: states, loss curves, and times computed by hand."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_cli.store.following import FollowedTrial
from neftune_cli.store.manifest import Manifest
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import ObservedState, SweepStatus, TrialView
from tests.sweep_in_progress import STEPS, FakeSweep, falling_losses, point, sweep_in_every_state, trial_id


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[FakeSweep]:
    with sweep_in_every_state(tmp_path / "bios") as one:
        yield one


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[FakeSweep]:
    with FakeSweep(tmp_path / "fresh", ["alpha=0", "alpha=5"], 2) as one:
        yield one


def view(status: SweepStatus, arm: str, seed: int | None) -> TrialView:
    return next(trial for trial in status.trials if (trial.arm, trial.seed) == (arm, seed))


def test_states_of_trials_are_read_from_their_files(sweep: FakeSweep) -> None:
    status = sweep.status()

    assert {trial.label: str(trial.state) for trial in status.trials} == {
        "base": "done",
        "alpha=0, seed 0": "done",
        "alpha=5, seed 0": "done",
        "alpha=10, seed 0": "failed",
        "alpha=0, seed 1": "running",
        "alpha=5, seed 1": "running",
        "alpha=10, seed 1": "stopped",
        "alpha=0, seed 2": "stalled",
        "alpha=5, seed 2": "waiting",
        "alpha=10, seed 2": "waiting",
    }
    assert status.summary == "3 of 10 done, 2 running, 1 failed, 1 stopped, 1 stalled, 2 waiting"
    assert not status.is_over
    assert [trial.reason[:13] for trial in status.failures] == ["out of memory"]


def test_a_running_trial_has_its_progress(sweep: FakeSweep) -> None:
    trial = view(sweep.status(), "alpha=0", 1)

    assert (trial.phase, trial.step, trial.steps, trial.loss) == ("training", 40, STEPS, 1.234)
    assert trial.process == os.getpid()
    assert len(trial.losses) == 24
    assert trial.losses[0] == 2.5
    assert trial.losses[-1] == pytest.approx((falling_losses(40)[38] + falling_losses(40)[39]) / 2)


def test_a_finished_trial_has_its_held_out_loss(sweep: FakeSweep) -> None:
    assert view(sweep.status(), "alpha=5", 0).eval_loss == 1.4987


HOLDER = """
import sys, time
from pathlib import Path
from neftune_cli.store import SweepFolder
from tests.finished_trials import start_trial
folder = SweepFolder(Path(sys.argv[1])).trial(sys.argv[2], "alpha=0", 0)
leased = start_trial(folder, sys.argv[2], phase="training", step=3, steps=9)
print("held", flush=True)
time.sleep(60)
"""


def test_the_trial_of_a_killed_process_is_stalled(fresh: FakeSweep) -> None:
    trial = trial_id("alpha=0", 0)
    command = [sys.executable, "-c", HOLDER, str(fresh.folder.path), trial]
    reader = StatusReader(fresh.folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as other:
        assert other.stdout is not None
        other.stdout.readline()
        while_it_lives = view(reader.read(), "alpha=0", 0).state
        other.send_signal(signal.SIGKILL)

    assert while_it_lives is ObservedState.RUNNING
    assert view(reader.read(), "alpha=0", 0).state is ObservedState.STALLED


def test_a_leased_trial_that_has_not_started_is_starting(fresh: FakeSweep) -> None:
    fresh.fail("alpha=0", 0, "too bad")
    with fresh.folder.trial(trial_id("alpha=0", 0), "alpha=0", 0).acquire_lease(lease_seconds=120):  # type: ignore[union-attr]
        trial = view(fresh.status(), "alpha=0", 0)

    assert (trial.state, trial.phase, trial.reason) == (ObservedState.RUNNING, "starting", "")
    assert (trial.host, trial.process) == (socket.gethostname(), os.getpid())


def test_a_retried_trial_is_waiting_until_it_starts_again(fresh: FakeSweep) -> None:
    fresh.fail("alpha=0", 0, "too bad")
    fresh.fail("alpha=5", 0, "too bad")
    reader = StatusReader(fresh.folder)
    reader.retry([trial_id("alpha=0", 0)])
    before = reader.read()
    fresh.fail("alpha=0", 0, "worse", attempts=2)

    assert view(before, "alpha=0", 0).state is ObservedState.WAITING
    assert view(before, "alpha=5", 0).state is ObservedState.FAILED
    assert view(reader.read(), "alpha=0", 0).reason == "worse"


def test_a_damaged_record_affects_one_trial(sweep: FakeSweep) -> None:
    files = sweep.folder.trial(trial_id("alpha=0", 0), "alpha=0", 0)
    (files.path / "record.json").write_text('{"schema_version": 4, "nonsense": 1}')
    status = sweep.status()

    assert view(status, "alpha=0", 0).state is ObservedState.FAILED
    assert "is damaged" in view(status, "alpha=0", 0).reason
    assert view(status, "alpha=5", 0).state is ObservedState.DONE


def test_without_a_plan_the_started_trials_are_shown(sweep: FakeSweep) -> None:
    sweep.folder.write_manifest(Manifest())
    status = sweep.status()

    assert len(status.trials) == 8
    assert status.trials[0].arm == "base"
    assert view(status, "base", None).state is ObservedState.DONE
    assert view(status, "alpha=10", 1).state is ObservedState.STOPPED


def test_without_a_plan_a_folder_with_another_name_is_shown_under_it(sweep: FakeSweep) -> None:
    sweep.folder.write_manifest(Manifest())
    (sweep.folder.path / "trials" / "alpha=5,seed=0 (copy)-0123456789ab").mkdir()
    status = sweep.status()

    assert view(status, "alpha=5,seed=0 (copy)", None).state is ObservedState.WAITING
    assert view(status, "base", None).state is ObservedState.DONE
    assert len(status.trials) == 9


def test_an_empty_folder_has_no_trials(fresh: FakeSweep) -> None:
    fresh.folder.write_manifest(Manifest())

    assert fresh.status().trials == ()


def test_the_loss_curve_is_followed_line_by_line_and_after_a_rewrite(fresh: FakeSweep) -> None:
    leased = fresh.run("alpha=0", 0, losses=[2.0, 1.5])
    followed = FollowedTrial(leased.folder)
    first = list(followed.read().losses)
    leased.append_metrics(point(3, 1.25))
    with (leased.folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train_lo')
    torn = list(followed.read().losses)
    leased.rewrite_metrics([point(1, 2.0), point(2, 1.5), point(3, 1.0), point(4, 0.5)])
    leased.append_metrics(point(4, 0.5).model_copy(update={"train_loss": None, "eval_loss": 1.0}))

    assert first == [2.0, 1.5]
    assert torn == [2.0, 1.5, 1.25]
    assert list(followed.read().losses) == [2.0, 1.5, 1.0, 0.5]


def test_a_finished_trial_is_read_once(fresh: FakeSweep) -> None:
    fresh.finish("alpha=0", 0, 1.5)
    files = fresh.folder.trial(trial_id("alpha=0", 0), "alpha=0", 0)
    followed = FollowedTrial(files)
    snapshot = followed.read()
    before = files.path.stat()
    (files.path / "record.json").write_text("{}")  # in place: the modification time of the folder does not change
    os.utime(files.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert snapshot.record is not None
    assert followed.read() is snapshot


# Times: the finished trials took 24 s each, the base trial 11 s. All others have 120 steps.


def test_time_left_of_trials_by_hand(sweep: FakeSweep) -> None:
    status = sweep.status()

    # 40 of 120 steps in 8 s leave 16 s of training; the others took 24 s, which leaves 16 s as well
    assert view(status, "alpha=0", 1).seconds_left == pytest.approx(16.0)
    assert view(status, "alpha=5", 1).seconds_left == pytest.approx(24.0 - 20.0)  # generating: as long as the others
    assert view(status, "alpha=10", 1).seconds_left == pytest.approx(24.0 - 12.0)  # stopped after 12 s
    assert view(status, "alpha=0", 2).seconds_left == pytest.approx(24.0 - 3.0)
    assert view(status, "alpha=5", 2).seconds_left == pytest.approx(24.0)
    assert view(status, "alpha=10", 0).seconds_left is None  # failed
    assert status.work_left == pytest.approx(16 + 4 + 12 + 21 + 24 + 24)
    assert status.workers == 2
    # the other worker takes the trials of 4 + 12 + 24 s
    assert status.seconds_left == pytest.approx(16 + 21 + 24)


def test_the_estimate_is_used_before_a_trial_has_finished(tmp_path: Path) -> None:
    with FakeSweep(tmp_path / "s", ["alpha=0", "alpha=5"], 2, estimate=30.0) as sweep:
        sweep.run("base", None, phase="loading", seconds=1.0)
        status = sweep.status()
        assert status.seconds_left == pytest.approx(29 + 4 * 30)

        sweep.finish("alpha=0", 0, 1.5, seconds=60.0)  # twice the estimate, so the others are expected to be too
        later = sweep.status()
        assert view(later, "alpha=5", 0).seconds_left == pytest.approx(60.0)
        assert view(later, "base", None).seconds_left == pytest.approx(29.0)


def test_the_pace_of_the_first_trial_is_used_for_the_others(fresh: FakeSweep) -> None:
    fresh.run("alpha=0", 0, 30, seconds=15.0)  # 0.5 s per step: 60 s in total
    status = fresh.status()

    assert view(status, "alpha=0", 0).seconds_left == pytest.approx(45.0)
    assert view(status, "alpha=5", 1).seconds_left == pytest.approx(60.0)


def test_the_base_trial_is_not_used_for_trained_trials(fresh: FakeSweep) -> None:
    fresh.finish("base", None, 4.0, seconds=2.0)
    fresh.run("alpha=0", 0, 30, seconds=15.0)
    fresh.run("alpha=5", 0, phase="loading", seconds=6.0)
    status = fresh.status()

    assert view(status, "alpha=5", 0).seconds_left == pytest.approx(54.0)
    assert status.seconds_left == pytest.approx(54 + 60)  # the other worker ends at 45 + 60


def test_without_information_there_are_no_times(fresh: FakeSweep) -> None:
    status = fresh.status()

    assert (status.seconds_left, status.work_left) == (None, None)


def test_without_workers_there_is_work_left_but_no_time_left(fresh: FakeSweep) -> None:
    fresh.finish("alpha=0", 0, 1.5, seconds=20.0)
    status = fresh.status()

    assert status.seconds_left is None
    assert status.work_left == pytest.approx(4 * 20.0)  # the base trial has no estimate and counts as the mean


def test_the_time_left_decreases_between_reports(fresh: FakeSweep) -> None:
    fresh.run("alpha=0", 0, 30, seconds=15.0, host=socket.gethostname())
    reader = StatusReader(fresh.folder)
    reader.read()
    time.sleep(1.2)

    left = view(reader.read(), "alpha=0", 0).seconds_left
    assert left is not None
    assert 42.0 < left < 44.0


def test_a_worker_between_two_trials_counts(fresh: FakeSweep) -> None:
    reader = StatusReader(fresh.folder)
    first, second = fresh.run("alpha=0", 0, 30, seconds=15.0), fresh.run("alpha=5", 0, 30, seconds=15.0)
    reader.read()
    first.release()
    status = reader.read()
    second.release()

    assert status.workers == 2
