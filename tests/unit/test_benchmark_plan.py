"""The benchmark of sweeps: resumption of its plan, spread, summary line, timers, and the command of TRL."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from trl.scripts.utils import ScriptArguments
from trl.trainer.model_config import ModelConfig
from trl.trainer.sft_config import SFTConfig

from experiments.benchmarks import __main__ as benchmark
from experiments.benchmarks.__main__ import Measurement, plan, read, run, spread, summary, table
from experiments.benchmarks.in_process import PhaseTimer
from experiments.benchmarks.measurement import Figures, MeasurementError, repeated
from experiments.benchmarks.sweep_commands import seconds_of, trl_command


def ticks(*seconds: float) -> Callable[[], float]:
    """Return a clock that shows the given times, one per call."""
    times: Iterator[float] = iter(seconds)
    return lambda: next(times)


class Work:
    """Measurements that record their calls; the one named `fails` raises."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: tuple[str, type[BaseException]] | None = None

    def measure(self, subject: str) -> Figures:
        self.calls.append(subject)
        if self.fails and self.fails[0] == subject:
            raise self.fails[1]
        return {"sweep_seconds": [float(len(self.calls))]}

    def plan(self, *subjects: str) -> list[Measurement]:
        return [Measurement("trl", one, self.measure, {"subject": one}) for one in subjects]


@pytest.fixture
def said() -> list[str]:
    return []


