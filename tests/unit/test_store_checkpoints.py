"""Checkpoints on disk: whole or not there, the last two kept, and a damaged one passed over."""

from pathlib import Path

import pytest

from neftune_cli.store import ClaimedTrial, TrialFolder
from tests.finished_trials import begin


@pytest.fixture
def trial(tmp_path: Path) -> ClaimedTrial:
    return begin(TrialFolder(tmp_path / "x"), "x")


def keep(trial: ClaimedTrial, step: int, content: bytes = b"weights") -> Path:
    with trial.new_checkpoint(step, {"halvings": 0}) as place:
        (place / "model").write_bytes(content)
        (place / "state.json").write_text("{}")
    return trial.checkpoints()[0].path


def test_the_last_two_are_kept_newest_first(trial: ClaimedTrial) -> None:
    for step in (2, 40, 600, 1000):
        keep(trial, step)
    assert [(one.step, one.about) for one in trial.checkpoints()] == [(1000, {"halvings": 0}), (600, {"halvings": 0})]
    assert len(list((trial.folder.path / "checkpoints").iterdir())) == 2


def test_one_of_the_same_step_replaces_the_other(trial: ClaimedTrial) -> None:
    keep(trial, 3)
    assert (keep(trial, 3, b"other") / "model").read_bytes() == b"other"


def test_an_index_cut_at_any_byte_makes_it_fall_back_to_the_one_before(trial: ClaimedTrial) -> None:
    keep(trial, 1)
    index = keep(trial, 2) / "index.json"
    whole = index.read_bytes()
    for length in range(len(whole) - 1):  # without its last line break it is whole
        index.write_bytes(whole[:length])
        assert [one.step for one in trial.checkpoints()] == [1]
    index.write_bytes(whole)
    assert [one.step for one in trial.checkpoints()] == [2, 1]


@pytest.mark.parametrize("content", [b"weight", b"weights!", b"weighTs", None])
def test_a_file_that_is_shorter_longer_changed_or_gone_makes_it_fall_back(
    trial: ClaimedTrial, content: bytes | None
) -> None:
    keep(trial, 1)
    file = keep(trial, 2) / "model"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert [one.step for one in trial.checkpoints()] == [1]


def test_one_whose_filling_fails_leaves_nothing(trial: ClaimedTrial) -> None:
    keep(trial, 1)

    def fill() -> None:
        with trial.new_checkpoint(2) as place:
            (place / "model").write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert [path.name for path in (trial.folder.path / "checkpoints").iterdir()] == ["step-00000001"]


def test_what_a_killed_process_was_filling_is_no_checkpoint_and_goes_with_the_next(trial: ClaimedTrial) -> None:
    keep(trial, 1)
    left = trial.folder.path / "checkpoints" / ".step-00000002.abc.tmp"
    left.mkdir()
    (left / "model").write_bytes(b"half")
    assert [one.step for one in trial.checkpoints()] == [1]
    keep(trial, 3)
    assert not left.exists()
