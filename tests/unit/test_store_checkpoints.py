"""Checkpoints on disk: written atomically; the last two are kept; damaged ones are skipped."""

import shutil
from pathlib import Path

import pytest

from neftune_cli.store import LeasedTrial, TrialFolder
from tests.finished_trials import start_trial


@pytest.fixture
def trial(tmp_path: Path) -> LeasedTrial:
    return start_trial(TrialFolder(tmp_path / "x"), "x")


def write_checkpoint(trial: LeasedTrial, step: int, content: bytes = b"weights") -> Path:
    with trial.new_checkpoint(step, {"halvings": 0}) as place:
        (place / "model").write_bytes(content)
        (place / "state.json").write_text("{}")
    return trial.intact_checkpoints()[0].path


def test_last_two_checkpoints_are_kept_newest_first(trial: LeasedTrial) -> None:
    for step in (2, 40, 600, 1000):
        write_checkpoint(trial, step)
    assert [(one.step, one.about) for one in trial.intact_checkpoints()] == [
        (1000, {"halvings": 0}),
        (600, {"halvings": 0}),
    ]
    assert len(list((trial.folder.path / "checkpoints").iterdir())) == 2


def test_checkpoint_replaces_one_of_the_same_step(trial: LeasedTrial) -> None:
    write_checkpoint(trial, 3)
    assert (write_checkpoint(trial, 3, b"other") / "model").read_bytes() == b"other"


def test_checkpoint_with_index_cut_at_any_byte_is_skipped(trial: LeasedTrial) -> None:
    write_checkpoint(trial, 1)
    index = write_checkpoint(trial, 2) / "index.json"
    complete = index.read_bytes()
    for length in range(len(complete) - 1):  # the final newline is optional
        index.write_bytes(complete[:length])
        assert [one.step for one in trial.intact_checkpoints()] == [1]
    index.write_bytes(complete)
    assert [one.step for one in trial.intact_checkpoints()] == [2, 1]


@pytest.mark.parametrize("content", [b"weight", b"weights!", b"weighTs", None])
def test_checkpoint_with_shorter_longer_changed_or_missing_file_is_skipped(
    trial: LeasedTrial, content: bytes | None
) -> None:
    write_checkpoint(trial, 1)
    file = write_checkpoint(trial, 2) / "model"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert [one.step for one in trial.intact_checkpoints()] == [1]


def test_failed_write_leaves_no_checkpoint(trial: LeasedTrial) -> None:
    write_checkpoint(trial, 1)

    def fill() -> None:
        with trial.new_checkpoint(2) as place:
            (place / "model").write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert [path.name for path in (trial.folder.path / "checkpoints").iterdir()] == ["step-00000001"]


def test_temporary_folder_of_killed_process_is_ignored_and_removed_later(trial: LeasedTrial) -> None:
    write_checkpoint(trial, 1)
    left = trial.folder.path / "checkpoints" / ".step-00000002.abc.tmp"
    left.mkdir()
    (left / "model").write_bytes(b"half")
    assert [one.step for one in trial.intact_checkpoints()] == [1]
    write_checkpoint(trial, 3)
    assert not left.exists()


def test_a_replaced_checkpoint_is_complete_until_the_new_one_has_its_name(
    trial: LeasedTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, removed, remove = write_checkpoint(trial, 1), [], shutil.rmtree

    def watched(path: Path, *, ignore_errors: bool = False) -> None:
        removed.append(path)
        assert (final / "model").read_bytes() == b"other"
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    write_checkpoint(trial, 1, b"other")
    assert removed
    assert removed[0] != final


def test_a_checkpoint_that_cannot_be_replaced_is_kept(trial: LeasedTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    final, rename = write_checkpoint(trial, 1), Path.rename
    failures = [OSError("no such device")]

    def fail_once(path: Path, target: Path) -> Path:
        if target == final and failures:
            raise failures.pop()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="no such device"):
        write_checkpoint(trial, 1, b"other")
    assert [(one.path, (one.path / "model").read_bytes()) for one in trial.intact_checkpoints()] == [
        (final, b"weights")
    ]
    assert [path.name for path in final.parent.iterdir()] == [final.name]
