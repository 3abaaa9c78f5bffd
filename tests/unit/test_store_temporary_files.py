"""Temporary files for atomic writes: those of dead processes are removed, those of living processes are kept."""

import os
import subprocess
import sys
import threading
from importlib.util import find_spec, module_from_spec
from pathlib import Path

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.store import SweepFolder, temporary_files, write_atomically
from neftune_cli.store.temporary_files import (
    ABANDONED_SECONDS,
    create_temporary_file,
    is_temporary,
    remove_abandoned_files,
    temporary_file,
)

DIE_WRITING = """
import os, sys
from pathlib import Path
from neftune_cli.store.temporary_files import create_temporary_file
print(create_temporary_file(Path(sys.argv[1]))[0], flush=True)
os.kill(os.getpid(), 9)
"""


def left_by_dead_process(path: Path) -> Path:
    """Return a temporary file whose writer was killed."""
    ended = subprocess.run([sys.executable, "-c", DIE_WRITING, str(path)], capture_output=True, text=True, check=False)
    return Path(ended.stdout.strip())


def test_temporary_file_of_dead_process_is_removed(tmp_path: Path) -> None:
    left = left_by_dead_process(tmp_path / "loss.csv")
    assert is_temporary(left)
    assert left.exists()
    remove_abandoned_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_temporary_file_of_living_process_is_kept(tmp_path: Path) -> None:
    with temporary_file(tmp_path / "loss.csv") as (temporary, _):
        remove_abandoned_files(tmp_path)
        assert list(tmp_path.iterdir()) == [temporary]


def test_temporary_file_of_another_machine_is_kept_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_files, "_machine_tag", lambda: "elsewhere")
    path, file = create_temporary_file(tmp_path / "loss.csv")
    os.close(file)
    monkeypatch.undo()
    remove_abandoned_files(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    before = path.stat().st_mtime - ABANDONED_SECONDS - 5
    os.utime(path, (before, before))
    remove_abandoned_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_files_and_folders_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".profile").touch()
    (tmp_path / "notes.tmp").touch()
    (tmp_path / ".mine.tmp").mkdir()
    remove_abandoned_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".profile", "notes.tmp", ".mine.tmp"}


def test_concurrent_removal_does_not_break_atomic_writes(tmp_path: Path) -> None:
    done = threading.Event()

    def remove_continually() -> None:
        while not done.is_set():
            remove_abandoned_files(tmp_path)

    thread = threading.Thread(target=remove_continually)
    thread.start()
    try:
        for number in range(300):
            write_atomically(tmp_path / "table.csv", str(number), durable=False)
    finally:
        done.set()
        thread.join()
    assert (tmp_path / "table.csv").read_text() == "299"
    assert len(list(tmp_path.iterdir())) == 1


def test_system_without_posix_locks_raises_usage_error_at_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # makes the import fail, as on Windows
    spec = find_spec("neftune_cli.store.temporary_files")
    assert spec is not None
    assert spec.loader is not None
    without_locks = module_from_spec(spec)
    spec.loader.exec_module(without_locks)
    with pytest.raises(UsageError, match=r"needs POSIX file locks.* On Windows, use WSL"):
        without_locks.create_temporary_file(tmp_path / "loss.csv")
    monkeypatch.setattr(temporary_files, "fcntl", without_locks.fcntl)
    with pytest.raises(UsageError, match=r"needs POSIX file locks.* On Windows, use WSL"):
        SweepFolder(tmp_path)
    assert list(tmp_path.iterdir()) == []
