"""Files on their way: each has a name of its own until it is whole, and what a dead process left of it is told apart.

The name says on which machine it is written, and the file is locked as long as that goes on. So whoever finds one on
the same machine knows whether anybody still writes it; of another machine's, only for how long it was left alone.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

FORGOTTEN_SECONDS = 3600.0


def temporary_beside(path: Path) -> Path:
    """Return a name for a file or folder that is being written; nobody else has it."""
    return path.with_name(f".{path.name}.{_machine_tag()}-{uuid.uuid4().hex[:12]}.tmp")


def is_temporary(path: Path) -> bool:
    """Return whether a file has a name as `temporary_beside` gives it."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def open_temporary(path: Path) -> tuple[Path, int]:
    """Return a new file beside a path, and its descriptor, which holds its lock."""
    while True:
        temporary = temporary_beside(path)
        file = create_locked(temporary)
        if is_name_of(temporary, file):
            return temporary, file
        os.close(file)  # somebody took it for a dead process's before it was locked


@contextmanager
def writing(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield a new file beside a path, and its descriptor; it is removed if anything goes wrong."""
    temporary, file = open_temporary(path)
    try:
        yield temporary, file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of a folder that nobody writes any more; one that can't be removed stays."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if path.is_dir():
                continue
            if _is_of_this_machine(path):
                remove_unlocked(path)
            elif _clock_of(folder) - path.stat().st_mtime > FORGOTTEN_SECONDS:
                path.unlink()


def remove_unfinished_folders(folder: Path) -> None:
    """Remove the temporary folders in a folder, which only the caller may write to."""
    for path in folder.glob(".*.tmp/"):
        shutil.rmtree(path, ignore_errors=True)


def _is_of_this_machine(path: Path) -> bool:
    return path.name.rpartition("-")[0].endswith(_machine_tag())


def _clock_of(folder: Path) -> float:
    """Return what time it is by the clock that the files of a folder are stamped with."""
    temporary, file = open_temporary(folder / "clock")
    try:
        return os.fstat(file).st_mtime
    finally:
        temporary.unlink(missing_ok=True)
        os.close(file)


@cache
def _machine_tag() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def machine() -> str:
    """Return what tells this machine, since it was started, from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = f"{uuid.getnode():x}"
    return f"{socket.gethostname()} {boot}"


def create_locked(path: Path) -> int:
    """Create a file and lock it for as long as the descriptor that is returned is open.

    Raises:
        FileExistsError: there is one.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    with suppress(OSError):  # there are file systems without locks
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def is_locked(path: Path) -> bool:
    """Return whether a process of this machine holds the lock of a file; if nobody can tell, one does."""
    with _tried(path, fcntl.LOCK_SH) as is_free:
        return not is_free


def remove_unlocked(path: Path) -> None:
    """Remove a file unless a process of this machine holds its lock; nobody can take it meanwhile."""
    with _tried(path, fcntl.LOCK_EX) as is_free:
        if is_free:
            path.unlink(missing_ok=True)


@contextmanager
def _tried(path: Path, how: int) -> Iterator[bool]:
    """Yield whether the lock of a file could be had, and hold it meanwhile; the lock of no file can."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    try:
        yield _is_taken(file, how)
    finally:
        os.close(file)


def _is_taken(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:  # held, or the file system has no locks
        return False
    return True


def is_name_of(path: Path, file: int) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except OSError:
        return False
