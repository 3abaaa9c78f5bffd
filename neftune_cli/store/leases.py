"""Leases on trials: only the process that holds the lease of a trial may write to it.

Leases are numbered files, and the highest number is valid. To take over a trial, a process creates the file with the
next number, which succeeds for exactly one of several processes. No process writes to the lease of another, so none can
undo what a later one did. A lease expires when its holder dies or sends no heartbeat for too long. On the same machine,
a file lock shows at once that the holder has died. The clock of the observer measures the time without a heartbeat.
"""

import os
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from neftune_cli.errors import LeaseLost
from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.store.files import link, pretty_json, read_record, sync_folder
from neftune_cli.store.temporary_files import create_temporary_file, is_locked, is_path_of, machine

HEARTBEATS_PER_LEASE = 6
"""Number of heartbeats that a holder sends in `lease_seconds`."""
LEASES = "lease-*.json"
"""Names of the lease files."""
OLD_LEASES = "claim-*.json"
"""Names of the lease files of earlier versions, which count as leftovers."""


class Lease(Record):
    """Content of a lease file."""

    schema_version: int = SCHEMA_VERSION
    host: str
    machine: str
    """Machine and boot, within which file locks show which processes are alive."""
    process: int
    lease_seconds: float
    """Time in seconds without a heartbeat after which the lease expires."""


class HeartbeatMonitor:
    """Observer of the heartbeats of leases, by the clock of this process."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    def is_expired(self, path: Path, seconds: float) -> bool:
        """Return whether a lease had no heartbeat for longer than `seconds`, or its file is missing.

        The time before the first call for a lease does not count.
        """
        try:
            seen = path.stat()
        except OSError as error:
            return isinstance(error, FileNotFoundError)
        key = (str(path), seen.st_ino)
        heartbeat, since = self._seen.get(key, (None, 0.0))
        if heartbeat != seen.st_mtime_ns:
            since = time.monotonic()
            self._seen[key] = (seen.st_mtime_ns, since)
        return time.monotonic() - since > seconds


class HeldLease:
    """A lease of this process, with a thread that sends heartbeats until it is released."""

    def __init__(self, path: Path, file: int, lease_seconds: float) -> None:
        self._path, self._file = path, file
        self._released = threading.Event()
        interval = lease_seconds / HEARTBEATS_PER_LEASE
        self._heartbeat = threading.Thread(target=self._send_heartbeats, args=(interval,), daemon=True)
        self._heartbeat.start()

    def check(self) -> None:
        """Check that the lease is still valid.

        Raises:
            LeaseLost: another process has taken over the trial, or the lease file was removed or replaced.
        """
        folder, newest = self._path.parent, _newest(self._path.parent)
        if newest is not None and _number(newest) > _number(self._path):
            raise LeaseLost(f"Another process has taken over {folder}, because the lease of this process expired.")
        if newest is None or not is_path_of(self._path, self._file):
            raise LeaseLost(f"The lease file {self._path} was removed or replaced while this process ran the trial.")

    def release(self) -> None:
        """Remove the lease file and those of earlier holders. Further calls do nothing."""
        if self._released.is_set():
            return
        self._released.set()
        self._heartbeat.join()
        try:
            self.check()
            for number, path in sorted(_numbered(self._path.parent)):  # the valid one last
                if number <= _number(self._path):
                    path.unlink(missing_ok=True)
        except LeaseLost:
            pass
        finally:
            os.close(self._file)

    def _send_heartbeats(self, interval: float) -> None:
        while not self._released.wait(interval):
            with suppress(OSError):
                os.utime(self._file)


def acquire_lease(folder: Path, *, lease_seconds: float, monitor: HeartbeatMonitor) -> HeldLease | None:
    """Return a lease on the folder of a trial, None while another process holds one."""
    newest = _newest(folder)
    if newest is not None and is_alive(newest, monitor):
        return None
    number = 1 + (_number(newest) if newest else 0)
    path = _path(folder, number)
    temporary, file = create_temporary_file(path)
    try:
        os.write(file, lease_text(lease_seconds).encode())
        os.fsync(file)
        sys.audit("neftune.lease-written", str(path))
        link(temporary, path)
    except BaseException as error:
        os.close(file)
        temporary.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            return None
        raise
    temporary.unlink(missing_ok=True)
    sync_folder(folder)
    sys.audit("neftune.lease-acquired", str(path))
    return HeldLease(path, file, lease_seconds)


def holder(folder: Path, monitor: HeartbeatMonitor) -> Lease | None:
    """Return the lease that a living process holds on the folder of a trial, None if there is none."""
    newest = _newest(folder)
    return read_record(newest, Lease) if newest and is_alive(newest, monitor) else None


def is_alive(path: Path, monitor: HeartbeatMonitor) -> bool:
    """Return whether the holder of a lease is alive.

    A lease with invalid content has no holder. If a lease cannot be opened, for example because of missing permissions
    or a network failure, its holder counts as alive.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    lease = read_record(path, Lease)
    if lease is None or (lease.machine == machine() and not is_locked(path)):
        return False
    return not monitor.is_expired(path, lease.lease_seconds)


def remove_old_leases(folder: Path) -> None:
    """Remove leases of older versions from the folder of a trial. Files that cannot be removed stay."""
    for path in folder.glob(OLD_LEASES):
        with suppress(OSError):
            path.unlink()


def lease_text(lease_seconds: float) -> str:
    """Return the content of a lease file of this process."""
    lease = Lease(host=socket.gethostname(), machine=machine(), process=os.getpid(), lease_seconds=lease_seconds)
    return pretty_json(lease.model_dump())


def _newest(folder: Path) -> Path | None:
    return max(_numbered(folder), default=(0, None))[1]


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    return [(_number(path), path) for path in folder.glob(LEASES) if _NAME.fullmatch(path.name)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"{_PREFIX}{number}{_SUFFIX}"


def _number(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))


_PREFIX, _SUFFIX = LEASES.split("*")
_NAME = re.compile(rf"{re.escape(_PREFIX)}\d+{re.escape(_SUFFIX)}")
