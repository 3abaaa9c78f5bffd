"""Estimates of the time left, compared with values computed by hand."""

import pytest

from neftune_cli.sweeps.durations import ExpectedDurations, PaceTracker, ProgressSample, TrialDuration, makespan
from tests.manifests import planned_trial

ONE = planned_trial("a", "alpha=0", 0, 100)


def at(step: int, seconds: float, phase: str = "training", attempt: int = 1) -> ProgressSample:
    return ProgressSample(attempt, phase, step, 100, seconds)


def test_expected_durations_use_the_same_arm_then_the_estimate_then_the_steps() -> None:
    long = planned_trial("b", "long", 0, 300)
    taken = [
        TrialDuration(planned_trial("c", "alpha=0", 1, 100), 20.0),
        TrialDuration(planned_trial("d", "alpha=0", 2, 100), 22.0),
    ]

    assert ExpectedDurations(taken, {"a": 5.0}).of(ONE) == 21.0
    assert ExpectedDurations(taken, {}).of(long) == pytest.approx(63.0)  # 0.21 s per step
    assert ExpectedDurations(taken, {"b": 40.0, "c": 10.0, "d": 11.0}).of(long) == pytest.approx(
        80.0
    )  # all trials took twice the estimate
    assert ExpectedDurations([], {}).of(long) is None


def test_loading_time_is_excluded_from_the_pace_after_two_samples() -> None:
    pace = PaceTracker()
    pace.observe("a", at(0, 10.0, "loading"))
    pace.observe("a", at(10, 30.0))
    assert pace.seconds_left("a", None) == pytest.approx(90 * 3.0)  # one sample, so loading is included
    pace.observe("a", at(30, 40.0))
    assert pace.seconds_left("a", None) == pytest.approx(70 * 0.5)


def test_the_time_after_training_is_learned_from_other_trials() -> None:
    pace = PaceTracker()
    pace.observe("z", at(50, 5.0))
    pace.observe("z", at(100, 15.0, "generating"))
    pace.finished("z", 20.0)  # a quarter of it was generation
    pace.observe("a", at(10, 3.0))
    pace.observe("a", at(40, 12.0))

    # 60 steps of 0.3 s, then a third of 30 s of training: 18 + 10
    assert pace.seconds_left("a", None) == pytest.approx(28.0)


def test_the_end_of_training_is_used_only_if_it_was_observed() -> None:
    pace = PaceTracker()
    pace.observe("z", at(100, 19.0, "generating"))  # first observed during generation
    pace.finished("z", 20.0)
    pace.observe("a", at(50, 5.0))

    assert pace.seconds_left("a", None) == pytest.approx(5.0)


def test_the_pace_is_measured_again_after_a_resume() -> None:
    pace = PaceTracker()
    pace.observe("a", at(10, 1.0))
    pace.observe("a", at(60, 6.0))
    pace.observe("a", at(40, 8.0, attempt=2))
    pace.observe("a", at(50, 12.0, attempt=2))

    assert pace.seconds_left("a", None) == pytest.approx(50 * 0.4)


def test_after_training_only_the_expected_duration_is_used() -> None:
    pace = PaceTracker()
    pace.observe("a", at(100, 18.0, "generating"))

    assert pace.seconds_left("a", None) is None
    assert pace.seconds_left("a", 24.0) == pytest.approx(6.0)
    assert pace.seconds_left("a", 12.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "workers", "end"),
    [
        ([5.0, 3.0, 2.0, 4.0], 2, 9.0),  # 5 + 4 on the first, 3 + 2 on the second
        ([10.0, 20.0, 30.0, 40.0], 2, 60.0),  # 10 + 30 on the first, 20 + 40 on the second
        ([10.0, 10.0, 10.0], 2, 20.0),  # a trial cannot be split over workers
        ([10.0, 90.0], 2, 90.0),
        ([5.0, 3.0, 2.0, 4.0], 1, 14.0),
        ([5.0, 3.0], 8, 5.0),
        ([], 2, 0.0),
    ],
)
def test_each_trial_goes_to_the_first_free_worker(seconds: list[float], workers: int, end: float) -> None:
    assert makespan(seconds, workers) == end
