"""Times left, against figures worked out by hand."""

import pytest

from neftune_cli.formatting import condensed, duration, printable, rough_duration, sparkline
from neftune_cli.sweeps.progress.status import Moment, Pace, PlannedTrial, TrialDuration, WholeTimes, sweep_seconds

ONE = PlannedTrial("a", "alpha=0", 0, 100)


def at(step: int, seconds: float, phase: str = "training", attempt: int = 1) -> Moment:
    return Moment(attempt, phase, step, 100, seconds)


def test_whole_times_prefer_the_same_arm_then_the_estimate_then_the_steps() -> None:
    long = PlannedTrial("b", "long", 0, 300)
    taken = [
        TrialDuration(PlannedTrial("c", "alpha=0", 1, 100), 20.0),
        TrialDuration(PlannedTrial("d", "alpha=0", 2, 100), 22.0),
    ]

    assert WholeTimes(taken, {"a": 5.0}).of(ONE) == 21.0
    assert WholeTimes(taken, {}).of(long) == pytest.approx(63.0)  # 0.21 s a step
    assert WholeTimes(taken, {"b": 40.0, "c": 10.0, "d": 11.0}).of(long) == pytest.approx(
        80.0
    )  # all took twice as long
    assert WholeTimes([], {}).of(long) is None


def test_loading_does_not_count_as_steps_once_two_looks_differ() -> None:
    pace = Pace()
    pace.saw("a", at(0, 10.0, "loading"))
    pace.saw("a", at(10, 30.0))
    assert pace.seconds_left("a", None) == pytest.approx(90 * 3.0)  # all there is to go by
    pace.saw("a", at(30, 40.0))
    assert pace.seconds_left("a", None) == pytest.approx(70 * 0.5)


def test_what_follows_training_is_learnt_from_those_whose_end_was_seen() -> None:
    pace = Pace()
    pace.saw("z", at(50, 5.0))
    pace.saw("z", at(100, 15.0, "generating"))
    pace.ended("z", 20.0)  # a quarter of it was generating
    pace.saw("a", at(10, 3.0))
    pace.saw("a", at(40, 12.0))

    # 60 steps of 0.3 s, then a third of 30 s of training: 18 + 10
    assert pace.seconds_left("a", None) == pytest.approx(28.0)


def test_the_end_of_training_counts_only_where_it_was_seen() -> None:
    pace = Pace()
    pace.saw("z", at(100, 19.0, "generating"))  # first seen in the middle of it
    pace.ended("z", 20.0)
    pace.saw("a", at(50, 5.0))

    assert pace.seconds_left("a", None) == pytest.approx(5.0)


def test_a_trial_that_went_back_to_its_checkpoint_is_measured_anew() -> None:
    pace = Pace()
    pace.saw("a", at(10, 1.0))
    pace.saw("a", at(60, 6.0))
    pace.saw("a", at(40, 8.0, attempt=2))
    pace.saw("a", at(50, 12.0, attempt=2))

    assert pace.seconds_left("a", None) == pytest.approx(50 * 0.4)


def test_after_training_only_others_tell() -> None:
    pace = Pace()
    pace.saw("a", at(100, 18.0, "generating"))

    assert pace.seconds_left("a", None) is None
    assert pace.seconds_left("a", 24.0) == pytest.approx(6.0)
    assert pace.seconds_left("a", 12.0) == 0.0


@pytest.mark.parametrize(
    ("running", "waiting", "workers", "seconds"),
    [
        ([10.0, 20.0], [30.0, 40.0], 2, 50.0),
        ([10.0, 90.0], [], 2, 90.0),  # the longest can't be shared
        ([], [], 1, 0.0),
        ([10.0], [10.0], 0, None),
    ],
)
def test_sweep_seconds(running: list[float], waiting: list[float], workers: int, seconds: float | None) -> None:
    assert sweep_seconds(running, waiting, workers) == seconds


def test_spans_are_said_as_people_do() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 75, 3660)] == ["0 s", "1 min 0 s", "1 min 15 s", "1 h 1 min"]
    spans = [rough_duration(seconds) for seconds in (0, 12, 57, 58, 60, 100, 3599, 86400)]
    assert spans == ["5 s", "10 s", "55 s", "1 min", "1 min", "2 min", "1 h 0 min", "24 h 0 min"]


def test_a_sparkline_runs_from_its_lowest_to_its_highest() -> None:
    assert sparkline(range(8), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0], 8) == "▅▅"
    assert sparkline([], 8) == ""
    assert sparkline(range(800), 4) == "▁▃▆█"
    assert sparkline(range(6), 8, ascii_only=True) == "_.-=*#"


def test_condensing_keeps_the_mean() -> None:
    assert condensed([1.0, 3.0, 5.0, 7.0, 9.0, 11.0], 3) == (2.0, 6.0, 10.0)
    assert condensed([1.0, 3.0], 3) == (1.0, 3.0)


def test_nothing_printed_can_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\nc\x9bd\u202ee") == "a?[31mb c?d?e"
