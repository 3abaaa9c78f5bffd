"""Copies of trials: the original follows the copy at every step, and an incomplete transfer has no effect."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_cli.records import CurvePoint, ExampleLoss, TrialState, TrialStatus
from neftune_cli.store import LeasedTrial, TrialFolder, copies
from neftune_cli.store.copies import (
    ChangedFiles,
    batches,
    files_to_resume,
    receive,
    shared_disk_probe,
    work_folder,
    write_copy,
)
from tests.finished_trials import NoSpec, start_trial, trial_record

LOSS = ExampleLoss(split="held-out", epoch=1, example="e", cluster="c", loss=1.0, tokens=3)
WEIGHTS = bytes(range(256)) * 5


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIECE_BYTES", 100)


@pytest.fixture
def original(tmp_path: Path) -> LeasedTrial:
    """Return a trial that was lost after its first checkpoint."""
    one = start_trial(TrialFolder(tmp_path / "original"), "x")
    one.folder.log_path.write_text("attempt 1\n" * 30)
    one.append_metrics(point(1))
    write_checkpoint(one, 1)
    return one


@pytest.fixture
def copy(original: LeasedTrial, tmp_path: Path) -> LeasedTrial:
    folder = TrialFolder(tmp_path / "sweep" / "trials" / "copy")
    sent = list(batches(files_to_resume(original.folder)))
    assert len(sent) > 3
    write_copy(folder, (piece for batch in sent for piece in batch))
    leased = folder.acquire_lease(lease_seconds=60)
    assert leased
    return leased


@pytest.fixture
def changed(copy: LeasedTrial, tmp_path: Path) -> ChangedFiles:
    return ChangedFiles(copy.folder, tmp_path / "staging")


def point(step: int) -> CurvePoint:
    return CurvePoint(step=step, epoch=0.5, train_loss=0.25, learning_rate=1e-3, tokens=10)


def write_checkpoint(trial: LeasedTrial, step: int) -> None:
    with trial.new_checkpoint(step) as folder:
        (folder / "weights").write_bytes(WEIGHTS + bytes([step]))
        (folder / "empty").write_bytes(b"")


def files(folder: TrialFolder) -> dict[str, bytes]:
    found = (path for path in folder.path.rglob("*") if path.is_file() and not path.name.startswith("lease-"))
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in found}


def test_copy_has_what_a_trial_resumes_from(original: LeasedTrial, copy: LeasedTrial) -> None:
    expected = files(original.folder)
    expected.pop("spec.json", None)  # written by the start of every attempt
    assert files(copy.folder) == expected
    assert [one.step for one in copy.intact_checkpoints()] == [1]


def test_original_follows_the_copy(original: LeasedTrial, copy: LeasedTrial, changed: ChangedFiles) -> None:
    def both_are_equal() -> bool:
        receive(original, changed.so_far())
        newest = (
            [one.step for one in original.intact_checkpoints()][:1],
            [one.step for one in copy.intact_checkpoints()][:1],
        )
        own = {name: content for name, content in files(original.folder).items() if "step-" not in name}
        others = {name: content for name, content in files(copy.folder).items() if "step-" not in name}
        return newest[0] == newest[1] and own == others

    copy.start(NoSpec(), TrialStatus(trial="x", state=TrialState.RUNNING, attempts=2))
    copy.rewrite_metrics([point(1)])
    assert both_are_equal()
    copy.append_metrics(point(2))
    with copy.folder.log_path.open("a") as log:
        log.write("further lines\n" * 20)
    assert both_are_equal()
    for step in (2, 3, 4):
        write_checkpoint(copy, step)
    assert both_are_equal()
    assert [one.step for one in original.intact_checkpoints()] == [4, 1]
    copy.drop_checkpoints()
    copy.rewrite_metrics([])
    assert both_are_equal()
    assert not original.intact_checkpoints()
    write_checkpoint(copy, 1)
    assert both_are_equal()


def test_unchanged_files_are_not_sent_again(original: LeasedTrial, copy: LeasedTrial, changed: ChangedFiles) -> None:
    write_checkpoint(copy, 2)
    receive(original, changed.so_far())
    assert list(changed.so_far()) == []


def test_results_arrive_with_a_valid_record(original: LeasedTrial, copy: LeasedTrial, changed: ChangedFiles) -> None:
    copy.append_metrics(point(2))
    with copy.new_model() as folder:
        (folder / "model.safetensors").write_bytes(WEIGHTS)
    copy.finish(trial_record("x", "alpha=5", 0), [LOSS], [])
    assert list(changed.so_far())[-1].unit == "state.json"
    assert original.intact_checkpoints()  # removed only after the record
    receive(original, changed.at_the_end())
    assert files(original.folder) == files(copy.folder) | {"spec.json": files(original.folder)["spec.json"]}
    assert original.folder.record() == copy.folder.record() is not None
    assert not original.intact_checkpoints()


def test_transfer_that_ends_at_any_piece_leaves_a_trial_that_resumes_or_is_complete(
    tmp_path: Path, original: LeasedTrial, copy: LeasedTrial, changed: ChangedFiles
) -> None:
    write_checkpoint(copy, 2)
    so_far = list(changed.so_far())
    copy.finish(trial_record("x", "alpha=5", 0), [LOSS], [])
    pieces = so_far + list(changed.at_the_end())
    complete = [end for end, piece in enumerate(pieces, 1) if piece.unit == "record.json" and piece.is_last]
    for end in range(len(pieces)):
        one = start_trial(TrialFolder(tmp_path / f"cut-{end}"), "x")
        write_checkpoint(one, 1)
        try:
            receive(one, pieces[:end])
        except EOFError:
            assert not pieces[end - 1].is_last
        has_new = any(piece.unit.endswith("step-00000002") and piece.is_last for piece in pieces[:end])
        assert (one.folder.record() is not None) == (end >= complete[0])
        if end < complete[0]:
            assert [each.step for each in one.intact_checkpoints()] == ([2, 1] if has_new else [1])
        one.release()
        assert not list(one.folder.path.rglob(".*.tmp"))


def test_mark_is_seen_during_its_block_only(tmp_path: Path) -> None:
    with shared_disk_probe(tmp_path) as path:
        assert path.exists()
        assert path.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_work_folders_of_dead_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / "neftune-trial-dead"
    dead.mkdir()
    (dead / "lock").touch()
    with work_folder() as alive, work_folder() as second:
        assert not dead.exists()
        assert alive.exists()
        assert alive != second
    assert not list(tmp_path.iterdir())


def test_copy_without_any_file_is_a_new_trial(tmp_path: Path) -> None:
    empty = TrialFolder(tmp_path / "a")
    empty.path.mkdir()
    assert list(files_to_resume(empty)) == []
    write_copy(TrialFolder(tmp_path / "b"), _nothing())
    assert files(TrialFolder(tmp_path / "b")) == {}


def _nothing() -> Iterator[copies.FilePiece]:
    yield from ()
