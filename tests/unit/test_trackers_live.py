"""Live tracking: a tracker that fails ends its own run, and nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.records import CurvePoint, TrialRecord
from neftune_cli.trackers.live import LiveRuns


class Recorder(TrainerCallback):
    """Record what is logged; fail at a chosen event."""

    def __init__(self, fails_at: str = "") -> None:
        self.logged: list[dict[str, Any]] = []
        self.finished: Mapping[str, float] | None = None
        self.closed = False
        self.callback: TrainerCallback = self
        self._fails_at = fails_at

    def _fail_at(self, event: str) -> None:
        if event == self._fails_at:
            raise ConnectionError("no route to the server.")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._fail_at("begin")

    def on_log(self, *_: Any, logs: dict[str, Any] | None = None, **__: Any) -> None:
        self._fail_at("log")
        self.logged.append(logs or {})

    def finish(self, scores: Mapping[str, float]) -> None:
        self._fail_at("finish")
        self.finished = scores

    def close(self) -> None:
        self._fail_at("close")
        self.closed = True


def trained(runs: LiveRuns) -> None:
    state = TrainerState(), TrainerControl()
    arguments = TrainingArguments(report_to="none", use_cpu=True)
    runs.on_train_begin(arguments, *state)
    runs.on_log(arguments, *state, logs={"loss": 1.0})
    runs.add(CurvePoint(step=1, epoch=1.0, eval_loss=2.0, train_loss_clean=1.5))
    runs.add(CurvePoint(step=2, epoch=1.0, train_loss=1.0))  # the trainer logs it
    runs.close()


def test_the_noise_off_losses_of_the_learning_curve_are_logged() -> None:
    run = Recorder()
    trained(LiveRuns({"good": lambda: run}))
    assert run.logged == [{"loss": 1.0}, {"eval_loss": 2.0, "train_loss_clean": 1.5}]
    assert run.closed


@pytest.mark.parametrize("event", ["begin", "log", "close"])
def test_a_tracker_that_fails_leaves_the_others(event: str, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Recorder(), Recorder(fails_at=event)
    trained(LiveRuns({"bad": lambda: bad, "good": lambda: good}))
    assert len(good.logged) == 2
    assert good.closed
    assert bad.closed == (event != "close")
    message = "--track bad failed: no route to the server. The trial continues without it."
    assert capsys.readouterr().err.splitlines() == [message]


def test_a_run_that_cannot_be_opened_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> Recorder:
        raise ConnectionError("no route to the server.")

    good = Recorder()
    trained(LiveRuns({"bad": refuse, "good": lambda: good}))
    assert len(good.logged) == 2
    assert "--track bad failed" in capsys.readouterr().err


TASKS = """{"results": {
  "arc": {"alias": "arc", "sample_len": 4, "acc,none": 0.75, "acc_stderr,none": "N/A"},
  "sums": {"match,strict": 0.5, "match,loose": 1.0}
}}"""
"""File of lm-evaluation-harness in its own format: a task with one filter, and one with two."""


def test_a_trial_ends_with_its_metrics_and_the_scores_of_its_tasks(hand_made_records: list[TrialRecord]) -> None:
    record, run = hand_made_records[0], Recorder()
    LiveRuns({"good": lambda: run}).finish(record, {"lm_eval.json": TASKS, "lm_eval_samples.jsonl": ""})
    assert run.finished is not None
    assert run.finished["eval_loss"] == record.loss.eval_loss
    of_tasks = {name: value for name, value in run.finished.items() if "/" in name}
    assert of_tasks == {"arc/acc": 0.75, "sums/match (strict)": 0.5, "sums/match (loose)": 1.0}


def test_scores_that_cannot_be_read_do_not_fail_the_trial(
    hand_made_records: list[TrialRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    LiveRuns({"bad": Recorder}).finish(hand_made_records[0], {"lm_eval.json": "{"})
    assert "The trial continues without it." in capsys.readouterr().err