def test_an_interrupted_plan_continues_with_the_missing_measurements(tmp_path: Path, said: list[str]) -> None:
    work = Work()
    measurements, work.fails = work.plan("one", "two", "three"), ("two", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run(measurements, tmp_path, say=said.append)
    work.fails = None
    run(measurements, tmp_path, say=said.append)
    assert work.calls == ["one", "two", "two", "three"]
    run(measurements, tmp_path, say=said.append)
    assert len(work.calls) == 4
    assert [read(one, tmp_path) for one in measurements] == [{"sweep_seconds": [value]} for value in (1.0, 3.0, 4.0)]


def test_a_failed_measurement_is_reported_and_does_not_stop_the_others(tmp_path: Path, said: list[str]) -> None:
    work = Work()
    measurements, work.fails = work.plan("one", "two"), ("one", MeasurementError)
    run(measurements, tmp_path, say=said.append)
    assert [read(one, tmp_path) is None for one in measurements] == [True, False]
    assert said[1].startswith("trl-one: ")


def test_other_arguments_or_a_damaged_file_make_a_new_measurement_necessary(tmp_path: Path, said: list[str]) -> None:
    (old,) = Work().plan("one")
    run([old], tmp_path, say=said.append)
    assert read(old, tmp_path)
    assert read(Measurement("trl", "one", old.measure, {"subject": "other"}), tmp_path) is None
    (tmp_path / "trl-one.json").write_text("{")
    assert read(old, tmp_path) is None


def test_changed_data_make_a_new_measurement_necessary(tmp_path: Path, said: list[str]) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text("one")
    measurement = Measurement("trl", "smollm2", lambda fields: {"x": [1.0]}, {"fields": {"dataset": str(data)}})
    run([measurement], tmp_path, say=said.append)
    assert read(measurement, tmp_path)
    data.write_text("two")
    assert read(measurement, tmp_path) is None


def test_no_measurement_starts_after_the_time_is_over(tmp_path: Path, said: list[str]) -> None:
    work = Work()
    run(work.plan("one", "two"), tmp_path, say=said.append, clock=ticks(0, 1, benchmark.START_SECONDS + 1))
    assert work.calls == ["one"]
    assert said[-1] == "The time is over. The same command continues."


def test_repetitions_end_after_a_minute() -> None:
    assert repeated(lambda number: {"x": float(number)}, 3, clock=ticks(0, 20, 59)) == {"x": [0, 1, 2]}
    assert repeated(lambda number: {"x": float(number)}, 3, clock=ticks(0, 61)) == {"x": [0]}


def test_a_phase_interrupts_the_phase_around_it() -> None:
    timer = PhaseTimer(ticks(0, 10, 12, 15, 16, 20, 21))
    losses = timer.timed("losses", lambda: "done")
    with timer.phase("setup"), timer.phase("training"):  # from 10 and from 12
        assert losses() == "done"  # from 15 to 16
    assert timer.seconds == {"setup": 2 + 1, "training": 3 + 4, "losses": 1}


def test_only_the_last_outermost_phase_counts() -> None:
    timer = PhaseTimer(ticks(0, 1, 2, 10, 15))
    for _ in range(2):
        with timer.phase("setup"):
            pass
    assert timer.seconds == {"setup": 5}


def test_spread_is_the_median_and_the_range() -> None:
    assert spread([3.0, 1.0, 5.0]) == (3.0, 1.0, 5.0)
    assert spread([1.0, 2.0]) == (1.5, 1.0, 2.0)


RESULTS: list[tuple[str, Figures]] = [
    ("tiny", {"sweep_over_trl": [1.8, 2.0, 1.6], "sweep_seconds": [1234.5]}),
    ("tiny_10_trials_1_workers", {"seconds_per_trial": [0.98765]}),
    ("tiny", {"loss_difference": [8.14e-8]}),
]


def test_the_summary_has_the_median_of_each_figure_by_subject() -> None:
    assert summary(RESULTS, planned=4) == (
        "summary: measured=3 planned=4 tiny_sweep_seconds=1234 tiny_sweep_over_trl=1.8 tiny_loss_difference=8.14e-08 "
        "tiny_10_trials_1_workers_seconds_per_trial=0.988"
    )


def test_the_table_has_the_range_and_the_repetitions() -> None:
    columns = [list(column.cells) for column in table(RESULTS).columns]
    assert [cells[1] for cells in columns] == ["tiny", "sweep over one `trl sft`", "1.8", "1.6", "2", "3"]


def test_losses_beyond_the_tolerance_are_noticed() -> None:
    assert benchmark.has_equal_losses(RESULTS)
    assert not benchmark.has_equal_losses([("tiny", {"loss_difference": [2 * benchmark.LOSS_TOLERANCE]})])


def test_smollm2_is_left_out_without_its_data(tmp_path: Path) -> None:
    assert "DATASET" in (benchmark.why_without_smollm2(None) or "")
    assert str(tmp_path / "mine.jsonl") in (benchmark.why_without_smollm2(str(tmp_path / "mine.jsonl")) or "")
    assert not [one for one in plan(None) if "smollm2" in one.name]
    assert {one.kind for one in plan("mine.jsonl") if one.subject == "smollm2"} == {"trl", "phases", "equal-work"}


@pytest.mark.parametrize("quick", [True, False])
def test_the_arguments_of_a_plan_survive_json(quick: bool) -> None:
    measurements = plan("mine.jsonl", quick=quick)
    assert len({one.name for one in measurements}) == len(measurements)
    assert all(json.loads(json.dumps(one.arguments)) == one.arguments for one in measurements)


def test_trls_script_gets_the_recipe_in_options_that_it_knows(tmp_path: Path) -> None:
    """The script ignores options that it does not know."""
    command = trl_command(benchmark.SMOLLM2, tmp_path / "inputs", tmp_path / "output")
    assert command[1:3] == ["-m", "trl.scripts.sft"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    known = {field.name for kind in (SFTConfig, ModelConfig, ScriptArguments) for field in fields(kind)}
    assert {name.removeprefix("--") for name in options} <= known
    recipe = {"num_train_epochs": "1.0", "per_device_train_batch_size": "8", "learning_rate": "2e-05"}
    assert {**recipe, "max_length": "256", "bf16": "False", "dtype": "float32"}.items() <= {
        name.removeprefix("--"): value for name, value in options.items()
    }.items()


def test_commands_run_side_by_side_and_a_failure_shows_their_output(tmp_path: Path) -> None:
    """Each of the first two commands waits for a file of the other one."""
    wait = """import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)"""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert seconds_of([sys.executable, "-c", wait, one, two], [sys.executable, "-c", wait, two, one], work=tmp_path) > 0
    with pytest.raises(MeasurementError, match="no such model"):
        seconds_of([sys.executable, "-c", "raise SystemExit('no such model')"], work=tmp_path)
