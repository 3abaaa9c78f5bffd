"""Measurements of a trial compared with its files, item by item."""

import math
from pathlib import Path

import numpy as np
import pytest

from neftune_cli.errors import UsageError
from neftune_cli.evidence.trials import read_trial
from neftune_cli.records import (
    HELD_OUT_SPLIT,
    PROBE_SPLIT,
    CurvePoint,
    EvalMetrics,
    ExampleLoss,
    Generation,
    TrialRecord,
    TrialState,
    TrialStatus,
)
from neftune_cli.store import TrialFolder
from neftune_cli.store.trials import STATE_FILE
from tests.finished_trials import write_trial

LOSSES = [
    # split, epoch, example, cluster, loss, tokens
    (PROBE_SPLIT, 1, "p", "Ada", 0.9, 4),
    (HELD_OUT_SPLIT, 1, "a", "Ben", 2.0, 1),
    (HELD_OUT_SPLIT, 1, "b", "Ben", 1.0, 3),
    (PROBE_SPLIT, 2, "p", "Ada", 0.3, 4),
    (HELD_OUT_SPLIT, 2, "a", "Ben", 3.0, 1),
    (HELD_OUT_SPLIT, 2, "b", "Ben", 1.0, 3),
]


def test_losses_are_those_of_the_last_epoch_weighted_by_tokens(folder: TrialFolder, record: TrialRecord) -> None:
    trial = read_trial(folder, record)

    held_out = trial.items["eval_loss"]
    assert held_out.items == ("a", "b")
    assert held_out.clusters == ("Ben", "Ben")
    assert held_out.values.tolist() == [3.0, 1.0]
    assert held_out.weights.tolist() == [1.0, 3.0]
    assert trial.items["train_loss_clean"].values.tolist() == [0.3]
    assert {epoch: values.values.tolist() for epoch, values in trial.held_out_by_epoch.items()} == {
        1: [2.0, 1.0],
        2: [3.0, 1.0],
    }


def test_the_mean_of_the_perplexity_per_item_is_the_perplexity(folder: TrialFolder, record: TrialRecord) -> None:
    items = read_trial(folder, record).items["eval_perplexity"]

    # the mean loss is (3 + 3 * 1) / 4; a loss that is h higher changes the perplexity p by about p * h
    assert np.average(items.values, weights=items.weights) == pytest.approx(math.exp(1.5))
    assert items.values[0] - items.values[1] == pytest.approx(2 * math.exp(1.5))


@pytest.mark.filterwarnings("error")
def test_the_perplexity_per_item_of_a_diverged_trial_is_not_finite(tmp_path: Path, record: TrialRecord) -> None:
    losses = [
        ExampleLoss(split=HELD_OUT_SPLIT, epoch=1, example=name, cluster=name, loss=loss, tokens=1)
        for name, loss in (("a", 60_000.0), ("b", 120_000.0))
    ]
    write_trial(TrialFolder(tmp_path / "diverged"), record, losses)

    items = read_trial(TrialFolder(tmp_path / "diverged"), record).items

    assert items["eval_loss"].values.tolist() == [60_000.0, 120_000.0]
    assert not np.isfinite(items["eval_perplexity"].values).any()


@pytest.mark.parametrize(("side_by_side", "expected"), [(1, 60.0), (3, 20.0), (None, 60.0)])
def test_time_of_a_trial_is_shared_with_the_trials_beside_it(
    folder: TrialFolder, record: TrialRecord, side_by_side: int | None, expected: float
) -> None:
    status = TrialStatus(trial=record.trial, state=TrialState.DONE, seconds=60.0, side_by_side=side_by_side)
    (folder.path / STATE_FILE).write_text(status.model_dump_json(), encoding="utf-8")

    assert read_trial(folder, record).seconds == expected


def test_time_of_a_trial_is_unknown_without_its_state(folder: TrialFolder, record: TrialRecord) -> None:
    (folder.path / STATE_FILE).unlink(missing_ok=True)

    assert read_trial(folder, record).seconds is None


def test_scores_of_answers_are_separate_by_split(folder: TrialFolder, record: TrialRecord) -> None:
    trial = read_trial(folder, record)

    assert trial.items["exact_match"].values.tolist() == [1.0, 0.0]
    assert trial.items["response_chars"].values.tolist() == [4.0, 6.0]
    assert trial.items["rouge_l"].values.tolist() == [1.0, 0.5]
    assert trial.items["truncated"].values.tolist() == [0.0, 1.0]
    assert trial.items["probe_rouge_l"].values.tolist() == [0.25]
    assert trial.scores["probe_rouge_l"] == 0.25
    assert trial.scores["rouge_l"] == record.eval.rouge_l


def test_a_trial_without_example_losses_has_its_scores(tmp_path: Path, record: TrialRecord) -> None:
    trial = read_trial(TrialFolder(tmp_path), record)

    assert trial.scores["eval_loss"] == 1.5
    assert not trial.items


@pytest.mark.parametrize("name", ["examples.parquet", "generations.jsonl"])
def test_a_damaged_file_is_named(folder: TrialFolder, record: TrialRecord, name: str) -> None:
    (folder.path / name).write_text("torn\n")

    with pytest.raises(UsageError, match=rf"{name} is damaged\. Restore it, or remove the trial's folder"):
        read_trial(folder, record)


@pytest.fixture
def record(hand_made_records: list[TrialRecord]) -> TrialRecord:
    first = hand_made_records[1]
    probe = EvalMetrics(**{**first.eval.model_dump(), "rouge_l": 0.25})
    return first.model_copy(update={"probe_eval": probe})


@pytest.fixture
def folder(tmp_path: Path, record: TrialRecord) -> TrialFolder:
    folder = TrialFolder(tmp_path / "trial")
    columns = list(ExampleLoss.model_fields)
    losses = [ExampleLoss.model_validate(dict(zip(columns, row, strict=True))) for row in LOSSES]
    answers = [
        _answer("a", "four", 1.0),
        _answer("b", "longer", 0.5, truncated=True),
        _answer("p", "x", 0.25, PROBE_SPLIT),
    ]
    write_trial(folder, record, losses, answers, [CurvePoint(step=1, epoch=1.0)])
    return folder


def _answer(
    example: str, response: str, score: float, split: str = HELD_OUT_SPLIT, *, truncated: bool = False
) -> Generation:
    return Generation(
        split=split,
        example=example,
        cluster="Ben",
        kind="",
        prompt="?",
        reference="four",
        response=response,
        tokens=1,
        truncated=truncated,
        exact_match=response == "four",
        rouge_l=score,
    )
