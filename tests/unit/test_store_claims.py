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

from neftune_cli.errors import ClaimLost, UsageError
from neftune_cli.records import CurvePoint
from neftune_cli.store import TrialFolder, claims
from tests.finished_trials import begin

HOLD = """
import sys, time
from pathlib import Path
from neftune_cli.store import TrialFolder
claimed = TrialFolder(Path(sys.argv[1])).claim(lease_seconds=float(sys.argv[2]))
print("held" if claimed else "taken", flush=True)
time.sleep(60)
"""


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
    ):
        with pytest.raises(ClaimLost, match="taken over"):
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

    with pytest.raises(ClaimLost):
        fill()
    assert list((folder.path / "checkpoints").iterdir()) == []
    loser.release()


def test_a_claim_from_another_machine_holds_until_it_has_been_silent_here_for_its_lease(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.path.mkdir()
    content = claims._content(lease_seconds=100.0).replace(claims.machine(), "elsewhere boot")
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
