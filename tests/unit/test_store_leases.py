"""Leases: one holder at a time; taken over only from dead or silent processes; no writes after a loss."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import LeaseLost, UsageError
from neftune_cli.records import CurvePoint, TrialState, TrialStatus
from neftune_cli.store import SweepFolder, TrialFolder, files, leases
from neftune_cli.store.temporary_files import machine
from tests.finished_trials import NoSpec, start_trial, write_trial
from tests.unit.test_store import record

HOLD = """
import sys, time
from pathlib import Path
from neftune_cli.errors import LeaseLost
from neftune_cli.store import TrialFolder
leased = TrialFolder(Path(sys.argv[1])).acquire_lease(lease_seconds=float(sys.argv[2]))
print("acquired" if leased else "refused", flush=True)
try:
    while True:
        time.sleep(0.05)
        leased.rewrite_metrics([])
except LeaseLost:
    sys.exit(7)
"""
LEASE_LOST_EXIT_CODE = 7


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return TrialFolder(tmp_path / "alpha=5,seed=0-x")


@contextmanager
def other_process(folder: TrialFolder, lease_seconds: float = 120.0) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the lease and writes continually."""
    command = [sys.executable, "-c", HOLD, str(folder.path), str(lease_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "acquired\n"
        try:
            yield process
        finally:
            process.kill()


def file_names(folder: TrialFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_lease_is_exclusive_until_released(folder: TrialFolder) -> None:
    first = folder.acquire_lease(lease_seconds=120)
    assert first is not None
    assert folder.acquire_lease(lease_seconds=120) is None
    assert folder.is_leased()
    first.release()
    assert not folder.is_leased()
    assert file_names(folder) == []
    second = folder.acquire_lease(lease_seconds=120)
    assert second is not None
    second.release()


def test_lease_of_killed_process_can_be_taken_over_at_once(folder: TrialFolder) -> None:
    with other_process(folder) as process:
        assert folder.acquire_lease(lease_seconds=120) is None
        process.kill()
        process.wait()
        leased = folder.acquire_lease(lease_seconds=120)
        assert leased is not None
        assert file_names(folder) == ["lease-1.json", "lease-2.json"]
        leased.release()
    assert file_names(folder) == []


def test_process_without_heartbeat_loses_lease_and_cannot_write(folder: TrialFolder) -> None:
    with other_process(folder, lease_seconds=0.5) as process:
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while (leased := folder.acquire_lease(lease_seconds=120)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
        assert process.wait() == LEASE_LOST_EXIT_CODE
        leased.release()


def test_heartbeats_keep_lease(folder: TrialFolder) -> None:
    with other_process(folder, lease_seconds=0.5):
        since = time.monotonic()
        while time.monotonic() - since < 1.5:
            assert folder.acquire_lease(lease_seconds=120) is None
            time.sleep(0.05)


def test_every_write_raises_after_takeover(folder: TrialFolder) -> None:
    loser = start_trial(folder, "x")
    loser.rewrite_metrics([])
    before = (folder.path / "state.json").read_bytes()
    (folder.path / "lease-2.json").write_bytes((folder.path / "lease-1.json").read_bytes())
    for write in (
        lambda: loser.append_metrics(CurvePoint(step=1, epoch=1.0)),
        lambda: loser.rewrite_metrics([]),
        loser.drop_checkpoints,
        lambda: loser.new_checkpoint(1),
        lambda: loser.start(NoSpec(), TrialStatus(trial="x", state=TrialState.RUNNING)),
        lambda: loser.report(TrialStatus(trial="x", state=TrialState.RUNNING)),
        lambda: loser.finish(record("alpha=5", 5.0, 0), [], []),
        lambda: loser.end(TrialState.FAILED, "It broke."),
        loser.remove_leftovers,
        loser.new_model,
    ):
        with pytest.raises(LeaseLost, match="taken over"):
            write()
    loser.release()
    assert (folder.path / "lease-2.json").exists()  # the new lease is not touched
    assert (folder.path / "state.json").read_bytes() == before
    assert (folder.path / "metrics.jsonl").read_bytes() == b""


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_removed_lease_file_is_named_and_not_called_a_takeover(folder: TrialFolder, is_replaced: bool) -> None:
    leased = start_trial(folder, "x")
    path = folder.path / "lease-1.json"
    content = path.read_bytes()
    path.unlink()
    if is_replaced:
        path.write_bytes(content)
    message = f"The lease file {path} was removed or replaced while this process ran the trial."
    with pytest.raises(LeaseLost, match=re.escape(message)):
        leased.append_metrics(CurvePoint(step=1, epoch=1.0))
    leased.release()


def test_checkpoint_does_not_appear_if_lease_is_lost_while_writing(folder: TrialFolder) -> None:
    loser = start_trial(folder, "x")

    def fill() -> None:
        with loser.new_checkpoint(3) as place:
            (place / "weights").write_bytes(b"w")
            (folder.path / "lease-2.json").write_bytes((folder.path / "lease-1.json").read_bytes())

    with pytest.raises(LeaseLost):
        fill()
    assert list((folder.path / "checkpoints").iterdir()) == []
    loser.release()


def test_lease_of_another_machine_expires_by_the_clock_of_the_observer(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.path.mkdir()
    content = leases.lease_text(lease_seconds=100.0).replace(machine(), "elsewhere boot")
    (folder.path / "lease-7.json").write_text(content)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(5):  # heartbeats of a clock that runs backwards
        now[0] += 90
        os.utime(folder.path / "lease-7.json", (0, now[0] * -1))
        assert folder.acquire_lease(lease_seconds=120) is None
    now[0] += 90
    assert folder.acquire_lease(lease_seconds=120) is None
    now[0] += 20
    leased = folder.acquire_lease(lease_seconds=120)
    assert leased is not None
    assert "lease-8.json" in file_names(folder)
    leased.release()


@pytest.mark.parametrize("content", [b"", b"{", b'{"host": "a"}', b"\xff\xfe", b"null"])
def test_invalid_lease_has_no_holder(folder: TrialFolder, content: bytes) -> None:
    folder.path.mkdir()
    (folder.path / "lease-1.json").write_bytes(content)
    leased = folder.acquire_lease(lease_seconds=120)
    assert leased is not None
    leased.release()


def test_lease_of_newer_version_raises_usage_error(folder: TrialFolder) -> None:
    folder.path.mkdir()
    (folder.path / "lease-1.json").write_text('{"schema_version": 99}')
    with pytest.raises(UsageError, match="newer version"):
        folder.acquire_lease(lease_seconds=120)


def test_one_of_many_concurrent_attempts_acquires_the_lease(folder: TrialFolder) -> None:
    barrier, held = threading.Barrier(16), []

    def contend() -> None:
        mine = TrialFolder(folder.path)
        barrier.wait()
        if leased := mine.acquire_lease(lease_seconds=120):
            held.append(leased)

    threads = [threading.Thread(target=contend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    held[0].release()


def test_lease_is_exclusive_without_hard_links(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    first = folder.acquire_lease(lease_seconds=120)
    assert first is not None
    assert folder.acquire_lease(lease_seconds=120) is None
    first.release()
    assert file_names(folder) == []


def test_release_does_not_remove_lease_of_new_holder(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    loser = folder.acquire_lease(lease_seconds=120)
    assert loser is not None
    check = loser._held.check

    def check_then_lose_lease() -> None:
        check()
        (folder.path / "lease-2.json").write_bytes((folder.path / "lease-1.json").read_bytes())

    monkeypatch.setattr(loser._held, "check", check_then_lose_lease)
    loser.release()
    assert file_names(folder) == ["lease-2.json"]


def test_start_of_trial_keeps_temporary_file_of_concurrent_lease(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes find no lease. One acquires it and starts the trial before the other links its own."""
    link, late = files.link, []

    def link_after_other_has_started(temporary: Path, path: Path) -> None:
        monkeypatch.setattr(leases, "link", link)
        late.append(start_trial(folder, "x"))
        link(temporary, path)

    monkeypatch.setattr(leases, "link", link_after_other_has_started)
    assert TrialFolder(folder.path).acquire_lease(lease_seconds=120) is None
    late[0].release()


def test_late_start_does_not_clear_finished_trial(folder: TrialFolder) -> None:
    write_trial(folder, record("alpha=5", 5.0, 0))
    with folder.acquire_lease(lease_seconds=120) as late, pytest.raises(LeaseLost, match="has finished"):  # type: ignore[union-attr]
        late.start(NoSpec(), TrialStatus(trial="x", state=TrialState.RUNNING))
    assert folder.record() is not None


def test_loser_does_not_remove_checkpoints_of_new_holder(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    loser = start_trial(folder, "x")

    def take_over(synced: Path) -> None:
        if synced.name != "checkpoints":
            return
        (folder.path / "lease-2.json").write_bytes((folder.path / "lease-1.json").read_bytes())
        (folder.path / "checkpoints" / "step-00000009").mkdir()

    monkeypatch.setattr("neftune_cli.store.files.sync_folder", take_over)
    with pytest.raises(LeaseLost), loser.new_checkpoint(3) as place:
        (place / "weights").touch()
    assert (folder.path / "checkpoints" / "step-00000009").exists()
    loser.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_unreadable_lease_has_a_holder(folder: TrialFolder) -> None:
    folder.path.mkdir()
    (folder.path / "lease-1.json").touch(0)
    assert folder.acquire_lease(lease_seconds=120) is None


def test_lease_on_failing_disk_has_a_holder(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.path.mkdir()
    (folder.path / "lease-1.json").touch()

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    assert folder.acquire_lease(lease_seconds=120) is None


def test_removed_sweep_folder_is_not_recreated(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TrialFolder(tmp_path / "gone" / "trials" / "alpha=0,seed=0-x").acquire_lease(lease_seconds=120)
    assert not (tmp_path / "gone").exists()


def test_lease_file_of_version_0_1_does_not_block_and_is_removed(folder: TrialFolder) -> None:
    folder.path.mkdir()
    (folder.path / "claim-1.json").write_text("any content")
    assert not folder.is_leased()
    with start_trial(folder, "x"):
        assert file_names(folder) == ["lease-1.json", "spec.json", "state.json"]


def test_lease_file_of_version_0_1_is_removed_from_finished_trial(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]}))
    folder = sweep.trial("x", "alpha=5", 0)
    write_trial(folder, record("alpha=5", 5.0, 0))
    (folder.path / "claim-3.json").write_text("{}")
    sweep.remove_leftovers(lease_seconds=120)
    assert not folder.has_leftovers()
    assert folder.record() is not None


def test_lease_file_of_version_0_1_that_cannot_be_removed_is_no_error(folder: TrialFolder) -> None:
    (folder.path / "claim-1.json").mkdir(parents=True)
    start_trial(folder, "x").release()
    assert (folder.path / "claim-1.json").exists()
