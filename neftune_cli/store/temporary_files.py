"""Temporary files for atomic writes, and the file locks that show whether their writers are alive.

The name of a temporary file contains a tag of the machine that writes it, and its writer holds a lock on it. A process
on the same machine can therefore test whether the writer is alive. A file of another machine is judged by its age.
"""

import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from neftune_cli.errors import Problem, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ABANDONED_SECONDS = 3600.0
"""Age in seconds from which a temporary file of another machine counts as abandoned."""


def require_posix() -> None:
    """Check that the system has POSIX file locks.

    Raises:
        UsageError: it has none, as on Windows.
    """
    if fcntl is None:
        raise UsageError(
            Problem("neftune needs POSIX file locks, which this system does not have.", "On Windows, use WSL.")
        )


def temporary_path(path: Path) -> Path:
    """Return a unique name, in the same folder, for a file or folder during an atomic write."""
    return path.with_name(f".{path.name}.{_machine_tag()}-{uuid.uuid4().hex[:12]}.tmp")


def is_temporary(path: Path) -> bool:
    """Return whether the name of a file has the form of `temporary_path`."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def create_temporary_file(path: Path) -> tuple[Path, int]:
    """Create a locked temporary file for a path. Return its name, and the descriptor that holds the lock."""
    while True:
        temporary = temporary_path(path)
        file = lock_new_file(temporary)
        if is_path_of(temporary, file):
            return temporary, file
        os.close(file)  # another process removed the file as abandoned before it was locked


def lock_new_file(path: Path) -> int:
    """Create a file, and lock it for as long as the returned descriptor is open.

    Raises:
        FileExistsError: the file exists.
        UsageError: the system has no file locks.
    """
    require_posix()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    with suppress(OSError):  # some file systems have no locks
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Let one process at a time run the block for a folder. On a file system without locks, all processes run it."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def temporary_file(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield the name and the descriptor of a temporary file for a path. Remove the file after an exception."""
    temporary, file = create_temporary_file(path)
    try:
        yield temporary, file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def remove_abandoned_files(folder: Path) -> None:
    """Remove the temporary files of dead processes from a folder. Files that cannot be removed stay."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if path.is_dir():
                continue
            if _is_of_this_machine(path):
                _remove_unlocked(path)
            elif _file_system_time(folder) - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()


def remove_temporary_folders(folder: Path) -> None:
    """Remove the temporary folders from a folder in which only the caller writes."""
    for path in folder.glob(".*.tmp/"):
        shutil.rmtree(path, ignore_errors=True)


def is_path_of(path: Path, file: int) -> bool:
    """Return whether a path refers to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except OSError:
        return False


def is_locked(path: Path) -> bool:
    """Return whether a process of this machine holds the lock of a file. True if that cannot be determined."""
    require_posix()
    with _try_lock(path, fcntl.LOCK_SH) as is_free:
        return not is_free


def machine() -> str:
    """Return an identifier of this machine and, on Linux, of its current boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = f"{uuid.getnode():x}"
    return f"{socket.gethostname()} {boot}"


def _remove_unlocked(path: Path) -> None:
    """Remove a file unless a process of this machine holds its lock. The lock is held during the removal."""
    require_posix()
    with _try_lock(path, fcntl.LOCK_EX) as is_free:
        if is_free:
            path.unlink(missing_ok=True)


@contextmanager
def _try_lock(path: Path, mode: int) -> Iterator[bool]:
    """Yield whether the lock of a file was acquired, and hold it meanwhile. True if the file does not exist."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    try:
        yield _lock(file, mode)
    finally:
        os.close(file)


def _lock(file: int, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except OSError:  # held by another process, or the file system has no locks
        return False
    return True


def _is_of_this_machine(path: Path) -> bool:
    return path.name.rpartition("-")[0].endswith(_machine_tag())


@cache
def _machine_tag() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def _file_system_time(folder: Path) -> float:
    """Return the current time of the clock that sets the modification times in a folder."""
    temporary, file = create_temporary_file(folder / "clock")
    try:
        return os.fstat(file).st_mtime
    finally:
        temporary.unlink(missing_ok=True)
        os.close(file)
