"""Runs of a finished sweep for trackers: its trials and its comparisons."""

from pathlib import Path

import pytest

from neftune_cli.commands.export import ExportTarget
from neftune_cli.config.identity import recipe_identity
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import LiveTracker, Tracking
from neftune_cli.records import CurvePoint, TrialRecord
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.store.manifest import GitState, Hardware, Manifest
from neftune_cli.trackers.runs import tracked_runs, write_comparison
from tests.finished_trials import write_trial

Records = list[TrialRecord]
RECIPE = recipe_identity(resolve_sweep(None, {}).train)


def test_every_tracker_is_a_target_of_export() -> None:
    assert set(LiveTracker) <= {one.value for one in ExportTarget}


def test_a_sweep_has_a_run_for_each_trial_and_one_comparison(tmp_path: Path, hand_made_records: Records) -> None:
    *trials, comparison = tracked_runs(_sweep(tmp_path / "one", hand_made_records))

    assert [one.id for one in trials] == [record.trial for record in hand_made_records]
    assert (comparison.name, comparison.id) == ("comparison", "comparison-")
    assert "difference_from_first" not in comparison.parameters


def test_each_comparison_of_a_folder_is_a_run(tmp_path: Path, hand_made_records: Records) -> None:
    small = [_with_small_batches(record) for record in hand_made_records[1:]]

    runs = list(tracked_runs(_sweep(tmp_path / "one", [*hand_made_records, *small])))

    first, second = runs[-2:]
    assert (first.name, second.name) == ("comparison, part 1", "comparison, part 2")
    assert first.id != second.id
    assert second.parameters["difference_from_first"] == (
        "Not compared with one, part 1, because more than the noise differs: train: batch_size 4 instead of 16."
    )
    gains = [run.scores["eval_loss/alpha=5/difference"] for run in (first, second)]
    assert gains[0] != gains[1]


def test_runs_have_the_circumstances_of_their_sweep(tmp_path: Path, hand_made_records: Records) -> None:
    sweep = _sweep(tmp_path / "one", hand_made_records)
    of_sweep = Manifest(
        started="2026-01-01T10:00:00+00:00",
        model="tiny",
        data="bios",
        versions={"torch": "2.13.0"},
        hardware=Hardware(device="cpu", cores=2),
        git=GitState(commit="60a43880", dirty=True),
    )
    sweep.write_manifest(of_sweep)

    *_, comparison = tracked_runs(sweep)

    known = {name: value for name, value in comparison.parameters.items() if "/" not in name}
    assert known == {
        "baseline": "alpha=0",
        "primary": "eval_loss",
        "model": "tiny",
        "data": "bios",
        "versions.torch": "2.13.0",
        "hardware.device": "cpu",
        "hardware.cores": 2,
        "git.commit": "60a43880",
        "git.dirty": True,
    }


def test_a_run_has_a_curve_of_every_loss_and_of_the_learning_rate(
    tmp_path: Path, hand_made_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LaterPoint(CurvePoint):
        eval_loss_of_later_version: float

    values = {"train_loss": 2.0, "eval_loss": 1.5, "learning_rate": 0.001, "train_loss_clean": 1.75}
    point = LaterPoint(step=3, epoch=0.5, tokens=90, eval_examples=8, eval_loss_of_later_version=1.25, **values)
    monkeypatch.setattr(TrialFolder, "curve", lambda _: [point])

    first, *_ = tracked_runs(_sweep(tmp_path / "one", hand_made_records))

    assert first.curves == [(3, {**values, "eval_loss_of_later_version": 1.25})]


def test_a_comparison_that_cannot_be_read_does_not_hide_the_outcome(tmp_path: Path, hand_made_records: Records) -> None:
    sweep = _sweep(tmp_path / "one", hand_made_records)
    record = sweep.trials()[0].path / "record.json"
    record.unlink()
    record.mkdir()
    (line,) = write_comparison(Tracking((LiveTracker.TENSORBOARD,), str(tmp_path)), sweep)
    assert line.startswith(f"--track: the comparison was not written: {record} cannot be read")


def _with_small_batches(record: TrialRecord) -> TrialRecord:
    """Return a trial of another recipe, in which alpha 5 has a larger held-out loss by 1 nat."""
    loss = record.loss.model_copy(update={"eval_loss": record.loss.eval_loss + (record.alpha == 5)})
    identity = {**record.identity, "train": {**RECIPE, "batch_size": 4}}
    return record.model_copy(update={"trial": f"small-{record.trial}", "loss": loss, "identity": identity})


def _sweep(path: Path, records: Records) -> SweepFolder:
    folder = SweepFolder(path)
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}))
    for record in records:
        write_trial(folder.trial(record.trial, record.arm, record.seed), record)
    return folder
