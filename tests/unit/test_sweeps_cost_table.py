"""Cost table of a plan in a terminal and in files: estimates, unknown values, and narrow terminals."""

import io
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from neftune_cli.sweeps.cost_table import CostedPlan, TrialLine, cost_table, print_costs, total_lines
from tests.manifests import cost_estimate

GIB = 1 << 30
LONG = "alpha=5,noise=gaussian,per_device_train_batch_size=8,weight_decay=0.1"
BASE = TrialLine("id0", "base", None, 0, "to run", 0, 6.0)
ZERO = TrialLine("id1", "alpha=0", 0, 30, "to run", 1500, 13.0)
FIVE = replace(ZERO, trial="id2", arm="alpha=5")
UNKNOWN = replace(FIVE, tokens=None, seconds=None)


class Terminal(io.StringIO):
    """A stream that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


def plan(
    *lines: TrialLine, seconds: float | None = 20.0, rate: float | None = None, notes: Sequence[str] = ()
) -> CostedPlan:
    estimate = None if seconds is None else cost_estimate({}, seconds, peak_memory=GIB)
    return CostedPlan("results/bios", lines, estimate, 4 * GIB, "cpu", rate, tuple(notes))


def printed(one: CostedPlan, width: int, *, on: type[io.StringIO] = Terminal) -> list[str]:
    stream = on()
    print_costs(one, Console(file=stream, width=width, color_system=None))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def rows(lines: Sequence[str]) -> list[str]:
    """Return the table, header and all, without the spaces that align it."""
    return [" ".join(line.split()) for line in lines[1 : lines.index("")]]


def test_the_totals_follow_the_table() -> None:
    done = replace(FIVE, seed=1, steps=1200, state="done", tokens=None, seconds=None)
    elsewhere = replace(ZERO, seed=1, state="running elsewhere")
    assert printed(plan(BASE, ZERO, elsewhere, done, rate=180.0, notes=["400 examples\nto train on."]), 80) == [
        "Plan of results/bios",
        "arm      seed  steps  tokens  state              time",
        "base               0       0  to run              5 s",
        "alpha=0     0     30   1,500  to run             15 s",
        "alpha=0     1     30   1,500  running elsewhere",
        "alpha=5     1  1,200          done",
        "",
        "400 examples to train on.",
        "1 of 3 trials and the base model to run, at most 30 optimizer steps.",
        "Training tokens: 1,500, without padding.",
        "Time: about 20 s with 2 workers, including startup.",
        "Peak memory: about 1.0 GiB per worker, 2.0 GiB in all; 4.0 GiB available.",
        "Cost: about 1.00, at 180 per hour.",
        "Source of the estimates: a calibration with a few steps and responses.",
    ]


def test_without_estimates_there_are_no_totals() -> None:
    assert printed(plan(replace(BASE, tokens=None, seconds=None), UNKNOWN, seconds=None, rate=180.0), 120)[1:] == [
        "arm      seed  steps  state",
        "base               0  to run",
        "alpha=5     0     30  to run",
        "",
        "1 trial and the base model to run, at most 30 optimizer steps.",
        "Time and cost are unknown: no trial has finished, and nothing was calibrated.",
    ]


def test_with_partial_estimates_the_totals_are_lower_bounds() -> None:
    half = plan(ZERO, UNKNOWN, rate=180.0)
    lines = printed(half, 120)
    assert rows(lines)[1:] == ["alpha=0 0 30 1,500 to run 15 s", "alpha=5 0 30 to run ?"]
    assert lines[lines.index("") + 2 :] == [
        "1 trial has no estimate. The totals are those of the others.",
        "Training tokens: at least 1,500, without padding.",
        "Time: at least 20 s with 2 workers, including startup.",
        "Peak memory: at least 1.0 GiB per worker, 2.0 GiB in all; 4.0 GiB available.",
        "Cost: at least 1.00, at 180 per hour.",
        "Source of the estimates: a calibration with a few steps and responses.",
    ]
    exported = half.as_json()
    assert (exported["price"], exported["tokens"], exported["without_estimate"]) == (1.0, 1500, 1)
    assert plan(ZERO, FIVE).as_json()["without_estimate"] == 0


def test_a_calibration_that_ended_early_gives_ranges() -> None:
    one = plan(ZERO, FIVE, rate=180.0)
    assert one.estimate is not None
    wide = replace(one, estimate=one.estimate.model_copy(update={"lowest_seconds": 10.0, "highest_seconds": 130.0}))
    lines = list(total_lines(wide))
    assert lines[2:4] == [
        "Time: 10 s to 2 min with 2 workers, including startup.",
        "The time is a range, because the calibration ended before it had measured every part of a trial.",
    ]
    assert "Cost: 0.50 to 6.50, at 180 per hour." in lines
    assert wide.as_json()["estimate"]["highest_seconds"] == 130.0


def test_an_unknown_peak_memory_has_a_reason() -> None:
    one = plan(ZERO)
    assert one.estimate is not None
    short = replace(one, estimate=one.estimate.model_copy(update={"peak_memory": None}))
    assert "Peak memory: unknown, because the calibration ended before its first training steps." in total_lines(short)


@pytest.mark.parametrize(("device", "place"), [("cpu", ""), ("cuda", ", on the GPU")])
def test_peak_memory_of_workers_without_known_memory_names_a_gpu_only_if_there_is_one(device: str, place: str) -> None:
    """The memory of workers on other machines is not known either."""
    elsewhere = replace(plan(ZERO), available_memory=None, device=device)
    assert f"Peak memory: about 1.0 GiB per worker{place}." in total_lines(elsewhere)


@pytest.mark.parametrize(
    ("source", "calibrated", "expected"),
    [
        ("calibration", "", "a calibration with a few steps and responses"),
        ("calibration", "2026-01-31T12:05:59+00:00", "a remembered calibration of 2026-01-31 12:05"),
        ("earlier trials", "", "finished trials of this sweep"),
        ("calibration and earlier trials", "", "finished trials of this sweep, and a calibration"),
        (
            "earlier trials and calibration",
            "2026-01-31T12:05:59+00:00",
            "finished trials of this sweep, and a remembered calibration of 2026-01-31 12:05",
        ),
        ("recalibration", "", "recalibration"),
    ],
)
def test_the_last_line_names_the_source(
    source: str, calibrated: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    one = plan(ZERO)
    assert one.estimate is not None
    update = {"source": source, "calibrated": calibrated}
    named = replace(one, estimate=one.estimate.model_copy(update=update))
    assert list(total_lines(named))[-1] == f"Source of the estimates: {expected}."


def test_a_cost_below_one_cent_is_not_rounded_to_zero() -> None:
    assert "Cost: about 0.0056, at 1 per hour." in total_lines(plan(ZERO, rate=1.0))


def test_a_finished_plan_has_no_totals() -> None:
    done = plan(replace(ZERO, state="done"), seconds=None, rate=1.0)
    assert rows(printed(done, 80)) == ["arm seed steps tokens state", "alpha=0 0 30 1,500 done"]
    assert list(total_lines(done)) == ["0 of 1 trial to run, at most 0 optimizer steps."]
    assert done.as_json()["price"] is None


def test_without_a_terminal_lines_are_not_wrapped() -> None:
    note = "word " * 50
    lines = printed(plan(replace(FIVE, arm=LONG), notes=[note]), 80, on=io.StringIO)
    assert rows(lines)[1] == f"{LONG} 0 30 1,500 to run 15 s"
    assert note.strip() in lines


@pytest.mark.parametrize(
    ("width", "columns"),  # 7 characters for the arm, and 4, 5, 6, 6, 4; two between each and the next
    [
        (42, "arm seed steps tokens state time"),
        (41, "arm seed steps state time"),
        (34, "arm seed steps state time"),
        (33, "arm seed state time"),
        (27, "arm seed state time"),
        (26, "arm seed time"),
        (19, "arm seed time"),
    ],
)
def test_a_narrow_terminal_leaves_out_the_least_important_columns(width: int, columns: str) -> None:
    header, base, zero, five = rows(printed(plan(BASE, ZERO, FIVE), width))
    assert header == columns
    assert [line.split()[0] for line in (base, zero, five)] == ["base", "alpha=0", "alpha=5"]
    assert all(line.endswith("15 s") for line in (zero, five))


@pytest.mark.parametrize("width", [20, 40, 70, 120])
def test_lines_fit_the_terminal_and_words_are_not_broken(width: int) -> None:
    one = plan(BASE, ZERO, replace(FIVE, state="running elsewhere"), UNKNOWN, rate=1.0)
    lines, unbroken = printed(one, width), printed(one, 1000)
    assert max(map(len, lines)) <= width
    assert set(" ".join(lines).split()) <= set(" ".join(unbroken).split())
    assert " ".join(lines[lines.index("") + 1 :]) == " ".join(unbroken[unbroken.index("") + 1 :])


def test_a_long_name_ends_in_an_ellipsis() -> None:
    one = plan(replace(FIVE, arm=LONG))
    assert rows(printed(one, 40))[1] == "alpha=5,noise=gaussian,per_… 0 15 s"
    Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")).print(cost_table(one, 40, ascii_only=True))


def test_control_characters_in_names_are_replaced() -> None:
    lines = printed(plan(replace(FIVE, arm="[red]bell\x07\x1b[2J"), notes=["\x1b]0;title\x07"]), 80)
    assert rows(lines)[1] == "[red]bell??[2J 0 30 1,500 to run 15 s"
    assert "?]0;title?" in lines
