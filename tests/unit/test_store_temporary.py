"""Files on their way: those that a dead process left are removed, those that somebody writes are not."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from neftune_cli.store import locks as temporary
from neftune_cli.store import write_atomically
from neftune_cli.store.locks import FORGOTTEN_SECONDS, is_temporary, open_temporary, remove_abandoned, writing

DIE_WRITING = """
import os, sys
from pathlib import Path
from neftune_cli.store.locks import open_temporary
print(open_temporary(Path(sys.argv[1]))[0], flush=True)
os.kill(os.getpid(), 9)
"""


def left_by_a_dead_process(path: Path) -> Path:
    ended = subprocess.run([sys.executable, "-c", DIE_WRITING, str(path)], capture_output=True, text=True, check=False)
    return Path(ended.stdout.strip())


def test_what_a_dead_process_was_writing_is_removed(tmp_path: Path) -> None:
    left = left_by_a_dead_process(tmp_path / "loss.csv")
    assert is_temporary(left)
    assert left.exists()
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_writes_stays(tmp_path: Path) -> None:
    with writing(tmp_path / "loss.csv") as (on_its_way, _):
        remove_abandoned(tmp_path)
        assert list(tmp_path.iterdir()) == [on_its_way]


def test_what_another_machine_writes_stays_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_machine_tag", lambda: "elsewhere")
    path, file = open_temporary(tmp_path / "loss.csv")
    os.close(file)
    monkeypatch.undo()
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    before = path.stat().st_mtime - FORGOTTEN_SECONDS - 5
    os.utime(path, (before, before))
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_files_and_folders_stay(tmp_path: Path) -> None:
    (tmp_path / ".profile").touch()
    (tmp_path / "notes.tmp").touch()
    (tmp_path / ".mine.tmp").mkdir()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".profile", "notes.tmp", ".mine.tmp"}


def test_nobody_loses_a_file_to_somebody_who_tidies_at_the_same_time(tmp_path: Path) -> None:
    done = threading.Event()

    def tidy() -> None:
        while not done.is_set():
            remove_abandoned(tmp_path)

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        for number in range(300):
            write_atomically(tmp_path / "table.csv", str(number), durable=False)
    finally:
        done.set()
        thread.join()
    assert (tmp_path / "table.csv").read_text() == "299"
    assert len(list(tmp_path.iterdir())) == 1
