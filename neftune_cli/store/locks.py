"""Who on this machine still works on a file: a lock goes when its process dies, however it dies."""

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
