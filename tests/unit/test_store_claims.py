"""Claims: one holder at a time, taken over from the dead and the silent alone, and never written against."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neftune_cli.errors import LeaseLost, UsageError
from neftune_cli.records import CurvePoint, TrialState, TrialStatus
from neftune_cli.store import TrialFolder, files
from neftune_cli.store import leases as claims
from neftune_cli.store.locks import machine
from tests.finished_trials import NoSpec, begin, leave
from tests.unit.test_store import record

HOLD = """
import sys, time
from pathlib import Path
from neftune_cli.errors import LeaseLost
from neftune_cli.store import TrialFolder
claimed = TrialFolder(Path(sys.argv[1])).claim(lease_seconds=float(sys.argv[2]))
print("held" if claimed else "taken", flush=True)
try:
    while True:
        time.sleep(0.05)
        claimed.rewrite_metrics([])
except LeaseLost:
    sys.exit(7)
"""
WROTE_NOTHING = 7


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return TrialFolder(tmp_path / "alpha=5,seed=0-x")


@contextmanager
def other_process(folder: TrialFolder, lease_seconds: float = 120.0) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the claim."""
    command = [sys.executable, "-c", HOLD, str(folder.path), str(lease_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def numbers(folder: TrialFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_a_claim_is_exclusive_until_it_is_released(folder: TrialFolder) -> None:
    first = folder.claim()
    assert first is not None
    assert folder.claim() is None
    assert folder.is_claimed()
    first.release()
    assert not folder.is_claimed()
    assert numbers(folder) == []
    second = folder.claim()
    assert second is not None
    second.release()


def test_the_claim_of_a_killed_process_is_free_at_once(folder: TrialFolder) -> None:
    with other_process(folder) as process:
        assert folder.claim() is None
        process.kill()
        process.wait()
        claimed = folder.claim()
        assert claimed is not None
        assert numbers(folder) == ["claim-1.json", "claim-2.json"]
        claimed.release()
    assert numbers(folder) == []


def test_a_silent_process_loses_its_claim_and_may_not_write(folder: TrialFolder) -> None:
    with other_process(folder, lease_seconds=0.5) as process:
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while (claimed := folder.claim()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
        assert process.wait() == WROTE_NOTHING
        claimed.release()


def test_signs_of_life_keep_a_claim(folder: TrialFolder) -> None:
    with other_process(folder, lease_seconds=0.5):
        since = time.monotonic()
        while time.monotonic() - since < 1.5:
            assert folder.claim() is None
            time.sleep(0.05)


def test_the_loser_of_a_takeover_notices_at_every_write(folder: TrialFolder) -> None:
    loser = begin(folder, "x")
    loser.rewrite_metrics([])
    before = (folder.path / "state.json").read_bytes()
    (folder.path / "claim-2.json").write_bytes((folder.path / "claim-1.json").read_bytes())
    for write in (
        lambda: loser.append_metrics(CurvePoint(step=1, epoch=1.0)),
        lambda: loser.rewrite_metrics([]),
        loser.drop_checkpoints,
        lambda: loser.new_checkpoint(1),
        lambda: loser.begin(NoSpec(), TrialStatus(trial="x", state=TrialState.RUNNING)),
        lambda: loser.report(TrialStatus(trial="x", state=TrialState.RUNNING)),
        lambda: loser.finish(record("alpha=5", 5.0, 0), [], []),
        lambda: loser.end(TrialState.FAILED, "It broke."),
        loser.tidy,
        loser.new_model().__enter__,
    ):
        with pytest.raises(LeaseLost, match="taken over"):
            write()
    loser.release()
    assert (folder.path / "claim-2.json").exists()  # what the winner has stays its own
    assert (folder.path / "state.json").read_bytes() == before
    assert (folder.path / "metrics.jsonl").read_bytes() == b""


def test_a_checkpoint_that_was_being_filled_when_the_claim_was_lost_never_appears(folder: TrialFolder) -> None:
    loser = begin(folder, "x")

    def fill() -> None:
        with loser.new_checkpoint(3) as place:
            (place / "weights").write_bytes(b"w")
            (folder.path / "claim-2.json").write_bytes((folder.path / "claim-1.json").read_bytes())

    with pytest.raises(LeaseLost):
        fill()
    assert list((folder.path / "checkpoints").iterdir()) == []
    loser.release()


def test_a_claim_from_another_machine_holds_until_it_has_been_silent_here_for_its_lease(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.path.mkdir()
    content = claims._content(lease_seconds=100.0).replace(machine(), "elsewhere boot")
    (folder.path / "claim-7.json").write_text(content)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(5):  # gives signs of life, whatever its clock says
        now[0] += 90
        os.utime(folder.path / "claim-7.json", (0, now[0] * -1))
        assert folder.claim() is None
    now[0] += 90
    assert folder.claim() is None
    now[0] += 20
    claimed = folder.claim()
    assert claimed is not None
    assert "claim-8.json" in numbers(folder)
    claimed.release()


@pytest.mark.parametrize("content", [b"", b"{", b'{"host": "a"}', b"\xff\xfe", b"null"])
def test_a_claim_that_cant_be_read_is_nobodys(folder: TrialFolder, content: bytes) -> None:
    folder.path.mkdir()
    (folder.path / "claim-1.json").write_bytes(content)
    claimed = folder.claim()
    assert claimed is not None
    claimed.release()


def test_a_claim_of_a_newer_version_is_refused_with_a_word(folder: TrialFolder) -> None:
    folder.path.mkdir()
    (folder.path / "claim-1.json").write_text('{"schema_version": 99}')
    with pytest.raises(UsageError, match="newer version"):
        folder.claim()


def test_of_many_that_claim_at_once_one_succeeds(folder: TrialFolder) -> None:
    barrier, held = threading.Barrier(16), []

    def contend() -> None:
        mine = TrialFolder(folder.path)
        barrier.wait()
        if claimed := mine.claim():
            held.append(claimed)

    threads = [threading.Thread(target=contend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    held[0].release()


def test_where_there_are_no_hard_links_a_claim_is_exclusive_all_the_same(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    first = folder.claim()
    assert first is not None
    assert folder.claim() is None
    first.release()
    assert numbers(folder) == []


def test_giving_a_claim_back_leaves_that_of_whoever_has_taken_over_meanwhile(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loser = folder.claim()
    assert loser is not None
    check = loser._held.check

    def be_overtaken() -> None:
        check()
        (folder.path / "claim-2.json").write_bytes((folder.path / "claim-1.json").read_bytes())

    monkeypatch.setattr(loser._held, "check", be_overtaken)
    loser.release()
    assert numbers(folder) == ["claim-2.json"]


def test_a_claim_that_is_being_written_survives_the_beginning_of_the_trial(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have seen no claim; one has linked its own, and begins, before the other has."""
    link, late = files.link, []

    def link_after_the_other_has_begun(temporary: Path, path: Path) -> None:
        monkeypatch.setattr(claims, "link", link)
        late.append(begin(folder, "x"))
        link(temporary, path)

    monkeypatch.setattr(claims, "link", link_after_the_other_has_begun)
    assert TrialFolder(folder.path).claim() is None
    late[0].release()


def test_a_late_loser_does_not_clear_what_the_winner_has_finished(folder: TrialFolder) -> None:
    leave(folder, record("alpha=5", 5.0, 0))
    with folder.claim() as late, pytest.raises(LeaseLost, match="has finished"):  # type: ignore[union-attr]
        late.begin(NoSpec(), TrialStatus(trial="x", state=TrialState.RUNNING))
    assert folder.record() is not None


def test_a_late_loser_does_not_remove_the_checkpoints_of_the_winner(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loser = begin(folder, "x")

    def overtake(synced: Path) -> None:
        if synced.name != "checkpoints":
            return
        (folder.path / "claim-2.json").write_bytes((folder.path / "claim-1.json").read_bytes())
        (folder.path / "checkpoints" / "step-00000009").mkdir()

    monkeypatch.setattr("neftune_cli.store.files.sync_folder", overtake)
    with pytest.raises(LeaseLost), loser.new_checkpoint(3) as place:
        (place / "weights").touch()
    assert (folder.path / "checkpoints" / "step-00000009").exists()
    loser.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_claim_that_may_not_be_read_is_somebodys(folder: TrialFolder) -> None:
    folder.path.mkdir()
    (folder.path / "claim-1.json").touch(0)
    assert folder.claim() is None


def test_a_claim_on_a_disk_that_fails_is_somebodys(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.path.mkdir()
    (folder.path / "claim-1.json").touch()

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    assert folder.claim() is None


def test_a_folder_that_has_vanished_is_not_built_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TrialFolder(tmp_path / "gone" / "trials" / "alpha=0,seed=0-x").claim()
    assert not (tmp_path / "gone").exists()
